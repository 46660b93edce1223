"""Transactions of Prefect's server on SQLite while others write."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.exc import OperationalError

from flows.serving.sqlite import Sqlite

READ, WRITE = sa.text("SELECT count(*) FROM rows"), sa.text("INSERT INTO rows VALUES (1)")
SERVED_BY = """
import sys
from flows.serving import web
from prefect.server.database.dependencies import provide_database_interface
getattr(web, sys.argv[1])()
print(type(provide_database_interface().database_config).__name__)
"""


async def read_while_another_writes(config: AioSqliteConfiguration) -> int:
    """Read, let another transaction write, and write; returns the number of rows at the end."""
    engine = await config.engine()
    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE rows (number INTEGER)"))

    async def write() -> None:
        async with await config.session(engine) as other, config.begin_transaction(other):
            await other.execute(WRITE)

    async with await config.session(engine) as session:
        async with config.begin_transaction(session):
            await session.execute(READ)
            writing = asyncio.create_task(write())
            await asyncio.wait([writing], timeout=1)
            await session.execute(WRITE)
        await writing
        found = (await session.execute(READ)).scalar_one()
    await engine.dispose()
    return int(found)


def test_a_transaction_waits_for_another_one_instead_of_failing(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/prefect.db"
    assert asyncio.run(read_while_another_writes(Sqlite(connection_url=url))) == 2


def test_prefects_own_transaction_fails(tmp_path: Path) -> None:
    # If this one does not, flows.serving.sqlite is no longer needed.
    url = f"sqlite+aiosqlite:///{tmp_path}/prefect.db"
    with pytest.raises(OperationalError, match="database is locked"):
        asyncio.run(read_while_another_writes(AioSqliteConfiguration(connection_url=url)))


@pytest.mark.parametrize("server", ["dashboard", "run_server"])
def test_our_servers_wait(server: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVED_BY, server],
        env={"PREFECT_HOME": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[-1:] == ["Sqlite"], done.stderr
