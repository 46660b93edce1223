"""Small projects that tests write and edit, and the code that `app.step:run` reaches in them."""

from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from digits.cache.fingerprint import Project

ROOT = "app.step:run"


@dataclass
class Case:
    """A project, an edit to one of its files, and the labels whose digests the edit changes."""

    files: dict[str, str]
    edit: tuple[str, str, str]
    changed: set[str] = field(default_factory=set)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in {"app/__init__.py": "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")


def code_of(root: Path, **options: list[str]) -> dict[str, str]:
    return Project(root, ("app",)).code_of([ROOT], **options)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    labels = before.keys() | after.keys()
    return {label for label in labels if before.get(label) != after.get(label)}


def edited(root: Path, path: str, old: str, new: str) -> set[str]:
    """Replace `old` by `new` in a file; returns the labels whose digests change."""
    before = code_of(root)
    text = (root / path).read_text(encoding="utf-8")
    assert text.count(old) == 1, (old, text)
    (root / path).write_text(text.replace(old, new), encoding="utf-8")
    return changed(before, code_of(root))
