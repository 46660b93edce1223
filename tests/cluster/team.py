"""Machines of a team: each runs `digits` in its own home, on one store and one Prefect server."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from digits.settings import Settings
from tests.faults.commands import CHECKOUT, Command, Ended, start_forked
from tests.faults.project import Run
from tests.support.machines import Machine
from tests.support.prefect_server import is_ours
from tests.support.small_dataset import NAME, write_small_dataset

RUN = ("run", "--dataset", NAME, "--models", "mlp", "--epochs", "1", "--json")

_numbers = itertools.count()


class Worker:
    """A process of tests.cluster.work, and the lines that it has said."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.said: list[str] = []

    def go_on(self) -> None:
        """Let the process begin what it waits with, or end if it repeats something."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """Return the next line that the process says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, self._process.communicate()[1]
        self.said.append(line)
        return line

    def wait(self) -> None:
        """Wait until the process ends, which must succeed."""
        _, errors = self._process.communicate()
        assert self._process.returncode == 0, errors

    def freeze(self) -> None:
        """Stop the process, for good. It must be running."""
        assert self._process.poll() is None, self._process.communicate()[1]
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> list[str]:
        """Kill the process with SIGKILL, if it runs; return all that it has said."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                assert stream is not None
                if stream is self._process.stdout:
                    self.said += stream.read().splitlines()
                stream.close()
        return self.said


@dataclass(frozen=True)
class Member:
    """A machine with the small dataset's files, and what its commands have in their environment."""

    machine: Machine
    folder: Path
    environment: Mapping[str, str]
    workers: list[Worker] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """The machine's settings."""
        return Settings(
            data_dir=self.folder / "data",
            artifacts_dir=self.folder / "artifacts",
            cache_dir=self.folder / "cache",
            store=self.environment["DIGITS_STORE"],
        )

    @property
    def prefix(self) -> str:
        """The part of the bucket that the team uses."""
        return self.environment["DIGITS_STORE"].rpartition("/")[2]

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the machine's commands, without what the test's process has."""
        others = {name: value for name, value in os.environ.items() if not is_ours(name)}
        here = {"DIGITS_HOME": str(self.folder), "HOME": str(self.folder)}
        return {**others, **self.environment, **here, "PYTHONPATH": str(CHECKOUT)}

    def start(self, *arguments: str, **environment: str) -> Command:
        """Start a `digits` command on the machine."""
        streams = self.folder.with_name(f"{self.folder.name}-{next(_numbers)}")
        variables = {**self.variables, **environment}
        return start_forked(CHECKOUT, arguments, variables, streams, self.machine.entrance)

    def work(self, *arguments: object) -> "Worker":
        """Start a process of tests.cluster.work on the machine."""
        command = (sys.executable, "-m", "tests.cluster.work", *arguments)
        worker = Worker(self.machine.start(*command, **self.variables))
        self.workers.append(worker)
        return worker

    def end(self) -> None:
        """Kill the machine's workers that still run."""
        for worker in self.workers:
            worker.kill()

    def call(self, *arguments: str, **environment: str) -> Ended:
        """Run a `digits` command and return its result."""
        return self.start(*arguments, **environment).wait()

    def run(self, *options: str, **environment: str) -> Run:
        """Execute `digits run`, which must succeed."""
        return Run.of(self.call(*RUN, *options, **environment))


def join(machine: Machine, folder: Path, environment: Mapping[str, str]) -> Member:
    """Give a machine a home below `folder` with the dataset's files, and nothing else."""
    member = Member(machine, folder / machine.name, environment)
    write_small_dataset(member.settings)
    return member
