"""Measures the bounds of a dataset's spec anew, after the spec was corrected by hand."""

import contextlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digits.datasets.images import Images
from digits.datasets.sources.content import content_of, opened
from digits.errors import UsageError
from digits.intake.proposals.assumptions import remarks
from digits.intake.proposals.measured_bounds import Value
from digits.intake.proposals.measuring import measure_files
from digits.intake.proposals.spec_text import MEASURED, measured_lines, read_measured
from digits.settings import Settings
from digits.spec import DatasetSpec, load_spec, spec_path
from digits.storage.files import write_whole
from digits.thresholds import CentroidFile
from digits.validation.centroids import freeze_centroids
from digits.validation.trials import Center

TABLE = re.compile(r"\s*\[+([\w.-]+)\]+\s*(#.*)?")
ASSIGNMENT = re.compile(r"(?P<start>\s*(?P<key>[\w-]+)\s*=\s*)(?P<value>[^\s#]+)(?P<rest>.*)")


Change = tuple[Value | str | None, Value | str | None]
"""The old and the new value of a key; None if it is not set."""


@dataclass(frozen=True)
class Remeasured:
    """What measuring anew changed in a spec, by key.

    `kept` are the keys of measured values that were changed by hand.
    """

    path: Path
    changes: Mapping[str, Change]
    kept: tuple[str, ...]
    remarks: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        changes = {key: {"old": old, "new": new} for key, (old, new) in self.changes.items()}
        return {
            "path": str(self.path),
            "changes": changes,
            "kept": list(self.kept),
            "remarks": list(self.remarks),
        }


def measure_again(name: str, settings: Settings, center: Center) -> Remeasured:
    """Measure the bounds of a spec anew, but keep what was changed by hand, and all other keys.

    Raises UsageError if there is no such spec, or `digits dataset init` did not write it; DataError
    if the files are not a complete dataset.
    """
    path, spec = spec_path(name, settings), load_spec(name, settings)
    text = path.read_text(encoding="utf-8")
    before, current = read_measured(text), _flat(tomllib.loads(text))
    if not before:
        raise UsageError(
            f"{path}: its bounds were not measured by this version of `digits dataset init`, so "
            "they stay as they are; to have them measured, move the file away, run `digits dataset "
            f"init {name} --from PATH`, and copy your changes"
        )
    with opened(spec, content_of(spec, settings), settings) as files:
        measured = measure_files(files, spec, center, settings)
    new: dict[str, Value] = dict(measured.bounds.by_key)
    if "centered" in before:
        new["centered"] = measured.trials.should_center
    kept = tuple(key for key in before if current.get(key) != before[key])
    changes: dict[str, Change] = {
        key: (before.get(key), new.get(key))
        for key in {**before, **new}
        if key not in kept
        and (key in before or key not in current)
        and before.get(key) != new.get(key)
    }
    values: dict[str, Any] = {key: value for key, (_, value) in changes.items()}
    with _frozen_anew(spec, measured.means, path.parent) as centroids:
        if centroids is not None:
            values["thresholds.centroids.name"] = centroids.name
            values["thresholds.centroids.sha256"] = centroids.sha256
            changes |= _of_means(spec.thresholds.centroids, centroids)
        write_whole(path, _edited(text, values, new, path).encode())
    notes = tuple(remarks(load_spec(name, settings), measured, path))
    return Remeasured(path, changes, kept, notes)


@contextlib.contextmanager
def _frozen_anew(spec: DatasetSpec, means: Images, folder: Path) -> Iterator[CentroidFile | None]:
    """Freeze mean images in a file of another name, so that the spec fits its file at any moment.

    Yields None if the spec names none. The old file is removed when the block ends.
    """
    old = spec.thresholds.centroids
    if old is None:
        yield None
        return
    draft = freeze_centroids(means, folder / f"{spec.name}.centroids-new.npy")
    is_same = draft.sha256 == old.sha256
    name = old.name if is_same else f"{spec.name}.centroids-{draft.sha256[:8]}.npy"
    (folder / draft.name).replace(folder / name)
    unneeded = folder / name
    try:
        yield CentroidFile(name=name, sha256=draft.sha256)
        unneeded = folder / old.name
    finally:
        if not is_same:
            unneeded.unlink(missing_ok=True)


def _of_means(old: CentroidFile | None, new: CentroidFile) -> dict[str, Change]:
    if old is None or old.sha256 == new.sha256:
        return {}
    return {"thresholds.centroids.sha256": (old.sha256, new.sha256)}


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def _edited(text: str, values: Mapping[str, Any], measured: Mapping[str, Value], path: Path) -> str:
    """Set values in the text of a spec, remove those that are None, keep every other line."""
    current = _flat(tomllib.loads(text))
    lines = [line for line in text.splitlines() if not line.startswith(MEASURED)]
    edited = "\n".join([*_lines(lines, values, current), *measured_lines(measured)]) + "\n"
    expected = {key: value for key, value in {**current, **values}.items() if value is not None}
    if _flat(tomllib.loads(edited)) != expected:
        raise UsageError(
            f"{path}: cannot be edited, so it was not changed; write each key of [thresholds] on a "
            "line of its own"
        )
    return edited


def _lines(
    lines: list[str], values: Mapping[str, Any], current: Mapping[str, Any]
) -> Iterator[str]:
    table = ""
    for line in lines:
        header, assignment = TABLE.fullmatch(line), ASSIGNMENT.fullmatch(line)
        if header:
            table = f"{header[1]}."
            yield line
            added = (key for key in values if key not in current and _table_of(key) == table)
            yield from (f"{key.removeprefix(table)} = {_toml(values[key])}" for key in added)
            continue
        key = table + assignment["key"] if assignment else ""
        if assignment is None or key not in values:
            yield line
        elif values[key] is not None:
            yield f"{assignment['start']}{_toml(values[key])}{assignment['rest']}"


def _table_of(key: str) -> str:
    return key[: key.rfind(".") + 1]


def _toml(value: Value | str) -> str:
    return json.dumps(value)
