"""Prefect's database in a file of SQLite, without errors while someone else writes to it.

A transaction that begins by reading cannot go on to write if another one has written meanwhile:
SQLite refuses it at once, however long it may wait. Prefect's server then answers 503; its clients
ask again two seconds later, the dashboard shows an error, and a background service loses what it
was about to store.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import set_database_config
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

DRIVER = "sqlite+aiosqlite:"


class Sqlite(AioSqliteConfiguration):
    """Takes the lock for writing when a transaction begins, and so waits for it."""

    @asynccontextmanager
    async def begin_transaction(
        self,
        session: AsyncSession,
        with_for_update: bool = False,  # noqa: ARG002
    ) -> AsyncIterator[AsyncSessionTransaction]:
        """Begin a transaction that lasts as long as the block."""
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


def wait_for_writers() -> None:
    """Let Prefect's server of this process use its database in this way, if it is SQLite's."""
    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    if url.startswith(DRIVER):
        set_database_config(Sqlite(connection_url=url))
