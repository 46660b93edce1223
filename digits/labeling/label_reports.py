"""The report on a labeled folder of images: facts for other programs, and a page for people."""

from pathlib import Path

from digits.escaping import markdown_code, markdown_table, markdown_text
from digits.storage.references import Frozen


class Measure(Frozen):
    """One comparison: the index, the limit above which it counts as drift, and both means.

    The means are in the measured value's own unit; labels have none.
    """

    name: str
    index: float
    limit: float
    expected: float | None = None
    found: float | None = None

    @property
    def has_drifted(self) -> bool:
        """Whether the two differ by more than chance and by enough to matter."""
        return self.index > self.limit


class LabelReport(Frozen):
    """The outcome of labeling: the table's path, the number of images per class, and the drift.

    `passed` says which files and folders were passed over, a sentence each.
    """

    path: Path
    dataset: str
    version: int
    class_counts: dict[str, int]
    num_refused: int
    passed: tuple[str, ...] = ()
    drift: tuple[Measure, ...]

    @property
    def num_labelled(self) -> int:
        """The number of labeled images."""
        return sum(self.class_counts.values())

    @property
    def drifted(self) -> tuple[str, ...]:
        """The names of the measures that have drifted from the training data."""
        return tuple(measure.name for measure in self.drift if measure.has_drifted)


def label_page(labels: LabelReport) -> str:
    """Return a Markdown page: the labels, and the drift from the training data."""
    share = {
        name: count / max(labels.num_labelled, 1) for name, count in labels.class_counts.items()
    }
    rows = [
        (markdown_text(name), f"{labels.class_counts[name]:,}", f"{share[name]:.1%}")
        for name in share
    ]
    drift = [
        f"| {measure.name} | {_mean(measure.expected)} | {_mean(measure.found)} "
        f"| {measure.index:.3f} | {measure.limit:.3f} | {'yes' if measure.has_drifted else 'no'} |"
        for measure in labels.drift
    ]
    lines = [
        _summary(labels),
        "",
        _outcome(labels),
        "",
        *(f"- {markdown_text(sentence)}" for sentence in labels.passed),
        "",
        "| | training data | these images | divergence | limit | drifted |",
        "|---|---:|---:|---:|---:|---|",
        *drift,
        "",
        markdown_table(("label", "images", "share"), rows),
    ]
    return "\n".join(lines)


def _summary(labels: LabelReport) -> str:
    return (
        f"**{labels.num_labelled:,}** images labeled by version {labels.version} of "
        f"{labels.dataset}; {labels.num_refused:,} could not be labeled. The table is in "
        f"{markdown_code(str(labels.path))}."
    )


def _outcome(labels: LabelReport) -> str:
    if not labels.num_labelled:
        return "Nothing was labeled."
    if not labels.drifted:
        return "No drift from the champion's training data was found."
    return f"Drift from the champion's training data: {', '.join(labels.drifted)}."


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
