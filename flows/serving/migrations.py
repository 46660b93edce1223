"""Whether the tables in PostgreSQL are those that the installed Prefect works with."""

import asyncio
import logging
import re
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

from digits.errors import DigitsError
from flows.serving.installed_prefect import in_prefect
from flows.serving.processes import NEUTRAL_FOLDER
from flows.serving.service import PREFECT
from flows.serving.team import DATABASE_SETTING

T = TypeVar("T")

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2
REGISTER = "`digits register` of this version migrates it"


class NotYetError(Exception):
    """Something that passes by itself, and what is waited for."""


def wait_for(look: Callable[[], T]) -> T:
    """Return what `look` returns as soon as it no longer raises NotYetError.

    Each reason to wait is logged once.
    """
    reason = ""
    while True:
        try:
            return look()
        except NotYetError as error:
            if str(error) != reason:
                reason = str(error)
                logger.warning("Waiting: %s", reason)
        time.sleep(LOOK_SECONDS)


def check_migrated() -> None:
    """Raise NotYetError until the database is migrated to the installed version of Prefect.

    Raises DigitsError if it was migrated to another one.
    """
    found = revision()
    known, latest = installed_revisions()
    if found is None:
        raise NotYetError(f"Prefect's database is new; {REGISTER}")
    if found not in known:
        raise DigitsError(
            f"Prefect's database is of another version of Prefect (revision {found}, expected "
            f"{latest}); use the version of digits that was registered last"
        )
    if found != latest:
        raise NotYetError(f"Prefect's database is of an earlier version of Prefect; {REGISTER}")


def migrate() -> None:
    """Prepare the database, which must answer, for the installed Prefect. Raises DigitsError."""
    done = subprocess.run(
        [PREFECT, "server", "database", "upgrade", "-y"],
        cwd=NEUTRAL_FOLDER,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DigitsError(f"cannot migrate Prefect's database:\n{done.stdout}{done.stderr}")
    asyncio.run(_register_blocks())


async def _register_blocks() -> None:
    """Do what a server of Prefect's does at its start, and replicas must not do at once."""
    from prefect.server.database import provide_database_interface
    from prefect.server.models.block_registration import run_block_auto_registration

    database = provide_database_interface()
    async with await database.session() as session:
        await run_block_auto_registration(session=session)
    await (await database.engine()).dispose()


def revision() -> str | None:
    """Return the revision of the database, or None if it is new.

    Raises NotYetError if the database does not answer or refuses the password.
    """
    return asyncio.run(_revision())


async def _revision() -> str | None:
    from prefect.server.database import provide_database_interface
    from sqlalchemy import text
    from sqlalchemy.exc import ProgrammingError

    engine = await provide_database_interface().engine()
    try:
        async with engine.connect() as connection:
            rows = await connection.execute(text("SELECT version_num FROM alembic_version"))
            return rows.scalar()
    except ProgrammingError:  # no such table
        return None
    except Exception as error:  # whatever driver, network and server raise
        raise NotYetError(
            f"Prefect's database ({DATABASE_SETTING}) does not answer: "
            f"{str(error).partition(chr(10))[0] or type(error).__name__}"
        ) from error
    finally:
        await engine.dispose()


def installed_revisions() -> tuple[set[str], str]:
    """Return the revisions that the installed Prefect knows for PostgreSQL, and the last one."""
    folder = in_prefect("server", "database", "_migrations", "versions", "postgresql")
    sources = [source.read_text(encoding="utf-8") for source in folder.glob("*.py")]
    fields = [
        re.compile(rf'^{name} = "(\w+)"', re.MULTILINE) for name in ("revision", "down_revision")
    ]
    known, earlier = ({name for text in sources for name in one.findall(text)} for one in fields)
    (latest,) = known - earlier
    return known, latest
