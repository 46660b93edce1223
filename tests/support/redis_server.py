"""A real Redis server on a free port of the loopback address, without anything on disk."""

import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

IS_INSTALLED = shutil.which("redis-server") is not None


@dataclass
class RedisServer:
    """A server that can be stopped and started again at the same address."""

    folder: Path
    password: str
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @classmethod
    def started(cls, folder: Path, password: str = "hunter2") -> Self:
        """Start a server that asks for a password."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            server = cls(folder, password, free.getsockname()[1])
        server.start()
        return server

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def client(self) -> "Redis":
        return Redis.from_url(self.url)

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.process = subprocess.Popen(
            [
                *("redis-server", "--bind", "127.0.0.1", "--port", str(self.port)),
                *("--requirepass", self.password, "--save", "", "--appendonly", "no"),
            ],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )
        while True:
            try:
                with self.client as client:
                    client.ping()
                return
            except RedisError:
                assert self.process.poll() is None
                time.sleep(0.02)

    def stop(self) -> None:
        """Kill the server; all leases are lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
