"""`digits dataset`: write the spec of a dataset, and add, list and remove its batches."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.errors import UsageError
from digits.layouts import LAYOUTS
from digits.spec import MAX_SIDE, MIN_SIDE, load_spec
from digits.storage.workspace import current_workspace
from flows import console
from flows.options import dataset_option

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
        console.echo(f"  {key:8} {value}")
    click.echo(f"Correct the file if any are wrong, then run: digits run --dataset {name}")


@dataset.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@dataset_option
@console.json_option
def add(files: tuple[Path, ...], dataset: str, as_json: bool) -> None:
    """Add a batch of labeled images: FILES in any layout, or a folder.

    Adding is atomic: if anything is wrong, nothing is added, and a copy of the batch is
    quarantined with a page that says why.
    """
    console.show_logs()
    from digits.intake.additions import add_batch

    workspace = current_workspace()
    addition = add_batch(files, load_spec(dataset, workspace.settings), workspace)
    if as_json:
        console.print_json(addition.model_dump(mode="json"))
    else:
        console.print_addition(addition)
    if addition.status == "quarantined":
        raise click.exceptions.Exit(1)


@dataset.command("add-incoming")
@dataset_option
@console.json_option
def add_incoming(dataset: str, as_json: bool) -> None:
    """Add the batches in the dataset's incoming folder, as the next run would."""
    console.show_logs()
    from digits.intake.additions import add_all_incoming
    from digits.intake.incoming import incoming_folder

    workspace = current_workspace()
    additions = list(add_all_incoming(load_spec(dataset, workspace.settings), workspace))
    if as_json:
        console.print_json([addition.model_dump(mode="json") for addition in additions])
    else:
        for addition in additions:
            console.print_addition(addition)
        if not additions:
            click.echo(f"nothing waits in {incoming_folder(dataset, workspace.settings)}")
    if any(addition.status in ("quarantined", "left") for addition in additions):
        raise click.exceptions.Exit(1)


@dataset.command()
@click.argument("batch")
@dataset_option
@console.json_option
def remove(batch: str, dataset: str, as_json: bool) -> None:
    """Remove the batch whose digest begins with BATCH."""
    console.show_logs()
    from digits.datasets.versions import DatasetVersions

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    with DatasetVersions(dataset, workspace.settings).changing() as changing:
        change = changing.remove(batch)
    if as_json:
        console.print_json(change.model_dump(mode="json"))
    else:
        click.echo(
            f"removed batch {change.batch[:12]}; {dataset} is now dataset version {change.version}"
        )


@dataset.command()
@dataset_option
@console.json_option
def show(dataset: str, as_json: bool) -> None:
    """Show the dataset's versions, and its waiting and refused batches."""
    from digits.intake.incoming import describe_versions

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    facts = describe_versions(dataset, workspace.settings)
    if as_json:
        console.print_json(facts)
    else:
        console.print_versions(facts)


def _wishes(
    layout: str | None,
    image_shape: tuple[int, int] | None,
    label_column: str | None,
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
    return Wishes(layout, image_shape, column, test_share)
