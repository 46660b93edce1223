"""Real PostgreSQL and Redis servers with data of their own, to be stopped and started again.

Debian's packages `postgresql` and `redis-server` provide them; tests are skipped without them.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import pytest

# Seconds to wait for a server's start, on two busy cores.
PATIENCE = 60
LOOPBACK = "127.0.0.1"
# PostgreSQL refuses to run as root.
UNPRIVILEGED = "postgres"


def free_port(host: str = LOOPBACK) -> int:
    """Return a port that is free now."""
    with socket.create_server((host, 0)) as free:
        return int(free.getsockname()[1])


class Engine:
    """A server process with a folder of its own, at a host and port that stay the same."""

    def __init__(self, name: str, host: str, port: int | None, user: dict[str, Any]) -> None:
        self.host = host
        self.port = port or free_port(host)
        # Not below pytest's folders, which other users may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        if user:
            shutil.chown(self.folder, user["user"], user["group"])
        self.log = self.folder / "log"
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        deadline = time.monotonic() + PATIENCE
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self.folder, **self._user
            )
        while not self.is_ready():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"not up in {PATIENCE} s: {self.log.read_text()}"
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send a signal to the server and wait for its end."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(PATIENCE)
        self._process = None

    def stop(self) -> None:
        """Stop the server as an operator does, connections or not."""
        self.signal(signal.SIGINT)

    def end(self) -> None:
        """Stop the server, if it runs, and delete its data."""
        if self._process is not None:
            self.crash()
        shutil.rmtree(self.folder)

    def crash(self) -> None:
        """End the server at once, as by a crash."""
        self.signal(signal.SIGKILL)

    def command(self) -> list[str]:
        """Return the server's command."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Return whether the server answers."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Start the server for a block."""
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server and delete its data."""
        self.end()


class PostgreSQL(Engine):
    """A PostgreSQL server with the database and user `prefect`, without passwords."""

    def __init__(self, host: str = LOOPBACK, port: int | None = None) -> None:
        _program("postgres")
        is_root = os.getuid() == 0
        user = {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []} if is_root else {}
        super().__init__("postgresql", host, port, user)
        self.url = f"postgresql+asyncpg://prefect@{self.host}:{self.port}/prefect"
        self._data = self.folder / "data"

    def start(self) -> None:
        """Start the server and wait until it answers; the first start creates the database."""
        if not self._data.exists():
            self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "prefect", "--no-sync")
            # Any machine of a test may connect, such as one in a network namespace.
            with (self._data / "pg_hba.conf").open("a") as access:
                access.write("host all all all trust\n")
        super().start()
        if "prefect" not in self.query("SELECT datname FROM pg_database", "postgres"):
            self.query("CREATE DATABASE prefect", "postgres")

    def crash(self) -> None:
        """End the server at once, without writing what it had in memory."""
        # After a kill of the first process alone, the others would keep their memory for a while.
        self.signal(signal.SIGQUIT)

    def query(self, statement: str, database: str = "prefect") -> list[str]:
        """Return the lines that a statement gives, columns separated by `|`."""
        where = ("-h", self.host, "-p", str(self.port), "-U", "prefect", "-d", database)
        return self._run("psql", *where, "-Atc", statement).splitlines()

    def command(self) -> list[str]:
        """Return the server's command."""
        # Without flushes, a crash of the server still loses nothing; one of the machine would.
        settings = ("fsync=off", "max_connections=300", "unix_socket_directories=")
        where = ("-h", self.host, "-p", str(self.port))
        options = [part for setting in settings for part in ("-c", setting)]
        return [_program("postgres"), "-D", str(self._data), *where, *options]

    def is_ready(self) -> bool:
        """Return whether the server answers."""
        where = ("-h", self.host, "-p", str(self.port), "-d", "postgres", "-U", "prefect")
        return subprocess.run([_program("pg_isready"), "-q", *where]).returncode == 0

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [_program(program), *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            **self._user,
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)


class Redis(Engine):
    """A Redis server; it keeps its data over a stop and a crash if `is_persistent`."""

    def __init__(
        self, host: str = LOOPBACK, port: int | None = None, *, is_persistent: bool = True
    ) -> None:
        _program("redis-server")
        super().__init__("redis", host, port, {})
        self.url = f"redis://{self.host}:{self.port}/0"
        self._is_persistent = is_persistent

    def command(self) -> list[str]:
        """Return the server's command."""
        where = ("--bind", self.host, "--port", str(self.port), "--dir", str(self.folder))
        persistence = "yes" if self._is_persistent else "no"
        return [
            *(_program("redis-server"), *where),
            *("--save", "", "--appendonly", persistence, "--protected-mode", "no"),
        ]

    def is_ready(self) -> bool:
        """Return whether the server answers."""
        return self.ask("PING") == "PONG"

    def ask(self, *command: str) -> str:
        """Return the answer to a command, as text; nothing if the server is not there."""
        where = ("-h", self.host, "-p", str(self.port))
        done = subprocess.run(
            [_program("redis-cli"), *where, *command], capture_output=True, text=True
        )
        return done.stdout.strip()


def _program(name: str) -> str:
    """Return the path of an installed program; skip the test if there is none."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = str(versions[-1]) if versions else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: postgresql, redis-server)")
    return found
