"""Where the installed Prefect has its files, found without importing it, which takes a second."""

import atexit
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

DASHBOARD_SETTINGS = ("PREFECT_SERVER_UI_STATIC_DIRECTORY", "PREFECT_UI_STATIC_DIRECTORY")


def in_prefect(*path: str) -> Path:
    """Return the path of a file of Prefect's package."""
    specification = importlib.util.find_spec("prefect")
    folders = specification.submodule_search_locations if specification else None
    return Path(*(folders or [])[:1], *path)


def provide_dashboard_folder() -> None:
    """Name a folder where Prefect can unpack its dashboard, before it is imported.

    It does so beside its own files, which belong to another user in an image. A folder in the
    workspace could contain something else already, which would run in the operator's browser.
    """
    is_named = any(os.environ.get(name) for name in DASHBOARD_SETTINGS)
    if is_named or os.access(in_prefect("server"), os.W_OK):
        return
    folder = tempfile.mkdtemp(prefix="dashboard-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[DASHBOARD_SETTINGS[0]] = folder
