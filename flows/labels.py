"""What `digits predict` prints: a line per image or digit, as text, JSON or CSV."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import count, groupby
from pathlib import Path
from typing import Literal

import click

from digits.escaping import one_line, spreadsheet_cell
from digits.inference.loaded_versions import LoadedVersion
from digits.labeling.explanation import explain, explanation_path
from digits.labeling.image_search import Passed, find_files
from digits.labeling.labeler import Answer, Prediction, label_files

Form = Literal["text", "json", "csv"]


def label_all(
    files: Iterable[str],
    version: LoadedVersion,
    *,
    form: Form,
    as_is: bool | None,
    folder: Path | None,
    each: bool = False,
) -> bool:
    """Label files and folders, print each answer, and return whether every image got a label.

    What folders contain besides images is counted on stderr; a folder without images counts as one
    that got no label. If `folder` is given, an explanation of each label is written there. `each`:
    label every digit of a picture.
    """
    if form == "csv":
        _write_row("file", "label", "name", "probability", "error", "note", "part")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    is_all_labeled, numbers, passed = True, count(1), Passed()
    answers = label_files(
        find_files(files, passed),
        version,
        as_is=as_is,
        each=each,
        keep_originals=folder is not None,
    )
    # One picture at a time: its digits are printed together.
    for _, parts in groupby(answers, key=lambda answer: answer.file):
        of_picture = list(parts)
        PRINTERS[form](of_picture, each)
        for answer in of_picture:
            if not isinstance(answer, Prediction):
                is_all_labeled = False
            elif folder is not None:
                picture = explain(answer, version.layout.class_names)
                picture.save(explanation_path(folder, next(numbers), answer.file))
    for sentence in passed.sentences():
        click.echo(one_line(sentence), err=True)
    return is_all_labeled and passed.is_complete


def _print_text(answers: list[Answer], each: bool) -> None:
    """Print a line per picture: the names of its digits, and the least of their probabilities."""
    labeled = [answer for answer in answers if isinstance(answer, Prediction)]
    for answer in answers:
        if not isinstance(answer, Prediction):
            click.echo(one_line(f"Error: {answer.file} {answer.error}"), err=True)
    for group in [labeled] if each and labeled else [[answer] for answer in labeled]:
        name = "".join(answer.name for answer in group)
        probability = min(answer.probability for answer in group)
        notes = "; ".join(dict.fromkeys(answer.note for answer in group if answer.note))
        line = f"{name}  {probability:7.2%}  {group[0].file}{f'  ({notes})' if notes else ''}"
        click.echo(one_line(line))


def _print_json(answers: list[Answer], each: bool) -> None:
    for answer in answers:
        facts: dict[str, object] = {"file": answer.file}
        if isinstance(answer, Prediction):
            facts |= {
                "label": answer.label,
                "name": answer.name,
                "probability": answer.probability,
                "note": answer.note,
            }
            facts |= {"part": answer.part} if each else {}
        else:
            facts |= {"error": answer.error}
        click.echo(json.dumps(facts))


def _print_csv(answers: list[Answer], each: bool) -> None:
    for answer in answers:
        file = one_line(answer.file)
        if isinstance(answer, Prediction):
            part, note = str(answer.part) if each else "", answer.note or ""
            name, probability = one_line(answer.name), f"{answer.probability:.6f}"
            _write_row(file, str(answer.label), name, probability, "", note, part)
        else:
            _write_row(file, "", "", "", answer.error, "", "")


PRINTERS: Mapping[Form, Callable[[list[Answer], bool], None]] = {
    "text": _print_text,
    "json": _print_json,
    "csv": _print_csv,
}


def _write_row(*cells: str) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerow(map(spreadsheet_cell, cells))
