"""What the commands print: styled logs and tables in a terminal, plain lines elsewhere."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.escaping import lines
from digits.progress import is_terminal
from digits.storage.workspace import current_workspace
from digits.training.streams import separate_error_stream

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from digits.intake.incoming import Addition
    from digits.registry.garbage import Garbage
    from digits.registry.reproduction import Reproduction
    from digits.storage.references import EvaluationRef, ModelRef
    from flows.doctor import Finding
    from flows.plan import PlannedStep
    from flows.retrain import RunResult

LOGGERS = ("digits", "tasks", "flows")
TIME_FORMAT = "%H:%M:%S"
# Columns of the table of models, in the order in which a narrow terminal loses them.
NEEDED_LEAST = ("95% interval", "test loss", "parameters")
# A log is not folded at the 80 columns that are assumed for it.
LOG_WIDTH = 200

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    click.echo(json.dumps(value, indent=1))


def echo(text: str, *, err: bool = False) -> None:
    """Print text of ours; foreign text in it cannot act in the terminal."""
    click.echo(lines(text), err=err)


class Inert(logging.Formatter):
    """Formats log records so that foreign text in them cannot act in the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted record."""
        return lines(super().format(record))


def show_logs() -> None:
    """Show the project's own log records on standard error, one line each.

    With --quiet, show only warnings and errors.
    """
    separate_error_stream()
    handler: logging.Handler
    if is_terminal():
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
        handler.setFormatter(Inert())
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(Inert("%(asctime)s %(message)s", TIME_FORMAT))
    handler.addFilter(Once("digits.training.devices"))
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.WARNING if is_quiet() else logging.INFO)


def is_quiet() -> bool:
    """Return whether the current command was called with --quiet."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().params.get("quiet"))


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

    from digits.report.sentences import shared_remark

    verdict = result.outcome.decision.entry.verdict
    outcome = describe_outcome(verdict.outcome, verdict.champion_after)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    console.print()
    console.print(model_table(result.outcome.scored, console))
    validation, (_, score) = result.outcome.validation, result.outcome.scored[0]
    shared = shared_remark(validation.num_shared_images, score.num_images)
    if shared:
        console.print(f"\n{shared}")
    console.print(f"\nDecision: {outcome}: {verdict.reason}")
    if verdict.champion_after is not None:
        console.print(f"Champion: version {verdict.champion_after}")
    console.print(f"Data:     {result.outcome.version.describe()}")
    console.print(f"Steps:    {describe_steps(result.steps)}")
    console.print(f"Report:   {report_path(result)}")


def model_table(scored: "Sequence[tuple[ModelRef, EvaluationRef]]", console: "Console") -> "Table":
    """Return the models as a table; in a narrow terminal, without the columns needed least."""
    from rich.table import Table

    rows = [_model_row(model, score) for model, score in scored]
    headings = list(rows[0])
    for dropped in ("", *NEEDED_LEAST):
        headings = [heading for heading in headings if heading != dropped]
        table = Table(headings[0], box=None, pad_edge=False)
        for heading in headings[1:]:
            table.add_column(heading, justify="right")
        for row in rows:
            table.add_row(*(row[heading] for heading in headings))
        unfolded = console.options.update(max_width=LOG_WIDTH)
        if console.measure(table, options=unfolded).maximum <= console.width:
            break
    return table


def _model_row(model: "ModelRef", score: "EvaluationRef") -> dict[str, str]:
    low, high = score.interval
    return {
        "model": model.model,
        "parameters": f"{model.num_parameters:,}",
        "test accuracy": f"{score.accuracy:.2%}",
        "95% interval": f"{low:.2%} to {high:.2%}",
        "test loss": f"{score.loss:.4f}",
        "training time": f"{model.seconds:.1f} s",
    }


def describe_outcome(outcome: str, champion_after: int | None) -> str:
    """Return the outcome of a decision in words: without a champion, there is none to keep."""
    is_none = outcome == "kept" and champion_after is None
    return "nothing promoted; still no champion" if is_none else outcome


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
        echo(f"refused: {addition.source} was not added to {addition.dataset}")
        for reason in addition.reasons:
            echo(f"  {reason}")
        echo(f"Page: {addition.page}")
    else:
        echo(addition.describe())
    for warning in addition.warnings:
        echo(f"  warning: {warning}")


def print_versions(facts: dict[str, Any]) -> None:
    """Print each change of a dataset, then the waiting and the refused batches."""
    echo(f"{facts['dataset']}: dataset version {facts['version']}")
    for change in facts["changes"]:
        images = f"{change['num_train']:+,} train {change['num_test']:+,} test"
        echo(
            f"{change['version']:4}  {change['time']}  {change['action']:7}  "
            f"{change['batch'][:12]}  {images}  [{change['source']}]"
        )
    for name in facts["waiting"]:
        echo(f"waiting in the incoming folder: {name}")
    for page in facts["quarantined"]:
        echo(f"refused: {page}")


def print_corrections(facts: list[dict[str, Any]]) -> None:
    """Print how many corrections of each dataset wait, and where."""
    if not facts:
        echo("no corrections wait")
    for one in facts:
        echo(f"{one['dataset']}: {_sizes(one)} in {one['folder']}")
        echo(f"  look through them, then run `digits feedback add {one['dataset']}`")


def print_passed_on(dataset: str, batches: list[dict[str, Any]]) -> None:
    """Print the new batches of corrections in the incoming folder."""
    if not batches:
        echo(f"no corrections of {dataset} wait")
    for batch in batches:
        echo(f"{_sizes(batch)}: now {batch['batch']}")
    if batches:
        echo("the next run validates this data like any other batch")


def _sizes(facts: dict[str, Any]) -> str:
    num, sizes = facts["num_images"], facts["class_sizes"]
    classes = ", ".join(f"{name}: {size}" for name, size in sizes.items())
    return f"{num:,} correction{'s' * (num != 1)} ({classes})"


def print_status(facts: dict[str, Any]) -> None:
    """Print the champion and the last decision."""
    champion, last = facts["champion"], facts["last_decision"]
    if champion is None:
        echo(f"{facts['dataset']} has no champion yet; `digits run` makes one")
    else:
        low, high = champion["interval"]
        echo(
            f"{facts['dataset']}: version {champion['version']}, {champion['model']} with "
            f"{champion['num_parameters']:,} parameters, since {champion['since']}\n"
            f"  test accuracy {champion['accuracy']:.2%} ({low:.2%} to {high:.2%}), "
            f"loss {champion['loss']:.4f}\n  model {champion['digest']}"
        )
    if last is not None:
        outcome = describe_outcome(last["outcome"], last["champion_after"])
        echo(f"last decision, {last['time']}: {outcome}: {last['reason']}")
    if facts["report"] is not None:
        echo(f"last report: {facts['report']}")
    if "hardware" in facts:
        print_hardware(facts["hardware"])


def print_hardware(facts: dict[str, Any]) -> None:
    """Print what models are trained on, and what decides how."""
    variables = [f"{name}={value}" for name, value in facts["variables"].items()]
    echo(
        f"device: {facts['device']}, with {facts['backend']}\nprocessor: {facts['processor']}\n"
        f"fastest precision: {facts['precision']}; {facts['reason']}\n"
        f"variables that change bits: {', '.join(variables) or 'none is set'}"
    )


def print_history(dataset: str, entries: list[dict[str, Any]]) -> None:
    """Print each decision on one line."""
    if not entries:
        echo(f"no decisions about {dataset} yet; `digits run` makes the first one")
    for entry in entries:
        before, after = entry["champion_before"], entry["champion_after"]
        champion = f"{before or '-'} -> {after or '-'}"
        echo(
            f"{entry['number']:4}  {entry['time']}  {entry['outcome']:11}  {champion:9}  "
            f"{entry['reason']}  [{entry['run']}]"
        )


def print_plan(steps: "list[PlannedStep]") -> None:
    """Print what each step would do, and whether anything would run."""
    would = {"run": "runs", "stay cached": "cached", "depend": "depends"}
    for step in steps:
        echo(f"{step.step:13} {would[step.would]:8} {step.reason}")
    if all(step.would == "stay cached" or step.step == "promote" for step in steps):
        echo("nothing has changed: `run` would only decide about the promotion")


def print_reproduction(outcome: "Reproduction") -> None:
    """Print whether a version was reproduced, and what differs from the original run."""
    if outcome.is_same:
        echo(f"version {outcome.version} was reproduced bit for bit: {outcome.recorded}")
    else:
        echo(
            f"version {outcome.version} was not reproduced: recorded {outcome.recorded[:12]}, "
            f"now {outcome.reproduced[:12]}"
        )
    for difference in outcome.differences:
        echo(f"  differs: {difference}")


def print_garbage(garbage: "Garbage", *, is_dry_run: bool) -> None:
    """Print what is or would be deleted, and how much space that frees."""
    places = [*map(str, garbage.paths), *garbage.objects]
    for place in places:
        echo(place)
    verb = "would free" if is_dry_run else "freeing"
    echo(f"{verb} {garbage.num_bytes / 1e6:.1f} MB in {len(places)} places")


def print_export(folder: Path, facts: dict[str, Any]) -> None:
    """Print the path of each exported format, and the result of the check."""
    for form, name in facts["formats"].items():
        echo(f"{form:10} {folder / name}")
    echo(
        f"each gives the same label as {facts['dataset']} version {facts['version']} on all "
        f"{facts['num_images_with_the_same_label']:,} test images"
    )


def print_diagnosis(findings: "list[Finding]") -> None:
    """Print each finding on one line, what to do about it on the next, and a count at the end."""
    for finding in findings:
        echo(f"{finding.state:8} {finding.subject:9} {finding.found}")
        if finding.advice:
            echo(f"{'':18} -> {finding.advice}")
    num_wrong = sum(finding.state == "wrong" for finding in findings)
    click.echo(f"{num_wrong} wrong" if num_wrong else "nothing is wrong")
