"""An editable copy of the project with its own run-time folders."""

import compileall
import itertools
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digits.settings import Settings
from tests.faults.commands import (
    CHECKOUT,
    Command,
    Ended,
    Prelude,
    start_forked,
    start_fresh,
)
from tests.support.prefect_server import is_ours
from tests.support.small_dataset import NAME

SOURCES = ("digits", "tasks", "flows", "data/datasets")
DATASET = ("--dataset", NAME)


_numbers = itertools.count()


@dataclass(frozen=True)
class Copy:
    """A copy of the sources in `root`, with `data` and `artifacts` in `folder`."""

    root: Path
    folder: Path
    environment: Mapping[str, str]
    options: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        return Settings(data_dir=self.folder / "data", artifacts_dir=self.folder / "artifacts")

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace the only occurrence of `old` in a source file."""
        file = self.root / path
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times"
        file.write_text(text.replace(old, new), encoding="utf-8")

    def append(self, path: str, text: str) -> None:
        """Append text to a source file."""
        with (self.root / path).open("a", encoding="utf-8") as file:
            file.write(text)

    def from_nothing(self, folder: Path) -> "Copy":
        """Return a copy with the same sources and data, before any run."""
        kept = ("raw", "datasets")
        for name in kept:
            shutil.copytree(self.folder / "data" / name, folder / "data" / name)
        return Copy(self.root, folder, self.environment, self.options)

    def duplicate(self, folder: Path, work: Path | None = None) -> "Copy":
        """Return a copy with all results, which are stored in `work` if given."""
        work = work or folder / "work"
        shutil.copytree(self.root, folder / "project")
        shutil.copytree(self.folder, work)
        return Copy(folder / "project", work, self.environment, self.options)

    def start(
        self, command: str, *options: str, prelude: Prelude | None = None, is_fresh: bool = False
    ) -> Command:
        """Start a `digits` command; a fresh one has its own interpreter and server."""
        arguments = (command, *self._options(command), *options)
        # Outside the run-time folders, whose disk may be full.
        streams = self.root.with_name(f"{command}-{next(_numbers)}")
        environment = {
            **{name: value for name, value in os.environ.items() if not is_ours(name)},
            **self.environment,
            "DIGITS_DATA_DIR": str(self.settings.data_dir),
            "DIGITS_ARTIFACTS_DIR": str(self.settings.artifacts_dir),
            "PYTHONPATH": str(self.root),
        }
        if is_fresh:
            del environment["PREFECT_API_URL"], environment["PREFECT_HOME"]
            return start_fresh(self.root, arguments, environment, streams)
        return start_forked(self.root, arguments, environment, streams, prelude)

    def call(
        self, command: str, *options: str, prelude: Prelude | None = None, is_fresh: bool = False
    ) -> Ended:
        """Run a `digits` command and return its result."""
        return self.start(command, *options, prelude=prelude, is_fresh=is_fresh).wait()

    def run(self, *options: str, **how: Any) -> "Run":
        """Execute `digits run`, which must succeed."""
        return Run.of(self.call("run", *options, "--json", **how))

    def plan(self, *options: str, **how: Any) -> dict[str, str]:
        """Return what each step would do according to `digits plan`."""
        ended = self.call("plan", *options, "--json", **how)
        assert ended.status == 0, ended.log
        return {step["step"]: step["would"] for step in json.loads(ended.output)}

    def _options(self, command: str) -> tuple[str, ...]:
        if command in ("gc", "dataset", "sweep"):
            return ()
        return (*DATASET, *self.options) if command in ("run", "plan") else DATASET


@dataclass(frozen=True)
class Run:
    """A successful run: its steps, the executed ones, its decision, and its log."""

    executed: frozenset[str]
    steps: frozenset[str]
    outcome: str
    champion: int | None
    log: str
    models: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, ended: Ended) -> "Run":
        assert ended.status == 0, ended.log
        facts = json.loads(ended.output)
        return cls(
            executed=frozenset(s for s, how in facts["steps"].items() if how == "executed"),
            steps=frozenset(facts["steps"]),
            outcome=facts["decision"]["outcome"],
            champion=facts["decision"]["champion_after"],
            log=ended.log,
            models={model["model"]: model["digest"] for model in facts["models"]},
        )


def copy_project(folder: Path, environment: Mapping[str, str], options: tuple[str, ...]) -> Copy:
    """Copy the checkout's sources, and create an empty folder for run-time files."""
    for name in SOURCES:
        shutil.copytree(CHECKOUT / name, folder / "project" / name)
    # Once for all duplicates of this copy.
    compileall.compile_dir(folder / "project", quiet=1)
    (folder / "work").mkdir()
    return Copy(folder / "project", folder / "work", environment, options)
