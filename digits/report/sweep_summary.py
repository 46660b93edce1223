"""The dashboard's Markdown page of a sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from digits.escaping import markdown_code, markdown_link, markdown_table, markdown_text
from digits.registry.ledger import Verdict
from digits.report.sentences import headline
from digits.sweeps.statistics import Summary


def sweep_page(
    name: str,
    summaries: Sequence[Summary],
    failures: Sequence[tuple[str, str]],
    verdicts: Mapping[str, Verdict],
    *,
    is_held_out: bool,
    page: Path,
    link: str | None,
) -> str:
    """Render the page of a sweep: its variants, what failed, and the decisions by dataset.

    `page` is the path of the HTML page, `link` its URL.
    """
    scored_on = "held-out training images" if is_held_out else "the test set"
    full = markdown_link("Full page", link) if link else f"Full page: {markdown_code(str(page))}"
    decided = [
        f"{markdown_text(dataset)}: {markdown_text(f'{headline(verdict)}. {verdict.reason}.')}"
        for dataset, verdict in verdicts.items()
    ]
    failed = [f"- {markdown_text(label)}: {markdown_text(reason)}" for label, reason in failures]
    parts = (
        f"# Sweep {markdown_text(name)}",
        f"Scored on {scored_on}; intervals of the mean over seeds.",
        full,
        *decided,
        *(["## Failures", "\n".join(failed)] if failed else []),
        markdown_table(
            ("dataset", "variant", "accuracy", "95% interval", "lowest", "highest", "seeds"),
            (_row(summary) for summary in summaries),
        ),
    )
    return "\n\n".join(parts) + "\n"


def _row(summary: Summary) -> tuple[str, ...]:
    interval = summary.interval
    return (
        markdown_text(summary.variant.dataset),
        markdown_text(summary.variant.label),
        f"{summary.mean:.2%}",
        f"{interval[0]:.2%} to {interval[1]:.2%}" if interval else "-",
        f"{summary.lowest:.2%}",
        f"{summary.highest:.2%}",
        str(len(summary.seeds)),
    )
