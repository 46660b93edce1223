"""What the commands print: styled logs and tables in a terminal, plain lines elsewhere."""

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.storage.workspace import current_workspace
from digits.training.streams import separate_error_stream

if TYPE_CHECKING:
    from digits.intake.incoming import Addition
    from digits.registry.garbage import Garbage
    from digits.registry.reproduction import Reproduction
    from flows.plan import PlannedStep
    from flows.retrain import RunResult

LOGGERS = ("digits", "tasks", "flows")
TIME_FORMAT = "%H:%M:%S"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    click.echo(json.dumps(value, indent=1))


def show_logs() -> None:
    """Show the project's own log records on standard error, one line each."""
    separate_error_stream()
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.highlighter import NullHighlighter
        from rich.logging import RichHandler

        from digits.progress import console

        handler = RichHandler(
            console=console(),
            show_path=False,
            show_level=False,
            omit_repeated_times=False,
            log_time_format=TIME_FORMAT,
            highlighter=NullHighlighter(),
            keywords=[],
        )
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", TIME_FORMAT))
    handler.addFilter(Once("digits.training.devices"))
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)


class Once:
    """A log filter that shows each message of one logger once, though every step repeats it."""

    def __init__(self, logger_name: str) -> None:
        self._logger_name = logger_name
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to show the record."""
        if record.name != self._logger_name:
            return True
        is_new = record.getMessage() not in self._said
        self._said.add(record.getMessage())
        return is_new


def run_facts(result: "RunResult") -> dict[str, Any]:
    """Return a run's outcome as plain values, for --json."""
    return {
        "run": result.run,
        "dataset": {
            "version": result.outcome.version.number,
            "batches": [batch.batch for batch in result.outcome.version.batches],
        },
        "models": [
            {
                "model": model.model,
                "digest": model.digest,
                "num_parameters": model.num_parameters,
                "accuracy": score.accuracy,
                "interval": score.interval,
                "loss": score.loss,
                "seconds": round(model.seconds, 1),
                "device": model.device,
            }
            for model, score in result.outcome.scored
        ],
        "decision": result.outcome.decision.entry.verdict.model_dump(mode="json"),
        "report": str(report_path(result)),
        "steps": {
            label: "executed" if made_in is None else f"cached from {made_in}"
            for label, made_in in result.steps.items()
        },
    }


def report_path(result: "RunResult") -> Any:
    """Return the path of a run's report."""
    return current_workspace().store.folder(result.outcome.report) / "report.html"


def print_run(result: "RunResult") -> None:
    """Print the models, the decision and its reason, the steps, and the path of the report."""
    from rich.console import Console
    from rich.table import Table

    from digits.report.sentences import shared_remark

    table = Table("model", box=None, pad_edge=False)
    for heading in ("parameters", "test accuracy", "95% interval", "test loss", "training time"):
        table.add_column(heading, justify="right")
    for model, score in result.outcome.scored:
        low, high = score.interval
        table.add_row(
            model.model,
            f"{model.num_parameters:,}",
            f"{score.accuracy:.2%}",
            f"{low:.2%} to {high:.2%}",
            f"{score.loss:.4f}",
            f"{model.seconds:.1f} s",
        )
    verdict = result.outcome.decision.entry.verdict
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print()
    console.print(table)
    outcome = result.outcome
    shared = shared_remark(outcome.validation.num_shared_images, outcome.scored[0][1].num_images)
    if shared:
        console.print(f"\n{shared}")
    console.print(f"\nDecision: {verdict.outcome}: {verdict.reason}")
    if verdict.champion_after is not None:
        console.print(f"Champion: version {verdict.champion_after}")
    console.print(f"Data:     {result.outcome.version.describe()}")
    console.print(f"Steps:    {describe_steps(result.steps)}")
    console.print(f"Report:   {report_path(result)}")


def describe_steps(steps: dict[str, str | None]) -> str:
    """Return one line that says which steps were executed."""
    executed = [label for label, made_in in steps.items() if made_in is None]
    cached = len(steps) - len(executed)
    if not executed:
        return f"nothing has changed: all {cached} came from the cache, nothing was trained"
    return f"executed {', '.join(executed)}" + (f"; {cached} from the cache" if cached else "")


def print_addition(addition: "Addition") -> None:
    """Print what happened to a batch, with each reason on a separate line."""
    if addition.status == "quarantined":
        click.echo(f"refused: {addition.source} was not added to {addition.dataset}")
        for reason in addition.reasons:
            click.echo(f"  {reason}")
        click.echo(f"Page: {addition.page}")
    else:
        click.echo(addition.describe())
    for warning in addition.warnings:
        click.echo(f"  warning: {warning}")


def print_versions(facts: dict[str, Any]) -> None:
    """Print each change of a dataset, then the waiting and the refused batches."""
    click.echo(f"{facts['dataset']}: dataset version {facts['version']}")
    for change in facts["changes"]:
        images = f"{change['num_train']:+,} train {change['num_test']:+,} test"
        click.echo(
            f"{change['version']:4}  {change['time']}  {change['action']:7}  "
            f"{change['batch'][:12]}  {images}  [{change['source']}]"
        )
    for name in facts["waiting"]:
        click.echo(f"waiting in the incoming folder: {name}")
    for page in facts["quarantined"]:
        click.echo(f"refused: {page}")


def print_status(facts: dict[str, Any]) -> None:
    """Print the champion and the last decision."""
    champion, last = facts["champion"], facts["last_decision"]
    if champion is None:
        click.echo(f"{facts['dataset']} has no champion yet; `digits run` makes one")
    else:
        low, high = champion["interval"]
        click.echo(
            f"{facts['dataset']}: version {champion['version']}, {champion['model']} with "
            f"{champion['num_parameters']:,} parameters, since {champion['since']}\n"
            f"  test accuracy {champion['accuracy']:.2%} ({low:.2%} to {high:.2%}), "
            f"loss {champion['loss']:.4f}\n  model {champion['digest']}"
        )
    if last is not None:
        click.echo(f"last decision, {last['time']}: {last['outcome']}: {last['reason']}")


def print_history(dataset: str, entries: list[dict[str, Any]]) -> None:
    """Print each decision on one line."""
    if not entries:
        click.echo(f"no decisions about {dataset} yet; `digits run` makes the first one")
    for entry in entries:
        before, after = entry["champion_before"], entry["champion_after"]
        champion = f"{before or '-'} -> {after or '-'}"
        click.echo(
            f"{entry['number']:4}  {entry['time']}  {entry['outcome']:11}  {champion:9}  "
            f"{entry['reason']}  [{entry['run']}]"
        )


def print_plan(steps: "list[PlannedStep]") -> None:
    """Print what each step would do, and whether anything would run."""
    would = {"run": "runs", "stay cached": "cached", "depend": "depends"}
    for step in steps:
        click.echo(f"{step.step:13} {would[step.would]:8} {step.reason}")
    if all(step.would == "stay cached" or step.step == "promote" for step in steps):
        click.echo("nothing has changed: `run` would only decide about the promotion")


def print_reproduction(outcome: "Reproduction") -> None:
    """Print whether a version was reproduced, and what differs from the original run."""
    if outcome.is_same:
        click.echo(f"version {outcome.version} was reproduced bit for bit: {outcome.recorded}")
    else:
        click.echo(
            f"version {outcome.version} was not reproduced: recorded {outcome.recorded[:12]}, "
            f"now {outcome.reproduced[:12]}"
        )
    for difference in outcome.differences:
        click.echo(f"  differs: {difference}")


def print_garbage(garbage: "Garbage", *, is_dry_run: bool) -> None:
    """Print what is or would be deleted, and how much space that frees."""
    for path in garbage.paths:
        click.echo(str(path))
    verb = "would free" if is_dry_run else "freeing"
    click.echo(f"{verb} {garbage.num_bytes / 1e6:.1f} MB in {len(garbage.paths)} places")


def print_export(folder: Path, facts: dict[str, Any]) -> None:
    """Print the path of each exported format, and the result of the check."""
    for form, name in facts["formats"].items():
        click.echo(f"{form:10} {folder / name}")
    click.echo(
        f"each gives the same label as {facts['dataset']} version {facts['version']} on all "
        f"{facts['num_images_with_the_same_label']:,} test images"
    )
