"""Machines of a team: each runs `digits` in its own home, on one store and one Prefect server."""

import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from digits.settings import Settings
from tests.faults.commands import CHECKOUT, Command, Ended, start_forked
from tests.faults.project import Run
from tests.support.machines import Machine
from tests.support.prefect_server import is_ours
from tests.support.small_dataset import NAME, write_small_dataset

RUN = ("run", "--dataset", NAME, "--models", "mlp", "--epochs", "1", "--json")

_numbers = itertools.count()


@dataclass(frozen=True)
class Member:
    """A machine with the small dataset's files, and what its commands have in their environment."""

    machine: Machine
    folder: Path
    environment: Mapping[str, str]

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

    def work(self, *arguments: object) -> "subprocess.Popen[str]":
        """Start a process of tests.cluster.work on the machine."""
        command = (sys.executable, "-m", "tests.cluster.work", *arguments)
        return self.machine.start(*command, **self.variables)

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
