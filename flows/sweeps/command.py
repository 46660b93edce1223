"""`digits sweep`: many trainings side by side, compared by variant."""

import contextlib
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from digits.errors import UsageError
from digits.models import MODELS
from digits.recipes import RECIPES
from digits.settings import Settings
from digits.spec import available_datasets
from digits.storage.workspace import current_workspace
from flows import console
from flows.environment import prepare_folders
from flows.heartbeats import without_heartbeats
from flows.interrupts import interruptible
from flows.options import Names
from flows.serving.processes import NEUTRAL_FOLDER

if TYPE_CHECKING:
    from flows.sweep import SweepResult


def _check_place(_: click.Context, __: click.Parameter, on: str) -> str:
    """Split an address from the kind of place: a flow is given no address (docs/security.md)."""
    if on.startswith("ray://"):
        os.environ["DIGITS_RAY_ADDRESS"] = on
        on = "ray"
    if on not in ("threads", "ray"):
        raise click.BadParameter(f"{on!r} is unknown (expected threads, ray or ray://HOST:10001)")
    if on == "ray" and find_spec("ray") is None:
        raise UsageError("--on ray: Ray is not installed; run `make ray`")
    return on


@click.command()
@click.option(
    "--datasets",
    type=Names(available_datasets(Settings())),
    default="mnist",
    show_default=True,
    help="Datasets, separated by commas.",
)
@click.option(
    "--models",
    type=Names(MODELS),
    default="mlp,cnn",
    show_default=True,
    help="Models to train, separated by commas.",
)
@click.option(
    "--recipes",
    type=Names(RECIPES),
    default="reference",
    show_default=True,
    help="Training recipes, separated by commas; `docs/recipes.md` compares them.",
)
@click.option(
    "--seeds",
    metavar="SEEDS",
    default="0",
    show_default=True,
    help="Seeds that each variant is trained with: 0-4 or 0,1,7.",
)
@click.option(
    "--set",
    "changes",
    metavar="NAME=VALUES",
    multiple=True,
    help="Values of a training setting, separated by commas; with --trials also a range, "
    "LOW..HIGH or LOW..HIGH:log. May be repeated.",
)
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Number of epochs (default: each recipe's)."
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    help="Number of variants that Optuna proposes for each dataset, model and recipe, scored on "
    "held-out images (needs `make optuna`).",
)
@click.option(
    "--held-out", is_flag=True, help="Score on held-out training images, not on the test set."
)
@click.option(
    "--promote",
    is_flag=True,
    help="Let the best variant of each dataset go through the promotion rule.",
)
@click.option(
    "--require-significance",
    is_flag=True,
    help="Promote only if the exact McNemar test is also significant.",
)
@click.option(
    "--name",
    help="Name of the sweep; one of a name runs at a time (default: made from what it tries).",
)
@click.option(
    "--on",
    metavar="[threads|ray|ray://HOST:PORT]",
    default="threads",
    show_default=True,
    callback=_check_place,
    help="Where trainings run: threads of this process, processes of Ray on this machine (needs "
    "`make ray`), or a cluster of Ray.",
)
@click.option(
    "--parallel",
    type=click.IntRange(min=1),
    help="Number of trainings side by side (default: the number of cores; on Ray, as many as it "
    "has room for).",
)
@click.option(
    "--gpu-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of a GPU that each training takes on Ray.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Largest number of trainings that may be started.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="Device to train on; `auto` uses a GPU if one is available.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be trained.")
@console.json_option
def sweep(dry_run: bool, as_json: bool, **options: Any) -> None:
    """Train every combination, cached and resumable, and compare the variants over seeds."""
    console.show_logs()
    options["changes"] = list(options["changes"])
    from flows.sweeps.request import SweepRequest

    workspace = current_workspace()
    not_asked = ("promote", "on", "parallel", "gpu_share")
    asked = {name: value for name, value in options.items() if name not in not_asked}
    request = SweepRequest.of(**asked, settings=workspace.settings)
    if dry_run:
        from flows.sweeps.plan import plan_sweep
        from flows.sweeps.tables import print_planned

        print_planned(plan_sweep(request, workspace), as_json=as_json)
        return
    prepare_folders(workspace.settings)
    _run(options, as_json=as_json)


def _run(options: dict[str, Any], *, as_json: bool) -> None:
    from digits.progress import bars
    from flows.serving.embedded_server import prefect_server

    with (
        contextlib.chdir(NEUTRAL_FOLDER),
        interruptible(),
        prefect_server() as wait_for_server,
        bars(not console.is_quiet()),
    ):
        from flows.sweep import IncompleteSweepError
        from flows.sweep import sweep as flow

        wait_for_server()
        try:
            with without_heartbeats():
                result = flow(**options)
        except IncompleteSweepError as error:
            _print(error.result, as_json=as_json)
            raise
    _print(result, as_json=as_json)


def _print(result: "SweepResult", *, as_json: bool) -> None:
    from flows.sweeps.tables import print_sweep, sweep_facts

    if as_json:
        console.print_json(sweep_facts(result))
    else:
        print_sweep(result)
