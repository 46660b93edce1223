"""What `digits predict` prints: one line per image, as text, JSON or CSV."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Literal

import click

from digits.labeling.explanation import explain, explanation_path
from digits.labeling.image_files import find_files
from digits.labeling.labeler import Answer, Labeled, label_files
from digits.registry.champion import Champion

Form = Literal["text", "json", "csv"]


def label_all(
    files: Iterable[str],
    champion: Champion,
    *,
    form: Form,
    as_is: bool | None,
    folder: Path | None,
) -> bool:
    """Label files and folders, print each answer, and return whether every image got a label.

    If `folder` is given, an explanation of each label is written there.
    """
    if form == "csv":
        _write_row("file", "label", "name", "probability", "error")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    is_all_labeled, numbers = True, count(1)
    for answer in label_files(
        find_files(files), champion, as_is=as_is, keep_originals=folder is not None
    ):
        PRINTERS[form](answer)
        if not isinstance(answer, Labeled):
            is_all_labeled = False
        elif folder is not None:
            picture = explain(answer, champion.layout.class_names)
            picture.save(explanation_path(folder, next(numbers), answer.file))
    return is_all_labeled


def _print_text(answer: Answer) -> None:
    name = _printable(answer.file)
    if isinstance(answer, Labeled):
        click.echo(f"{answer.name}  {answer.probability:7.2%}  {name}")
    else:
        click.echo(f"Error: {name} {answer.error}", err=True)


def _print_json(answer: Answer) -> None:
    facts = (
        {"label": answer.label, "name": answer.name, "probability": answer.probability}
        if isinstance(answer, Labeled)
        else {"error": answer.error}
    )
    click.echo(json.dumps({"file": answer.file} | facts))


def _print_csv(answer: Answer) -> None:
    name = _printable(answer.file)
    if isinstance(answer, Labeled):
        _write_row(name, str(answer.label), answer.name, f"{answer.probability:.6f}", "")
    else:
        _write_row(name, "", "", "", answer.error)


PRINTERS: Mapping[Form, Callable[[Answer], None]] = {
    "text": _print_text,
    "json": _print_json,
    "csv": _print_csv,
}


def _write_row(*cells: str) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerow(cells)


def _printable(name: str) -> str:
    """Escape unprintable characters, so that a file name fits on one line of a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in name
    )
