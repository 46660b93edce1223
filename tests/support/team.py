"""A team's service: PostgreSQL, Redis, two replicas, the background services and two workers.

Each process has a home of its own, as on a machine of its own.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from digits.settings import ROOT, Settings
from tests.support.engines import PostgreSQL, Redis, free_port
from tests.support.small_dataset import write_small_dataset
from tests.support.waiting import PATIENCE, wait_for

DIGITS = Path(sys.executable).with_name("digits")
PASSWORD = "operator:secret"
ENDS = {"Completed", "Failed", "Crashed", "Cancelled"}
RUN = b"flows.serving.execution"
# As in a shell's background jobs, which ignore SIGINT and pass that on.
BACKGROUND = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")


class Team:
    """The processes by name: replica-1, replica-2, services, machine-a and machine-b."""

    def __init__(self, folder: Path, database: PostgreSQL, redis: Redis) -> None:
        self.database, self.redis = database, redis
        self.ports = {"replica-1": free_port(), "replica-2": free_port()}
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._http = httpx.Client(auth=httpx.BasicAuth(*PASSWORD.split(":")), timeout=60)
        for machine in ("machine-a", "machine-b"):
            write_small_dataset(self.settings(machine))

    def up(self) -> None:
        """Start everything and wait until both workers work."""
        for name in ("replica-1", "replica-2", "services", "machine-a", "machine-b"):
            self.start(name)
        done = self.run("machine-a", "register")
        assert done.returncode == 0, done.stderr
        wait_for(self.workers_are_online, "the workers")

    def start(self, name: str) -> None:
        """Start a process, whose log is NAME.log."""
        log = (self._folder / f"{name}.log").open("ab")
        with log:
            self._processes[name] = subprocess.Popen(
                [*self.inside(name), *BACKGROUND, DIGITS, *self._command(name)],
                env=self.environment(name),
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def inside(self, name: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return the beginning of a command that starts a process on its machine."""
        return ()

    def address(self, name: str) -> str:  # noqa: ARG002
        """Return the address of the machine of a process."""
        return "127.0.0.1"

    def kill(self, name: str) -> None:
        """Kill a process, but not what it started."""
        self._processes[name].kill()
        self._processes[name].wait()

    def stop(self, name: str) -> int:
        """Stop a process as an operator does, and return its exit code."""
        self._processes[name].terminate()
        return self._processes[name].wait(60)

    def lose(self, machine: str) -> None:
        """Kill a worker and its runs, as if their machine had been switched off."""
        self.kill(machine)
        for run in self.runs_on(machine):
            os.kill(run, signal.SIGKILL)

    def runs_on(self, machine: str) -> list[int]:
        """Return the processes of a machine's runs."""
        home = f"DIGITS_HOME={self._home(machine)}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().split(b"\0")
                variables = (process / "environ").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            if RUN in command and home in variables:
                found.append(int(process.name))
        return found

    def said(self, name: str) -> str:
        """Return the log of a process."""
        return (self._folder / f"{name}.log").read_text()

    def run(self, name: str, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run another command in the environment of a process."""
        return subprocess.run(
            [DIGITS, *command],
            env=self.environment("replica-1", home=name),
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def end(self) -> None:
        """Stop all processes, whatever their state."""
        for name, process in self._processes.items():
            process.kill()
            process.wait()
            for run in self.runs_on(name):
                os.kill(run, signal.SIGKILL)
        self._http.close()

    def settings(self, machine: str) -> Settings:
        """Return the settings of a machine's workspace."""
        home = self._home(machine)
        return Settings(data_dir=home / "data", artifacts_dir=home / "artifacts")

    def environment(self, name: str, home: str = "") -> dict[str, str]:
        """Return the environment of a process."""
        replica = "replica-2" if name == "machine-b" else "replica-1"
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
            "DIGITS_HOME": str(self._home(home or name)),
            "DIGITS_REDIS_URL": self.redis.url,
            "DIGITS_STORE": f"file://{self._folder}/store",
            "PREFECT_API_URL": f"{self._url(replica)}/api",
            "PREFECT_API_AUTH_STRING": PASSWORD,
            # Poll for work more often than an operator would.
            "PREFECT_WORKER_QUERY_SECONDS": "3",
        }
        if not name.startswith("machine"):
            variables["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = self.database.url
            variables["PREFECT_SERVER_API_AUTH_STRING"] = PASSWORD
        return variables

    def _url(self, replica: str) -> str:
        return f"http://{self.address(replica)}:{self.ports[replica]}"

    def _home(self, name: str) -> Path:
        return self._folder / name

    def _command(self, name: str) -> list[str]:
        if name in self.ports:
            return ["server", "--host", "0.0.0.0", "--port", str(self.ports[name])]
        return ["services"] if name == "services" else ["worker", "--name", name]

    def request(
        self, method: str, path: str, body: Any = None, replica: str = "replica-1"
    ) -> httpx.Response:
        """Ask a replica once."""
        return self._http.request(method, f"{self._url(replica)}/api/{path}", json=body)

    def ask(self, method: str, path: str, body: Any = None, replica: str = "replica-1") -> Any:
        """Return a replica's answer, as soon as it gives one."""

        def answer() -> httpx.Response | None:
            try:
                found = self.request(method, path, body, replica)
            except httpx.TransportError:
                return None
            return found if found.status_code != 503 else None

        found = wait_for(answer, f"an answer of {replica}")
        found.raise_for_status()
        return found.json() if found.content else None

    def start_run(self, name: str, replica: str = "replica-1", **parameters: Any) -> str:
        """Start a run of a deployment and return its id."""
        deployment = self.ask("GET", f"deployments/name/{name}/{name}", None, replica)["id"]
        path = f"deployments/{deployment}/create_flow_run"
        return str(self.ask("POST", path, {"parameters": parameters}, replica)["id"])

    def flow_run(self, run: str, replica: str = "replica-1") -> Any:
        """Return a run from a replica."""
        return self.ask("GET", f"flow_runs/{run}", None, replica)

    def reaches(self, run: str, *states: str, replica: str = "replica-1") -> str:
        """Wait until a run is in one of some states, and return the state."""

        def state() -> str | None:
            found = str(self.flow_run(run, replica)["state_name"])
            return found if found in states else None

        try:
            return str(wait_for(state, f"{run} to be one of {states}"))
        except AssertionError as error:
            for name in self._processes:
                error.add_note(f"The end of {name}'s log:\n{self.said(name)[-2000:]}")
            raise

    def finished(self, run: str, replica: str = "replica-1") -> str:
        """Wait for a run's end and return its final state."""
        return self.reaches(run, *ENDS, replica=replica)

    def ledger(self) -> str:
        """Return all lines of the champion's ledger in the store."""
        return "".join(
            path.read_text() for path in (self._folder / "store").glob("ledger/*/*.json")
        )

    def workers_are_online(self) -> bool:
        """Return whether both workers have reported to the server."""
        found = self.ask("POST", "work_pools/digits/workers/filter", {})
        return {one["name"] for one in found if one["status"] == "ONLINE"} == {
            "machine-a",
            "machine-b",
        }
