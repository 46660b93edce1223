"""compose.yaml without containers: its processes, with its commands and its variables.

They share the loopback address instead of a network of containers, so that each gets ports of its
own, and the names of services become addresses.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from digits.settings import ROOT, Settings
from tests.support.engines import PostgreSQL, Redis, free_port
from tests.support.manifests import VARIABLE, own_services
from tests.support.object_store import KEY_ID, SECRET, ObjectStore
from tests.support.small_dataset import write_small_dataset

DIGITS = str(Path(sys.executable).with_name("digits"))
# What an operator writes into .env.
VALUES = {
    "AUTH_STRING": "operator:made-up-password",
    "API_KEY": "made-up-key",
    "POSTGRES_PASSWORD": "unused",
    "REDIS_PASSWORD": "unused",
    "STORE_ACCESS_KEY": KEY_ID,
    "STORE_SECRET_KEY": SECRET,
}
NUM_SERVERS = 2


class Composed:
    """The processes that run our image, and the proxy in front of them."""

    def __init__(self, folder: Path, database: PostgreSQL, redis: Redis, store: ObjectStore):
        self._folder = folder
        self._engines = {"postgresql": database.url, "redis": redis.url}
        self._store = store.address
        self._servers = [free_port() for _ in range(NUM_SERVERS)]
        self._models, self.port, self.models_port = (free_port() for _ in range(3))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start everything at once, in no order."""
        for number, port in enumerate(self._servers):
            self._start(f"server-{number}", "server", "--port", str(port))
        self._start("model-server", "model-server", "--port", str(self._models))
        for name in ("worker", "services", "register"):
            self._start(name, name)
        self._start_proxy()

    def end(self) -> None:
        """Stop everything that runs; processes that do not stop are killed."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, name: str) -> str:
        """Return what a process has written."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def _start(self, name: str, service: str, *options: str) -> None:
        described = own_services()[service]
        settings = Settings(data_dir=self._folder / name / "data")
        write_small_dataset(settings)
        environment = {
            **{key: self._value(value) for key, value in described["environment"].items()},
            "DIGITS_HOME": str(self._folder / name),
            "PATH": os.environ["PATH"],
            # Poll for work more often than an operator would.
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        self._run(name, [DIGITS, *described["command"], *options], environment)

    def _start_proxy(self) -> None:
        caddy = shutil.which("caddy")
        if caddy is None:
            pytest.skip("caddy is not installed (Debian: caddy)")
        text = (ROOT / "deploy" / "Caddyfile").read_text(encoding="utf-8")
        servers = " ".join(f"127.0.0.1:{port}" for port in self._servers)
        # Only the names of the network of containers are replaced, and the ports.
        for there, here in (
            (r"dynamic a \{[^}]*\}", f"to {servers}"),
            ("model-server:8000", f"127.0.0.1:{self._models}"),
            ("8443", str(self.port)),
            ("8444", str(self.models_port)),
        ):
            text, found = re.subn(there, here, text)
            assert found
        configuration = self._folder / "Caddyfile"
        configuration.write_text(text, encoding="utf-8")
        home = str(self._folder / "caddy")
        environment = {"PUBLIC_HOST": "localhost", "HOME": home, "XDG_DATA_HOME": home}
        self._run("proxy", [caddy, "run", "--config", str(configuration)], environment)

    def _run(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _value(self, written: str) -> str:
        value = VARIABLE.sub(lambda one: VALUES[one[1]] if one[2] == "?" else one[3], written)
        value = self._engines.get(re.split(r"[+:]", value)[0], value)
        value = value.replace("http://server:4200", f"http://127.0.0.1:{self._servers[0]}")
        return value.replace("http://store:8333", self._store)
