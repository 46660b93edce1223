"""What `digits sweep` prints: its plan, and the variants with their means and intervals."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from digits.report.sentences import headline
from digits.storage.workspace import current_workspace
from digits.sweeps.statistics import Summary, best
from flows import console
from flows.plan import PlannedStep

if TYPE_CHECKING:
    from flows.sweep import SweepResult

HEADINGS = ("mean", "95% interval", "lowest", "highest", "seeds", "seconds", "cached")


def print_planned(steps: Sequence[PlannedStep], *, as_json: bool) -> None:
    """Print each training and whether it would run."""
    if as_json:
        console.print_json([step.model_dump(mode="json") for step in steps])
        return
    would = {"run": "runs", "stay cached": "cached", "depend": "depends"}
    width = max(len(step.step) for step in steps)
    for step in steps:
        console.echo(f"{step.step:{width}}  {would[step.would]:8} {step.reason}")
    num_cached = sum(step.would == "stay cached" for step in steps)
    console.echo(f"{len(steps)} trainings, {num_cached} of them cached")


def print_sweep(result: "SweepResult") -> None:
    """Print the variants of each dataset, the decisions, and the path of the page."""
    terminal = Console(highlight=False, markup=False, soft_wrap=True)
    if not terminal.is_terminal:
        terminal.width = console.LOG_WIDTH
    if result.trainings:
        terminal.print()
        terminal.print(_table(result))
        terminal.print()
    request = result.request
    scored_on = "held-out training images" if request.is_held_out else "the test set"
    terminal.print(f"Scored on: {scored_on}; intervals of the mean over seeds, by Student's t")
    if request.is_held_out is False and len(result.summaries) > 1:
        terminal.print("           the best of many on one test set is optimistic: see --held-out")
    for dataset in request.specs:
        of_dataset = [one for one in result.summaries if one.variant.dataset == dataset]
        if of_dataset:
            first = best(of_dataset)
            terminal.print(f"Best:      {dataset}: {first.variant.label}, {first.mean:.2%}")
    for dataset, outcome in result.outcomes.items():
        verdict = outcome.decision.entry.verdict
        terminal.print(f"Decision:  {dataset}: {headline(verdict)}: {verdict.reason}")
    num_cached = sum(training.is_cached for training in result.trainings)
    terminal.print(
        f"Trainings: {len(result.trainings) - num_cached} trained, {num_cached} from the cache"
    )
    terminal.print(f"Page:      {_page(result)}")


def _table(result: "SweepResult") -> Table:
    table = Table("dataset", "variant", box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    cached = _num_cached(result)
    for summary in result.summaries:
        interval = summary.interval
        table.add_row(
            summary.variant.dataset,
            summary.variant.label,
            f"{summary.mean:.2%}",
            f"{interval[0]:.2%} to {interval[1]:.2%}" if interval else "-",
            f"{summary.lowest:.2%}",
            f"{summary.highest:.2%}",
            str(len(summary.seeds)),
            f"{summary.seconds:.1f}",
            str(cached[summary.variant.name]),
        )
    return table


def sweep_facts(result: "SweepResult") -> dict[str, Any]:
    """Return a sweep's outcome as plain values, for --json."""
    cached = _num_cached(result)
    return {
        "name": result.request.name,
        "scored_on": "held-out images" if result.request.is_held_out else "test set",
        "device": result.request.device,
        "variants": [_facts(one, cached[one.variant.name]) for one in result.summaries],
        "trainings": [
            {
                "dataset": training.combination.variant.dataset,
                "variant": training.combination.variant.label,
                "seed": training.combination.seed,
                "accuracy": training.scored[1].accuracy,
                "loss": training.scored[1].loss,
                "seconds": round(training.scored[0].seconds, 1),
                "digest": training.scored[0].digest,
                "is_cached": training.is_cached,
            }
            for training in result.trainings
        ],
        "failures": [
            {"what": failure.label, "reason": failure.reason} for failure in result.failures
        ],
        "decisions": {
            dataset: outcome.decision.entry.verdict.model_dump(mode="json")
            for dataset, outcome in result.outcomes.items()
        },
        "page": str(_page(result)),
    }


def _facts(summary: Summary, num_cached: int) -> dict[str, Any]:
    return {
        "dataset": summary.variant.dataset,
        "variant": summary.variant.label,
        "model": summary.variant.model,
        "recipe": summary.variant.recipe,
        "settings": summary.variant.settings.model_dump(mode="json", exclude={"seed"}),
        "seeds": list(summary.seeds),
        "mean": summary.mean,
        "interval": summary.interval,
        "lowest": summary.lowest,
        "highest": summary.highest,
        "seconds": round(summary.seconds, 1),
        "num_cached": num_cached,
    }


def _num_cached(result: "SweepResult") -> Counter[str]:
    return Counter(
        training.combination.variant.name for training in result.trainings if training.is_cached
    )


def _page(result: "SweepResult") -> Any:
    return current_workspace().store.folder(result.page) / "report.html"
