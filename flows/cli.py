"""The command line. Each command imports only what it needs: `digits status` loads no library."""

import atexit
import contextlib
import functools
import gc as collector
import json
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
from flows.interrupts import Interrupted, interruptible

if TYPE_CHECKING:
    from flows.labels import Form

P = ParamSpec("P")

dataset_option = click.option(
    "--dataset", default="mnist", show_default=True, help="A spec in data/datasets, by its name."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def run_options(function: Callable[P, Any]) -> Callable[P, Any]:
    """The options that say what a run retrains; `run` and `plan` share them."""
    options = (
        dataset_option,
        click.option(
            "--models",
            default="mlp,cnn",
            show_default=True,
            help="Which models to train, with commas.",
        ),
        click.option("--recipe", default="reference", show_default=True, help="How to train."),
        click.option(
            "--epochs", type=click.IntRange(min=1), help="Instead of the recipe's number."
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**31 - 1),
            default=0,
            show_default=True,
            help="Where all chance starts from.",
        ),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "gpu"]),
            default="auto",
            show_default=True,
            help="A GPU if there is one, or what you say.",
        ),
        click.option(
            "--require-significance",
            is_flag=True,
            help="Promote only if the exact McNemar test is significant too.",
        ),
    )
    return functools.reduce(lambda decorated, option: option(decorated), options[::-1], function)


class Commands(click.Group):
    """The commands, with errors that end in one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a failure ends it with one line and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click's own, and a reader that went away, which click ends silently
        except Interrupted as interrupted:
            ctx.exit(interrupted.code)
        except Exception as error:
            if ctx.params["traceback"]:
                raise
            message, code = explain(error)
            click.echo(f"Error: {message}", err=True)
            ctx.exit(code)


def explain(error: Exception) -> tuple[str, int]:
    """One line about an error, and the exit code that it ends the command with."""
    if isinstance(error, UsageError):
        return str(error), 2
    if isinstance(error, DigitsError):
        return str(error), 1
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the operating system'}: {error.strerror}", 1
    hint = "`digits --traceback ...` shows where"
    return f"unexpected {type(error).__name__}: {error} ({hint})", 1


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--traceback", is_flag=True, help="Show Python's traceback when something fails.")
def main(traceback: bool) -> None:  # noqa: ARG001  (read where an error is explained)
    """Retrain two digit classifiers, keep the better one, and be able to show and undo it."""
    prepare_environment(Settings())


@main.command()
@run_options
@json_option
def run(as_json: bool, models: str, **options: Any) -> None:
    """One retrain in this process: data, training, evaluation, decision, report."""
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
        print_json(console.run_facts(result))
    else:
        console.print_run(result)


@main.command()
@dataset_option
@json_option
def status(dataset: str, as_json: bool) -> None:
    """The champion, and the last decision about it."""
    from digits.registry.history import status as status_of
    from digits.spec import load_spec

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    facts = status_of(dataset, workspace)
    if as_json:
        print_json(facts)
    else:
        console.print_status(facts)


@main.command()
@dataset_option
@json_option
def history(dataset: str, as_json: bool) -> None:
    """Every decision ever taken about the champion, oldest first."""
    from digits.registry.history import describe_entry
    from digits.spec import load_spec

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    entries = [describe_entry(entry) for entry in Ledger(dataset, workspace.settings).entries()]
    if as_json:
        print_json(entries)
    else:
        console.print_history(dataset, entries)


@main.command()
@click.argument("version", type=click.IntRange(min=1), required=False)
@dataset_option
@json_option
def rollback(version: int | None, dataset: str, as_json: bool) -> None:
    """Make an earlier champion the champion again: VERSION, or the one before."""
    from digits.registry.history import describe_entry, roll_back
    from digits.spec import load_spec

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    facts = describe_entry(roll_back(dataset, version, "by hand", workspace))
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{facts['reason']}; the champion is version {facts['champion_after']}")


@main.command()
@run_options
@json_option
def plan(as_json: bool, models: str, **options: Any) -> None:
    """Which steps `run` would execute now, and why. Runs nothing."""
    from flows.pipeline import Request
    from flows.plan import plan_run

    workspace = current_workspace()
    options["models"] = split_names(models)
    request = Request.of(**options, settings=workspace.settings)
    with uncollected():
        steps = plan_run(request, workspace)
    if as_json:
        print_json([step.model_dump(mode="json") for step in steps])
    else:
        console.print_plan(steps)


@main.command()
@click.argument("version", type=click.IntRange(min=1))
@dataset_option
@json_option
def reproduce(version: int, dataset: str, as_json: bool) -> None:
    """Train VERSION again and say whether the weights came out the same."""
    console.show_logs()
    from digits.progress import bars
    from digits.registry.reproduction import reproduce as train_again
    from digits.spec import load_spec

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    with interruptible(), bars():
        outcome = train_again(dataset, version, workspace)
    if as_json:
        print_json(outcome.model_dump(mode="json"))
    else:
        console.print_reproduction(outcome)
    if not outcome.is_same:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--as-is", is_flag=True, help="They are like the dataset's: do not centre and scale.")
@click.option(
    "--explain",
    "folder",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write pictures of what the model saw into FOLDER.",
)
@click.option("--csv", "form", flag_value="csv", help="Print CSV for machines.")
@click.option("--json", "form", flag_value="json", help="Print a line of JSON for each.")
@dataset_option
def predict(
    files: tuple[str, ...], as_is: bool, folder: Path | None, form: "Form | None", dataset: str
) -> None:
    """Label pictures of one digit each: PNG or JPEG FILES, folders of them, - for one on stdin."""
    from digits.registry.champion import champion_version, load_champion
    from digits.training.streams import separate_error_stream

    workspace = current_workspace()
    champion_version(dataset, workspace)
    separate_error_stream()
    configure_backend(resolve_device("auto"))
    from flows.labels import label_all

    champion = load_champion(dataset, workspace)
    if not label_all(files, champion, form=form or "text", as_is=as_is, folder=folder):
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    default="keras,savedmodel,onnx,litert",
    show_default=True,
    help="In which formats, with commas.",
)
@dataset_option
@json_option
def export(folder: Path, formats: str, dataset: str, as_json: bool) -> None:
    """Write the champion into a new FOLDER, in formats that are proved to give the same labels."""
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
        print_json(facts)
    else:
        console.print_export(folder, facts)


@main.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="How many cache entries of each step stay.",
)
@json_option
def gc(dry_run: bool, keep: int, as_json: bool) -> None:
    """Delete what no version, no recent cache entry and no run needs."""
    console.show_logs()
    from digits.registry.garbage import collect

    collect(
        current_workspace(),
        keep_records=keep,
        is_dry_run=dry_run,
        announce=lambda garbage: (
            print_json(garbage.model_dump(mode="json"))
            if as_json
            else console.print_garbage(garbage, is_dry_run=dry_run)
        ),
    )


main.add_command(dataset_commands)


@main.command()
def up() -> None:
    """Server, dashboard, deployments and a worker on this machine, until Ctrl-C."""
    from flows import service

    console.show_logs()
    prepare_folders(Settings())
    service.up(Settings())


@main.command()
def down() -> None:
    """End what `digits up` started and did not end itself."""
    from flows import service

    console.show_logs()
    service.down(Settings())


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Make objects that stay to the end of the process without looking through them meanwhile.

    A plan makes syntax trees, a run loads Prefect: to look for what could go among them, then, now
    and again, and once more when Python ends, takes a third of a plan's time.
    """
    atexit.register(collector.freeze)
    collector.disable()
    try:
        yield
    finally:
        collector.freeze()
        collector.enable()


def split_names(names: str) -> list[str]:
    """Names that were given with commas between them."""
    return [name.strip() for name in names.split(",") if name.strip()]


def print_json(value: Any) -> None:
    """Print a value as JSON on the standard output."""
    click.echo(json.dumps(value, indent=1))
