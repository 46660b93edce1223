"""Where the installed Prefect has its files, found without importing it, which takes a second."""

import importlib.util
from pathlib import Path


def in_prefect(*path: str) -> Path:
    """Return the path of a file of Prefect's package."""
    specification = importlib.util.find_spec("prefect")
    folders = specification.submodule_search_locations if specification else None
    return Path(*(folders or [])[:1], *path)
