"""What the report says in words, all of it computed from a run's figures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from digits.registry.ledger import Verdict

if TYPE_CHECKING:  # every run shows its headline, which needs no arrays
    import numpy as np
    import numpy.typing as npt

Shift = Mapping[int, float]
"""Accuracy by how many pixels the images were moved."""

NO_DIFFERENCE = 0.01
"""Accuracies that are closer than this are not told apart."""


def headline(verdict: Verdict) -> str:
    """What became of the champion, without the reason."""
    before, after = verdict.champion_before, verdict.champion_after
    if verdict.outcome == "promoted":
        return f"New champion: the {verdict.candidate}, version {after}"
    if verdict.outcome == "rolled back":
        return f"Version {after} is champion again"
    return f"Version {before} stays champion" if before else "No model is promoted"


def widest_shift(shifts: Mapping[str, Shift]) -> int:
    """The distance at which the models, by name, differ most; 0 if no moved image was tried."""
    return max(_distances(shifts), key=lambda distance: _spread(shifts, distance), default=0)


def shift_remark(shifts: Mapping[str, Shift]) -> str:
    """How the models, by name, stand a shift of the images, and which one stands it better."""
    widest = widest_shift(shifts)
    if not widest:
        return "No moved image was tried."
    farthest = _distances(shifts)[-1]
    ends = _joined([f"the {name} reads {shift[farthest]:.1%}" for name, shift in shifts.items()])
    end = f"Of images moved by {pixels(farthest)}, {ends} right."
    if len(shifts) == 1:
        return end
    if _spread(shifts, widest) < NO_DIFFERENCE:
        return f"No model stands a shift better: they stay within one point of each other. {end}"
    contest = _contest(shifts, widest)
    return contest if widest == farthest else f"{contest} {end}"


def parameters_remark(num_parameters: Mapping[str, int]) -> str:
    """Which of two models, by name, is the smaller, and by how much."""
    (small, least), (large, most) = sorted(num_parameters.items(), key=lambda item: item[1])
    if least == most:
        return f"The {small} and the {large} have {least:,} parameters each."
    part = 1 - least / most
    fewer = "less than 1%" if part < 0.01 else "over 99%" if part > 0.99 else f"{part:.0%}"
    return f"The {small} has {least:,} parameters, {fewer} fewer than the {large} ({most:,})."


def agreement_remark(is_right: "Mapping[str, npt.NDArray[np.bool_]]") -> str:
    """How often two models, by name, are right on the same test images."""
    (one, right_one), (other, right_other) = is_right.items()
    both, neither = int((right_one & right_other).sum()), int((~right_one & ~right_other).sum())
    only_one, only_other = (
        int((right_one & ~right_other).sum()),
        int((right_other & ~right_one).sum()),
    )
    return (
        f"Of {len(right_one):,} test images both read {both:,} right, only the {one} {only_one:,}, "
        f"only the {other} {only_other:,}, neither {neither:,}."
    )


def confusion_remark(confusion: "npt.NDArray[Any]", names: Sequence[str], number: int = 3) -> str:
    """The most frequent mistakes of a confusion matrix (K, K): rows true, columns predicted."""
    import numpy as np

    wrong = confusion * ~np.eye(len(confusion), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:number]
    pairs = [(int(flat) // len(wrong), int(flat) % len(wrong)) for flat in order]
    listed = [
        f"{names[true]} as {names[predicted]} ({wrong[true, predicted]:,})"
        for true, predicted in pairs
        if wrong[true, predicted]
    ]
    return f"Most often misread: {', '.join(listed)}." if listed else "Nothing was misread."


def share(number: float) -> str:
    """A share as percent."""
    return f"{number:.2%}"


def certainty(probability: float) -> str:
    """A probability as percent that claims no more than it should."""
    return "over 99.99%" if probability > 0.9999 else share(probability)


def duration(seconds: float) -> str:
    """Seconds in words."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def value(setting: Any) -> str:
    """A setting as text."""
    if isinstance(setting, list | tuple):
        return ", ".join(map(str, setting))
    if isinstance(setting, Mapping):
        return ", ".join(f"{name} {number}" for name, number in setting.items())
    return "-" if setting is None else str(setting)


def pixels(number: int) -> str:
    """A distance in words."""
    return "1 pixel" if number == 1 else f"{number} pixels"


def _distances(shifts: Mapping[str, Shift]) -> list[int]:
    """The distances that all models were tried at, without 0."""
    tried = [set(shift) for shift in shifts.values()]
    return sorted(set.intersection(*tried) - {0}) if tried else []


def _spread(shifts: Mapping[str, Shift], distance: int) -> float:
    accuracies = [shift[distance] for shift in shifts.values()]
    return max(accuracies) - min(accuracies)


def _contest(shifts: Mapping[str, Shift], widest: int) -> str:
    best = max(shifts, key=lambda name: shifts[name][widest])
    others = {name: shift for name, shift in shifts.items() if name != best}
    is_always_best = all(
        shifts[best][distance] > shift[distance]
        for distance in _distances(shifts)
        for shift in others.values()
    )
    where = "at every distance" if is_always_best else "here, though not at every distance"
    against = _joined([f"the {name} {shift[widest]:.1%}" for name, shift in others.items()])
    return (
        f"Where they differ most, at {pixels(widest)}, the {best} reads {shifts[best][widest]:.1%} "
        f"right, {against}: the {best} stands a shift better {where}."
    )


def _joined(phrases: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(phrases[:-1]), phrases[-1]]))
