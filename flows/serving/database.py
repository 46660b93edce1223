"""The database of Prefect's server: checked before the server starts, which only fails slowly.

It holds nothing but the dashboard's history. Models, decisions and data are elsewhere.
"""

import contextlib
import os
import re
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from digits.errors import DigitsError
from flows.serving.installed_prefect import in_prefect

SETTINGS = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
ADVICE = (
    "it holds only the dashboard's history, and models and decisions are safe: `digits up "
    "--new-database` moves it aside and starts a new one"
)


def check_database() -> None:
    """Raise DigitsError if Prefect's server cannot use its database file.

    Checks nothing if a setting names another database, or if there is no file yet.
    """
    path = database_path()
    if any(os.environ.get(name) for name in SETTINGS) or not path.exists():
        return
    if not path.is_file():
        raise DigitsError(f"{path} is not a file (expected Prefect's database); {ADVICE}")
    try:
        path.open("r+b").close()
    except OSError as error:
        raise DigitsError(
            f"{path} is not writable ({error.strerror}), but Prefect's server stores the "
            "dashboard's history there; fix the permissions, or choose another folder with "
            "DIGITS_ARTIFACTS_DIR"
        ) from error
    found = _revision(path)
    if found and found not in _known_revisions():
        raise DigitsError(f"{path} is of another version of Prefect (revision {found}); {ADVICE}")


def name_database() -> None:
    """Name the database's file to Prefect's server, before it is imported, unless a setting does.

    Prefect writes the path into a URL as it is: a `?` or `%41` in it would mean something else, and
    the database would be written elsewhere.
    """
    if not any(os.environ.get(name) for name in SETTINGS):
        os.environ[SETTINGS[0]] = f"sqlite+aiosqlite:///{quote(str(database_path()))}"


def move_database_aside() -> Path | None:
    """Rename the database and its journals; return the new path, or None if there was none."""
    path = database_path()
    if not path.exists():
        return None
    aside = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def database_path() -> Path:
    """Return where Prefect's server has its database, unless a setting says otherwise."""
    return Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser() / "prefect.db"


def _revision(path: Path) -> str | None:
    """Return the revision of a database, or None if it is empty. Raises DigitsError."""
    with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as there:
        try:
            tables = {name for (name,) in there.execute("SELECT name FROM sqlite_master")}
            if "alembic_version" in tables:
                return str(there.execute("SELECT version_num FROM alembic_version").fetchone()[0])
        except sqlite3.OperationalError:
            return None  # another server is writing to it
        except (sqlite3.DatabaseError, TypeError) as error:
            raise DigitsError(
                f"{path} is not a database of Prefect's ({error}); {ADVICE}"
            ) from error
    if tables:
        raise DigitsError(f"{path} is the database of another program; {ADVICE}")
    return None


def _known_revisions() -> set[str]:
    """Return the revisions that the installed Prefect can start from."""
    folder = in_prefect("server", "database", "_migrations", "versions", "sqlite")
    texts = (source.read_text(encoding="utf-8") for source in folder.glob("*.py"))
    return {
        name for text in texts for name in re.findall(r'^revision = "(\w+)"', text, re.MULTILINE)
    }
