"""What came of labelling a folder of pictures: facts for other programs, and a page for people."""

from pathlib import Path

from digits.storage.references import Frozen


class Measure(Frozen):
    """One comparison: the index, the limit above which it is drift, and both means.

    The means are of the measured value, in its own unit; labels have none.
    """

    name: str
    index: float
    limit: float
    expected: float | None = None
    found: float | None = None

    @property
    def has_drifted(self) -> bool:
        """Whether the two differ by more than chance, and by enough to matter."""
        return self.index > self.limit


class LabelReport(Frozen):
    """What was labelled: where the table is, how many of each class, and how far it drifted."""

    path: Path
    dataset: str
    version: int
    class_counts: dict[str, int]
    num_refused: int
    drift: tuple[Measure, ...]

    @property
    def num_labelled(self) -> int:
        """How many pictures have a label."""
        return sum(self.class_counts.values())

    @property
    def drifted(self) -> tuple[str, ...]:
        """The measures that are no longer like the training data's."""
        return tuple(measure.name for measure in self.drift if measure.has_drifted)


def label_page(labels: LabelReport) -> str:
    """Markdown: what was labelled, and what is no longer like the training data."""
    share = {
        name: count / max(labels.num_labelled, 1) for name, count in labels.class_counts.items()
    }
    rows = [f"| {name} | {labels.class_counts[name]:,} | {share[name]:.1%} |" for name in share]
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
        "| | training data | these pictures | divergence | limit | drifted |",
        "|---|---:|---:|---:|---:|---|",
        *drift,
        "",
        "| label | pictures | share |",
        "|---|---:|---:|",
        *rows,
    ]
    return "\n".join(lines)


def _summary(labels: LabelReport) -> str:
    return (
        f"**{labels.num_labelled:,}** pictures labelled by version {labels.version} of "
        f"{labels.dataset}, {labels.num_refused:,} refused. The table is `{labels.path}`."
    )


def _outcome(labels: LabelReport) -> str:
    if not labels.num_labelled:
        return "Nothing was labelled."
    if not labels.drifted:
        return "Nothing shows that they are unlike the data that the champion learnt from."
    return f"Unlike the data that the champion learnt from: {', '.join(labels.drifted)}."


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
