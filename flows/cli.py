"""The command line. Each command imports only what it needs, so `digits status` starts fast."""

import atexit
import contextlib
import functools
import gc as collector
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from digits.errors import DigitsError, UsageError
from digits.registry.ledger import Ledger
from digits.settings import Settings
from digits.storage.workspace import current_workspace
from digits.training.devices import configure_backend, resolve_device
from flows import console
from flows.dataset_commands import dataset as dataset_commands
from flows.environment import prepare_environment, prepare_folders
from flows.interrupts import Interrupted, interruptible, received

if TYPE_CHECKING:
    from flows.labels import Form

P = ParamSpec("P")

dataset_option = click.option(
    "--dataset",
    default="mnist",
    show_default=True,
    help="Dataset: the name of a spec in data/datasets.",
)


def run_options(function: Callable[P, Any]) -> Callable[P, Any]:
    """Add the options that describe a run; `run` and `plan` share them."""
    options = (
        dataset_option,
        click.option(
            "--models",
            default="mlp,cnn",
            show_default=True,
            help="Models to train, separated by commas.",
        ),
        click.option(
            "--recipe",
            default="reference",
            show_default=True,
            help="Training recipe: reference (the original settings), fast, quick or best; "
            "`docs/recipes.md` compares them.",
        ),
        click.option(
            "--epochs",
            type=click.IntRange(min=1),
            help="Number of epochs (default: the recipe's).",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**31 - 1),
            default=0,
            show_default=True,
            help="Seed of all random numbers.",
        ),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "gpu"]),
            default="auto",
            show_default=True,
            help="Device to train on; `auto` uses a GPU if one is available.",
        ),
        click.option(
            "--require-significance",
            is_flag=True,
            help="Promote only if the exact McNemar test is also significant.",
        ),
    )
    return functools.reduce(lambda decorated, option: option(decorated), options[::-1], function)


class Commands(click.Group):
    """The command group, which reports an error in one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; if it fails, print one line and exit with an error code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click handles its own errors, and exits silently if the reader is gone
        except Interrupted as interrupted:
            ctx.exit(interrupted.code)
        except Exception as error:
            if (signal_code := received()) is not None:
                ctx.exit(signal_code)
            if ctx.params["traceback"]:
                raise
            message, code = explain(error)
            click.echo(f"Error: {message}", err=True)
            ctx.exit(code)


def explain(error: Exception) -> tuple[str, int]:
    """Return a one-line message about an error, and the exit code."""
    if isinstance(error, UsageError):
        return str(error), 2
    if isinstance(error, DigitsError):
        return str(error), 1
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the operating system'}: {error.strerror}", 1
    hint = "run `digits --traceback ...` for details"
    return f"unexpected {type(error).__name__}: {error} ({hint})", 1


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--traceback", is_flag=True, help="Show the Python traceback of a failure.")
def main(traceback: bool) -> None:  # noqa: ARG001  (`Commands.invoke` reads it)
    """Retrain two digit classifiers, promote the better one, and review or undo promotions."""
    prepare_environment(Settings())


@main.command()
@run_options
@console.json_option
def run(as_json: bool, models: str, **options: Any) -> None:
    """Retrain in this process: prepare data, train, evaluate, promote or keep, report."""
    console.show_logs()
    options["models"] = split_names(models)
    workspace = current_workspace()
    from flows.pipeline import Request

    request = Request.of(**options, settings=workspace.settings)
    prepare_folders(workspace.settings)
    has_server = bool(os.environ.get("PREFECT_API_URL"))
    from digits.progress import bars
    from flows.embedded_server import prefect_server

    with interruptible(), prefect_server() as wait_for_server, bars():
        with uncollected():
            from flows.retrain import retrain

            if not has_server:
                from flows.loading import load_ahead

                load_ahead(request, workspace)
        wait_for_server()
        result = retrain(**options)
    if as_json:
        console.print_json(console.run_facts(result))
    else:
        console.print_run(result)


@main.command()
@dataset_option
@console.json_option
def status(dataset: str, as_json: bool) -> None:
    """Show the champion and the last decision about it."""
    from digits.registry.history import status as status_of
    from digits.spec import load_spec

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    facts = status_of(dataset, workspace)
    if as_json:
        console.print_json(facts)
    else:
        console.print_status(facts)


@main.command()
@dataset_option
@console.json_option
def history(dataset: str, as_json: bool) -> None:
    """Show all decisions about the champion, oldest first."""
    from digits.registry.history import describe_entry
    from digits.spec import load_spec

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    entries = [describe_entry(entry) for entry in Ledger(dataset, workspace.settings).entries()]
    if as_json:
        console.print_json(entries)
    else:
        console.print_history(dataset, entries)


@main.command()
@click.argument("version", type=click.IntRange(min=1), required=False)
@dataset_option
@console.json_option
def rollback(version: int | None, dataset: str, as_json: bool) -> None:
    """Roll back to an earlier champion: VERSION, or the previous one."""
    from digits.registry.history import describe_entry, roll_back
    from digits.spec import load_spec

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    facts = describe_entry(roll_back(dataset, version, "by hand", workspace))
    if as_json:
        console.print_json(facts)
    else:
        click.echo(f"{facts['reason']}; the champion is now version {facts['champion_after']}")


@main.command()
@run_options
@console.json_option
def plan(as_json: bool, models: str, **options: Any) -> None:
    """Show which steps `run` would execute, and why, without running anything."""
    from flows.pipeline import Request
    from flows.plan import plan_run

    workspace = current_workspace()
    options["models"] = split_names(models)
    request = Request.of(**options, settings=workspace.settings)
    with uncollected():
        steps = plan_run(request, workspace)
    if as_json:
        console.print_json([step.model_dump(mode="json") for step in steps])
    else:
        console.print_plan(steps)


@main.command()
@click.argument("version", type=click.IntRange(min=1))
@dataset_option
@console.json_option
def reproduce(version: int, dataset: str, as_json: bool) -> None:
    """Train VERSION again and report whether the weights are identical."""
    console.show_logs()
    from digits.progress import bars
    from digits.registry.reproduction import reproduce as train_again
    from digits.spec import load_spec

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    with interruptible(), bars():
        outcome = train_again(dataset, version, workspace)
    if as_json:
        console.print_json(outcome.model_dump(mode="json"))
    else:
        console.print_reproduction(outcome)
    if not outcome.is_same:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--as-is/--center",
    "as_is",
    default=None,
    help="Label the images as they are, because they already look like the dataset's; or center "
    "and scale them first (default: what the dataset's spec says).",
)
@click.option(
    "--each",
    is_flag=True,
    help="Cut out and label each digit of a picture, in reading order: a number, a postcode.",
)
@click.option(
    "--explain",
    "folder",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save what the model saw, as images in FOLDER.",
)
@click.option("--csv", "form", flag_value="csv", help="Print CSV instead of text.")
@click.option("--json", "form", flag_value="json", help="Print a line of JSON per image.")
@dataset_option
def predict(
    files: tuple[str, ...],
    *,
    as_is: bool | None,
    each: bool,
    folder: Path | None,
    form: "Form | None",
    dataset: str,
) -> None:
    """Label images of one digit each: FILES, folders, or - for standard input.

    PNG, JPEG, WebP, BMP, TIFF and GIF files are read; of several images in a file, the first.
    """
    if as_is and each:
        raise click.UsageError(
            "--as-is and --each exclude each other: images as they are are whole"
        )
    from digits.registry.champion import champion_version, load_champion
    from digits.training.streams import native_errors_in, separate_error_stream

    workspace = current_workspace()
    champion_version(dataset, workspace)
    separate_error_stream()
    configure_backend(resolve_device("auto"))
    from flows.labels import label_all

    champion = load_champion(dataset, workspace)
    # libtiff prints its warnings about odd files.
    with native_errors_in(Path(os.devnull)):
        is_all_labeled = label_all(
            files, champion, form=form or "text", as_is=as_is, each=each, folder=folder
        )
    if not is_all_labeled:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    default="keras,savedmodel,onnx,litert",
    show_default=True,
    help="Formats, separated by commas.",
)
@dataset_option
@console.json_option
def export(folder: Path, formats: str, dataset: str, as_json: bool) -> None:
    """Export the champion to a new FOLDER and check that each format gives the same labels."""
    from digits.registry.champion import champion_version, load_champion
    from digits.training.streams import native_errors_in, separate_error_stream

    workspace = current_workspace()
    champion_version(dataset, workspace)
    separate_error_stream()
    configure_backend("cpu")
    from digits.registry.exporting import export_champion

    champion = load_champion(dataset, workspace)
    with native_errors_in(workspace.settings.artifacts_dir / "logs" / "export.log"):
        facts = export_champion(champion, folder, split_names(formats), workspace)
    if as_json:
        console.print_json(facts)
    else:
        console.print_export(folder, facts)


@main.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Number of cache records to keep per step.",
)
@console.json_option
def gc(dry_run: bool, keep: int, as_json: bool) -> None:
    """Delete files that no model version, recent cache record or run needs."""
    console.show_logs()
    from digits.registry.garbage import collect

    collect(
        current_workspace(),
        keep_records=keep,
        is_dry_run=dry_run,
        announce=lambda garbage: (
            console.print_json(garbage.model_dump(mode="json"))
            if as_json
            else console.print_garbage(garbage, is_dry_run=dry_run)
        ),
    )


main.add_command(dataset_commands)


@main.command()
def up() -> None:
    """Start server, dashboard, deployments and worker on this machine, until Ctrl-C."""
    from flows import service

    console.show_logs()
    prepare_folders(Settings())
    service.up(Settings())


@main.command()
def down() -> None:
    """Stop what `digits up` started, even if it was killed."""
    from flows import service

    console.show_logs()
    service.down(Settings())


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Suspend garbage collection while objects are created that live until the process ends.

    A plan builds syntax trees and a run loads Prefect. Searching these objects for garbage again
    and again, and once more when Python exits, takes a third of a plan's time.
    """
    atexit.register(collector.freeze)
    collector.disable()
    try:
        yield
    finally:
        collector.freeze()
        collector.enable()


def split_names(names: str) -> list[str]:
    """Split a comma-separated list of names."""
    return [name.strip() for name in names.split(",") if name.strip()]
