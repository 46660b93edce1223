"""What runs made and MLflow does not have yet: one file per run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from digits.settings import Settings
from digits.storage.files import read_file, write_whole
from digits.storage.references import EvaluationRef, Frozen, ModelRef, ReportRef


class MadeByRun(Frozen):
    """What a run made. `line` is the number of its decision's line in the ledger."""

    run: str
    line: int
    scored: tuple[tuple[ModelRef, EvaluationRef], ...]
    report: ReportRef


class Unpublished:
    """The notes about one dataset's runs, under `artifacts/unpublished`."""

    def __init__(self, dataset: str, settings: Settings) -> None:
        self.folder = settings.artifacts_dir / "unpublished" / dataset

    def add(self, made: MadeByRun) -> None:
        """Note what a run made; a run that made the same again adds nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / f"{made.report.digest}.json", made.model_dump_json().encode())

    def all(self) -> Iterator[tuple[Path, MadeByRun]]:
        """Yield every note and its file, in the order of the decisions; delete unreadable ones."""
        found = []
        for path in self.folder.glob("[0-9a-f]*.json"):
            try:
                found.append((path, MadeByRun.model_validate_json(read_file(path))))
            except (OSError, ValidationError):
                with contextlib.suppress(OSError):
                    path.unlink()
        yield from sorted(found, key=lambda pair: pair[1].line)
