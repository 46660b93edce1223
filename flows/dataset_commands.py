"""`digits dataset`: write the spec of a dataset, and add, list and remove its batches."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.errors import UsageError
from digits.layouts import LAYOUTS
from digits.spec import MAX_SIDE, MIN_SIDE, load_spec, spec_path
from digits.storage.workspace import current_workspace
from digits.thresholds import DEFECTS
from flows import console
from flows.options import AboutDataset, dataset_option

if TYPE_CHECKING:
    from digits.intake.proposals.proposal import Wishes


@click.group()
def dataset() -> None:
    """Manage your own datasets: write a spec, then add, list and remove batches."""


@dataset.command()
@click.argument("name")
@click.option(
    "--from",
    "place",
    type=click.Path(path_type=Path),
    help="The folder with the dataset's files, or its only file.",
)
@click.option(
    "--again",
    is_flag=True,
    help="Measure the bounds of an existing spec anew; changes made by hand are kept.",
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
    "--image-column", metavar="NAME|NUMBER", help="Column of the images in Parquet files."
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
@click.option(
    "--validation",
    type=click.Choice(["train", "leave-out"]),
    default="train",
    help="Use of a third split, val or dev: training data, or left out.  [default: train]",
)
@click.option(
    "--class-names",
    metavar="NAME,NAME,...",
    help="Names of the classes, if the labels are numbers, in the order of the numbers.",
)
@click.option(
    "--first-label",
    type=click.IntRange(min=0),
    help="Number of the first class (default: detected).",
)
@click.option(
    "--transposed",
    is_flag=True,
    help="Rows and columns are swapped in the files, as in EMNIST: turn the images upright.",
)
@click.option(
    "--centered/--as-is",
    default=None,
    help="Whether `predict` centers and scales pictures first (default: found out by trying both).",
)
@click.option(
    "--leave-out",
    "left_out",
    multiple=True,
    type=click.Choice(DEFECTS),
    metavar="CHECK",
    help="Leave out the images that fail CHECK, as an error message names it; can be repeated.",
)
@console.json_option
@click.pass_context
def init(
    ctx: click.Context, /, name: str, place: Path | None, again: bool, as_json: bool, **wishes: Any
) -> None:
    """Write the spec of a new dataset NAME, derived from its files."""
    from digits.intake.proposals.assumptions import remarks
    from digits.intake.proposals.proposal import propose
    from digits.labeling.centering import centered

    if again:
        _measure_again(ctx, name, as_json=as_json)
        return
    if place is None:
        raise click.MissingParameter(ctx=ctx, param_hint="'--from'", param_type="option")
    proposal = propose(name, place, _wishes(**wishes), current_workspace().settings, centered)
    if as_json:
        console.print_json(proposal.facts())
        return
    console.echo(f"Wrote {proposal.path} with these assumptions:")
    for key, value in proposal.assumptions().items():
        console.echo(f"  {key:8} {value}")
    for remark in remarks(proposal.spec, proposal.measured, proposal.path):
        console.echo(f"Note: {remark}")
    click.echo(
        f"If any are wrong, correct the file and then run: digits dataset init {name} --again"
    )
    click.echo(f"Train with: digits run --dataset {name}")


def _measure_again(ctx: click.Context, name: str, *, as_json: bool) -> None:
    from digits.intake.proposals.remeasuring import measure_again
    from digits.labeling.centering import centered

    by_hand = click.core.ParameterSource.COMMANDLINE
    others = [
        option.opts[0]
        for option in ctx.command.params
        if option.name not in ("name", "again", "as_json")
        and ctx.get_parameter_source(str(option.name)) == by_hand
    ]
    settings = current_workspace().settings
    if others:
        raise UsageError(
            f"{others[0]}: cannot be combined with --again (expected no other option); change its "
            f"key in {spec_path(name, settings)} instead"
        )
    remeasured = measure_again(name, settings, centered)
    if as_json:
        console.print_json(remeasured.facts())
        return
    console.echo(f"Measured the bounds in {remeasured.path} anew:")
    for key, (old, new) in remeasured.changes.items():
        console.echo(f"  {key}: {_toml(old)} is now {_toml(new)}")
    if not remeasured.changes:
        click.echo("  nothing changed")
    if remeasured.kept:
        console.echo(f"Changed by hand, and kept: {', '.join(remeasured.kept)}")
    for remark in remeasured.remarks:
        console.echo(f"Note: {remark}")


def _toml(value: Any) -> str:
    return "unset" if value is None else json.dumps(value)


@dataset.command(cls=AboutDataset)
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


@dataset.command("add-incoming", cls=AboutDataset)
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
            console.echo(f"nothing waits in {incoming_folder(dataset, workspace.settings)}")
    if any(addition.status in ("quarantined", "left") for addition in additions):
        raise click.exceptions.Exit(1)


@dataset.command(cls=AboutDataset)
@click.argument("batch")
@dataset_option
@console.json_option
def remove(batch: str, dataset: str, as_json: bool) -> None:
    """Remove the batch whose digest begins with BATCH."""
    console.show_logs()
    from digits.datasets.versions import Change, DatasetVersions
    from digits.storage.chain import decided_anew

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)

    def take_out() -> Change:
        with DatasetVersions(dataset, workspace.settings).changing() as changing:
            return changing.remove(batch)

    change = decided_anew(take_out)
    if as_json:
        console.print_json(change.model_dump(mode="json"))
    else:
        click.echo(
            f"removed batch {change.batch[:12]}; {dataset} is now dataset version {change.version}"
        )


@dataset.command(cls=AboutDataset)
@dataset_option
@console.json_option
def show(dataset: str, as_json: bool) -> None:
    """Show the dataset's versions, and its waiting and refused batches."""
    from digits.intake.incoming import describe_versions
    from digits.intake.quarantine import fetch_pages

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    fetch_pages(dataset, workspace.settings)
    facts = describe_versions(dataset, workspace.settings)
    if as_json:
        console.print_json(facts)
    else:
        console.print_versions(facts)


def _wishes(
    *,
    layout: str | None,
    image_shape: tuple[int, int] | None,
    image_column: str | None,
    label_column: str | None,
    pixel_range: tuple[float, float] | None,
    class_names: str | None,
    **others: Any,
) -> "Wishes":
    from digits.intake.proposals.proposal import Wishes

    if image_shape and not all(MIN_SIDE <= side <= MAX_SIDE for side in image_shape):
        raise UsageError(
            f"--image-shape {image_shape[0]} {image_shape[1]}: out of range "
            f"(expected {MIN_SIDE} to {MAX_SIDE} pixels per side)"
        )
    if pixel_range and not -math.inf < pixel_range[0] < pixel_range[1] < math.inf:
        raise UsageError(
            f"--pixel-range {pixel_range[0]:g} {pixel_range[1]:g}: the first must be less than the "
            "second"
        )
    names = tuple(name.strip() for name in class_names.split(",")) if class_names else ()
    return Wishes(
        file_layout=layout,
        image_shape=image_shape,
        image_column=_column(image_column),
        label_column=_column(label_column),
        pixel_range=pixel_range,
        class_names=names,
        **others,
    )


def _column(given: str | None) -> int | str | None:
    is_number = given is not None and given.lstrip("-").isdecimal()
    return int(given) if given is not None and is_number else given
