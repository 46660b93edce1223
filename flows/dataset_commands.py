"""`digits dataset`: a dataset's spec, written by looking at its files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.dataset import FILE_LAYOUTS, MAX_SIDE, MIN_SIDE, FileLayout
from digits.errors import UsageError
from digits.workspace import current_workspace

if TYPE_CHECKING:
    from digits.proposal import Wishes


@click.group()
def dataset() -> None:
    """Your own datasets."""


@dataset.command()
@click.argument("name")
@click.option(
    "--from",
    "place",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder of its files, or the one file.",
)
@click.option("--layout", type=click.Choice(FILE_LAYOUTS), help="Instead of what the names say.")
@click.option(
    "--image-shape", nargs=2, type=int, metavar="HEIGHT WIDTH", help="Where it is no square."
)
@click.option("--label-column", metavar="NAME|NUMBER", help="Of CSV and Parquet; -1 is the last.")
@click.option(
    "--test-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=1 / 7,
    help="How many of the images are for testing, where no file is.  [default: 1/7]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def init(name: str, place: Path, as_json: bool, **wishes: Any) -> None:
    """Write the spec of a new dataset NAME by looking at its files."""
    from digits.proposal import propose

    proposal = propose(name, place, _wishes(**wishes), current_workspace().settings)
    if as_json:
        click.echo(json.dumps(proposal.facts(), indent=1))
        return
    click.echo(f"{proposal.path} is written. It assumes:")
    for key, value in proposal.assumptions().items():
        click.echo(f"  {key:8} {value}")
    click.echo(f"Correct there what is wrong; then: digits run --dataset {name}")


def _wishes(
    layout: FileLayout | None,
    image_shape: tuple[int, int] | None,
    label_column: str | None,
    test_share: float,
) -> "Wishes":
    from digits.proposal import Wishes

    if image_shape and not all(MIN_SIDE <= side <= MAX_SIDE for side in image_shape):
        raise UsageError(
            f"--image-shape {image_shape[0]} {image_shape[1]}: expected {MIN_SIDE} to {MAX_SIDE}"
        )
    is_number = label_column is not None and label_column.lstrip("-").isdecimal()
    column = int(label_column) if label_column is not None and is_number else label_column
    return Wishes(layout, image_shape, column, test_share)
