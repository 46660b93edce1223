"""The processes of a team's service: `digits server`, `services`, `register` and `worker`.

Each may run on a machine of its own; `digits up` runs what one machine needs.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import click

from digits.settings import Settings
from flows import console
from flows.environment import prepare_folders
from flows.serving.pools import POOL, POOLS
from flows.serving.processes import NEUTRAL_FOLDER


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=4200,
    show_default=True,
    help="Port; 0: any free one.",
)
def server(host: str, port: int) -> None:
    """Serve a replica of the API and dashboard, on PostgreSQL and Redis.

    Replicas run no background services; `digits services` does. On another host than the loopback
    address, PREFECT_SERVER_API_AUTH_STRING must be set. `docs/scale.md` describes the settings.
    """
    with _in_neutral_folder() as settings:
        from flows.serving.replica import serve_replica

        serve_replica(settings, host, port)


@click.command()
def services() -> None:
    """Run the background services of `digits server`: schedules, events, lost runs."""
    settings = Settings()
    home = Path(os.environ["PREFECT_HOME"])
    if home == settings.artifacts_dir / "prefect":  # a replica may use it, too
        os.environ["PREFECT_HOME"] = str(home.with_name("prefect-services"))
    with _in_neutral_folder() as settings:
        from flows.serving.replica import run_services

        run_services(settings)


@click.command()
def register() -> None:
    """Register work pools, deployments and automations at PREFECT_API_URL.

    Migrates the database first if PREFECT_SERVER_DATABASE_CONNECTION_URL is set. Call it once after
    each change of the code.
    """
    console.show_logs()
    with _in_neutral_folder():
        from flows.serving.replica import register_all

        register_all()


@click.command()
@click.option(
    "--pool",
    type=click.Choice(POOLS),
    default=POOL,
    show_default=True,
    help="Work pool whose runs are executed: digits-gpu is for machines with a GPU.",
)
@click.option("--name", help="Name, unique within the pool  [default: this machine's name]")
def worker(pool: str, name: str | None) -> None:
    """Execute runs of the server at PREFECT_API_URL on this machine.

    Runs of deployments that were registered from other code are left to other workers.
    """
    with _in_neutral_folder() as settings:
        from flows.serving.replica import work

        work(settings, pool, socket.gethostname() if name is None else name)


@contextlib.contextmanager
def _in_neutral_folder() -> Iterator[Settings]:
    """Prepare what each process needs, and run it where no configuration file of Prefect lies."""
    settings = Settings()
    prepare_folders(settings)
    with contextlib.chdir(NEUTRAL_FOLDER):
        yield settings
