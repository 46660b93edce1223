"""`digits dataset`: write the spec of a dataset, and add, list and remove its batches."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.errors import UsageError
from digits.layouts import LAYOUTS
from digits.spec import MAX_SIDE, MIN_SIDE, load_spec
from digits.storage.workspace import current_workspace
from flows import console

if TYPE_CHECKING:
    from digits.intake.proposal import Wishes


@click.group()
def dataset() -> None:
    """Manage your own datasets: write a spec, then add, list and remove batches."""


@dataset.command()
@click.argument("name")
@click.option(
    "--from",
    "place",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder with the dataset's files, or its only file.",
)
@click.option(
    "--layout",
    type=click.Choice(list(LAYOUTS)),
    help="File layout (default: detected from the file names).",
)
@click.option(
    "--image-shape",
    nargs=2,
    type=int,
    metavar="HEIGHT WIDTH",
    help="Image size, if the files do not define it and the images are not square.",
)
@click.option(
    "--label-column",
    metavar="NAME|NUMBER",
    help="Label column of CSV and Parquet files; -1 is the last.",
)
@click.option(
    "--pixel-range",
    nargs=2,
    type=float,
    metavar="LOW HIGH",
    help="Pixel values of no ink and of full ink (default: the usual range that fits).",
)
@click.option(
    "--test-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=1 / 7,
    help="Share of images to test on, if the files have no test split.  [default: 1/7]",
)
@console.json_option
def init(name: str, place: Path, as_json: bool, **wishes: Any) -> None:
    """Write the spec of a new dataset NAME, derived from its files."""
    from digits.intake.proposal import propose

    proposal = propose(name, place, _wishes(**wishes), current_workspace().settings)
    if as_json:
        console.print_json(proposal.facts())
        return
    click.echo(f"Wrote {proposal.path} with these assumptions:")
    for key, value in proposal.assumptions().items():
        click.echo(f"  {key:8} {value}")
    click.echo(f"Correct the file if any are wrong, then run: digits run --dataset {name}")


@dataset.command()
@click.argument("name")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@console.json_option
def add(name: str, files: tuple[Path, ...], as_json: bool) -> None:
    """Add a batch of labeled images to dataset NAME: FILES in any layout, or a folder.

    Adding is atomic: if anything is wrong, nothing is added, and a copy of the batch is
    quarantined with a page that says why.
    """
    console.show_logs()
    from digits.intake.additions import add_batch

    workspace = current_workspace()
    addition = add_batch(files, load_spec(name, workspace.settings), workspace)
    if as_json:
        console.print_json(addition.model_dump(mode="json"))
    else:
        console.print_addition(addition)
    if addition.status == "quarantined":
        raise click.exceptions.Exit(1)


@dataset.command("add-incoming")
@click.argument("name")
@console.json_option
def add_incoming(name: str, as_json: bool) -> None:
    """Add the batches in dataset NAME's incoming folder, as the next run would."""
    console.show_logs()
    from digits.intake.additions import add_all_incoming

    workspace = current_workspace()
    additions = list(add_all_incoming(load_spec(name, workspace.settings), workspace))
    if as_json:
        console.print_json([addition.model_dump(mode="json") for addition in additions])
    else:
        for addition in additions:
            console.print_addition(addition)
    if any(addition.status == "quarantined" for addition in additions):
        raise click.exceptions.Exit(1)


@dataset.command()
@click.argument("name")
@click.argument("batch")
@console.json_option
def remove(name: str, batch: str, as_json: bool) -> None:
    """Remove the batch whose digest begins with BATCH from dataset NAME."""
    console.show_logs()
    from digits.datasets.versions import DatasetVersions

    workspace = current_workspace()
    load_spec(name, workspace.settings)
    with DatasetVersions(name, workspace.settings).changing() as changing:
        change = changing.remove(batch)
    if as_json:
        console.print_json(change.model_dump(mode="json"))
    else:
        click.echo(
            f"removed batch {change.batch[:12]}; {name} is now dataset version {change.version}"
        )


@dataset.command()
@click.argument("name")
@console.json_option
def show(name: str, as_json: bool) -> None:
    """Show the versions of dataset NAME, and its waiting and refused batches."""
    from digits.intake.incoming import describe_versions

    workspace = current_workspace()
    load_spec(name, workspace.settings)
    facts = describe_versions(name, workspace.settings)
    if as_json:
        console.print_json(facts)
    else:
        console.print_versions(facts)


def _wishes(
    layout: str | None,
    image_shape: tuple[int, int] | None,
    label_column: str | None,
    pixel_range: tuple[float, float] | None,
    test_share: float,
) -> "Wishes":
    from digits.intake.proposal import Wishes

    if image_shape and not all(MIN_SIDE <= side <= MAX_SIDE for side in image_shape):
        raise UsageError(
            f"--image-shape {image_shape[0]} {image_shape[1]}: out of range "
            f"(expected {MIN_SIDE} to {MAX_SIDE} pixels per side)"
        )
    is_number = label_column is not None and label_column.lstrip("-").isdecimal()
    column = int(label_column) if label_column is not None and is_number else label_column
    if pixel_range and not -math.inf < pixel_range[0] < pixel_range[1] < math.inf:
        raise UsageError(
            f"--pixel-range {pixel_range[0]:g} {pixel_range[1]:g}: the first must be less than the "
            "second"
        )
    return Wishes(layout, image_shape, column, test_share, pixel_range)
