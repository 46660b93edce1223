"""The command line. Each command imports only what it needs, so `digits status` starts fast."""

import atexit
import contextlib
import functools
import gc as collector
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from digits.errors import DigitsError, UsageError
from digits.models import MODELS
from digits.recipes import RECIPES
from digits.registry.ledger import Ledger
from digits.settings import Settings
from digits.storage.permissions import as_the_user_asked, write_for_owner
from digits.storage.workspace import current_workspace
from digits.training.devices import configure_backend
from flows import console
from flows.card_command import card as card_command
from flows.dataset_commands import dataset as dataset_commands
from flows.environment import prepare_environment, prepare_folders
from flows.feedback_commands import feedback as feedback_commands
from flows.heartbeats import without_heartbeats
from flows.interrupts import Interrupted, interruptible, received
from flows.options import FORMATS, Names, dataset_option
from flows.serve_command import serve
from flows.serving.pools import POOLS, PoolName
from flows.serving.processes import NEUTRAL_FOLDER
from flows.store_commands import store as store_commands
from flows.sweeps.command import sweep
from flows.team_commands import register, server, services, worker

if TYPE_CHECKING:
    from flows.labels import Form

P = ParamSpec("P")


def run_options(function: Callable[P, Any]) -> Callable[P, Any]:
    """Add the options that describe a run; `run` and `plan` share them."""
    options = (
        dataset_option,
        click.option(
            "--models",
            type=Names(MODELS),
            default="mlp,cnn",
            show_default=True,
            help="Models to train, separated by commas.",
        ),
        click.option(
            "--recipe",
            type=click.Choice(list(RECIPES)),
            default="reference",
            show_default=True,
            help="Training recipe; `docs/recipes.md` compares them.",
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
            "--precision",
            type=click.Choice(["auto", "float32", "bfloat16"]),
            default="auto",
            show_default=True,
            help="Number type of the layers; `auto` leaves it to the recipe and the device.",
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
            console.echo(f"Error: {message}", err=True)
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
@click.option("-q", "--quiet", is_flag=True, help="Show results, warnings and errors, no progress.")
@click.version_option(package_name="digits")
def main(**_: bool) -> None:  # `Commands.invoke` and `console` read the options
    """Retrain two digit classifiers, promote the better one, and review or undo promotions."""
    settings = Settings()
    write_for_owner(settings)
    prepare_environment(settings)


@main.command()
@run_options
@click.option(
    "--train-on",
    type=click.Choice(POOLS),
    help="Work pool whose machines train  [default: this machine trains]",
)
@console.json_option
def run(as_json: bool, train_on: PoolName | None, **options: Any) -> None:
    """Retrain in this process: prepare data, train, evaluate, promote or keep, report."""
    console.show_logs()
    workspace = current_workspace()
    from flows.pipeline import Request

    request = Request.of(**options, settings=workspace.settings)
    prepare_folders(workspace.settings)
    has_server = bool(os.environ.get("PREFECT_API_URL"))
    if train_on and not has_server:
        raise UsageError("--train-on needs a server with workers: set PREFECT_API_URL")
    from digits.progress import bars
    from flows.serving.embedded_server import prefect_server

    with (
        contextlib.chdir(NEUTRAL_FOLDER),
        interruptible(),
        prefect_server() as wait_for_server,
        bars(not console.is_quiet()),
    ):
        with uncollected():
            from flows.retrain import retrain

            if not has_server:
                from flows.loading import load_ahead

                load_ahead(request, workspace)
        wait_for_server()
        with without_heartbeats():
            result = retrain(**options, train_on=train_on)
    if as_json:
        console.print_json(console.run_facts(result))
    else:
        console.print_run(result)


@main.command()
@dataset_option
@click.option(
    "--hardware", is_flag=True, help="Also show what models are trained on here, and how."
)
@console.json_option
def status(dataset: str, hardware: bool, as_json: bool) -> None:
    """Show the champion and the last decision about it."""
    from digits.registry.history import status as status_of
    from digits.spec import load_spec

    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    facts = status_of(dataset, workspace)
    if hardware:
        from digits.training.hardware import describe_hardware

        facts["hardware"] = describe_hardware()
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
    from digits.tracking.publication import publish

    console.show_logs()
    workspace = current_workspace()
    load_spec(dataset, workspace.settings)
    facts = describe_entry(roll_back(dataset, version, "by hand", workspace))
    warning = publish(dataset, workspace.settings)
    if warning is not None:
        console.echo(f"Warning: {warning}", err=True)
    if as_json:
        console.print_json(facts)
    else:
        click.echo(f"{facts['reason']}; the champion is now version {facts['champion_after']}")


@main.command()
@run_options
@console.json_option
def plan(as_json: bool, **options: Any) -> None:
    """Show which steps `run` would execute, and why, without running anything."""
    from flows.pipeline import Request
    from flows.plan import plan_run

    workspace = current_workspace()
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
    with interruptible(), bars(not console.is_quiet()):
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
    from digits.inference.loaded_versions import load_version
    from digits.training.streams import native_errors_in, separate_error_stream
    from flows.labels import label_all

    separate_error_stream()
    champion = load_version(dataset, current_workspace(), threads=os.cpu_count() or 1)
    # libtiff prints its warnings about odd files.
    with native_errors_in(Path(os.devnull)), as_the_user_asked():
        is_complete = label_all(
            files, champion, form=form or "text", as_is=as_is, each=each, folder=folder
        )
    if not is_complete:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    type=Names(FORMATS),
    default=",".join(FORMATS),
    show_default=True,
    help="Formats, separated by commas.",
)
@dataset_option
@console.json_option
def export(folder: Path, formats: list[str], dataset: str, as_json: bool) -> None:
    """Export the champion to a new FOLDER and check that each format gives the same labels."""
    from digits.registry.champion import champion_version, load_keras_champion
    from digits.training.streams import native_errors_in, separate_error_stream

    workspace = current_workspace()
    champion_version(dataset, workspace)
    separate_error_stream()
    configure_backend("cpu")
    from digits.cards.model_card import model_card
    from digits.registry.exporting import export_champion

    champion = load_keras_champion(dataset, workspace)
    log = workspace.settings.artifacts_dir / "logs" / "export.log"
    with native_errors_in(log), as_the_user_asked():
        card = model_card(dataset, champion.version.number, workspace)
        facts = export_champion(champion, folder, formats, workspace, card=card)
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
@click.option(
    "--refused-days",
    type=click.IntRange(min=1),
    help="Also delete refused batches that are older than this (default: keep them all).",
)
@click.option(
    "--grace-hours",
    type=click.IntRange(min=12),
    default=24,
    show_default=True,
    help="In DIGITS_STORE, keep what any machine has written or used in these hours: more than six "
    "hours longer than the longest run.",
)
@console.json_option
def gc(dry_run: bool, keep: int, refused_days: int | None, grace_hours: int, as_json: bool) -> None:
    """Delete files that no model version, recent cache record or run needs."""
    console.show_logs()
    from digits.registry.garbage import collect

    collect(
        current_workspace(),
        keep_records=keep,
        refused_days=refused_days,
        grace=timedelta(hours=grace_hours),
        is_dry_run=dry_run,
        announce=lambda garbage: (
            console.print_json(garbage.model_dump(mode="json"))
            if as_json
            else console.print_garbage(garbage, is_dry_run=dry_run)
        ),
    )


main.add_command(card_command)
main.add_command(dataset_commands)
main.add_command(feedback_commands)
main.add_command(serve)
main.add_command(store_commands)
for command in (server, services, register, sweep, worker):
    main.add_command(command)


@main.command()
@console.json_option
def doctor(as_json: bool) -> None:
    """Check this machine and workspace, and say what is wrong and how to mend it."""
    from flows.doctor import diagnose

    findings = diagnose(Settings())
    if as_json:
        console.print_json([finding.model_dump() for finding in findings])
    else:
        console.print_diagnosis(findings)
    if any(finding.state == "wrong" for finding in findings):
        raise click.exceptions.Exit(1)


@main.command()
@click.option(
    "--new-database",
    is_flag=True,
    help="Move the dashboard's history aside and start a new one; models and decisions are kept.",
)
def up(new_database: bool) -> None:
    """Start server, dashboard, deployments and worker on this machine, until Ctrl-C."""
    from flows.serving import service

    console.show_logs()
    prepare_folders(Settings())
    with contextlib.chdir(NEUTRAL_FOLDER):
        service.up(Settings(), has_new_database=new_database)


@main.command()
def down() -> None:
    """Stop what `digits up` started, even if it was killed."""
    from flows.serving import service

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
