"""Sentences and formatted values of the reports, all computed from a run's results."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from digits.registry.ledger import Verdict

if TYPE_CHECKING:  # every run imports this for its headline, which needs no arrays
    import numpy as np
    import numpy.typing as npt

Shift = Mapping[int, float]
"""Accuracy by the distance in pixels that the images were shifted."""

NO_DIFFERENCE = 0.01
"""Accuracies closer than this count as equal."""


def headline(verdict: Verdict) -> str:
    """The outcome for the champion, without the reason."""
    before, after = verdict.champion_before, verdict.champion_after
    if verdict.outcome == "promoted":
        return f"New champion: the {verdict.candidate}, version {after}"
    if verdict.outcome == "rolled back":
        return f"Version {after} is champion again"
    return f"Version {before} remains champion" if before else "No model was promoted"


def widest_shift(shifts: Mapping[str, Shift]) -> int:
    """Distance at which the models differ most; 0 if they share no distance above 0."""
    return max(_distances(shifts), key=lambda distance: _spread(shifts, distance), default=0)


def shift_remark(shifts: Mapping[str, Shift]) -> str:
    """Say how robust the models are to shifted images, and which one is more robust."""
    widest = widest_shift(shifts)
    if not widest:
        return "No shifted images were evaluated."
    farthest = _distances(shifts)[-1]
    ends = _joined([f"{shift[farthest]:.1%} for the {name}" for name, shift in shifts.items()])
    end = f"At a shift of {pixels(farthest)}, accuracy is {ends}."
    if len(shifts) == 1:
        return end
    if _spread(shifts, widest) < NO_DIFFERENCE:
        return f"All models are equally robust to shifts, within one percentage point. {end}"
    contest = _contest(shifts, widest)
    return contest if widest == farthest else f"{contest} {end}"


def shared_remark(num_shared: int, num_test: int) -> str:
    """Say how many test images are also training images; empty if none is."""
    if not num_shared:
        return ""
    is_one = num_shared == 1
    return (
        f"{num_shared:,} of the {num_test:,} test images {'is also a' if is_one else 'are also'} "
        f"training image{'' if is_one else 's'}, so accuracy on new images may be lower than the "
        "test accuracy."
    )


def parameters_remark(num_parameters: Mapping[str, int]) -> str:
    """Say which of two models is smaller, and by how much."""
    (small, least), (large, most) = sorted(num_parameters.items(), key=lambda item: item[1])
    if least == most:
        return f"The {small} and the {large} have {least:,} parameters each."
    part = 1 - least / most
    fewer = "less than 1%" if part < 0.01 else "over 99%" if part > 0.99 else f"{part:.0%}"
    return f"The {small} has {least:,} parameters, {fewer} fewer than the {large} ({most:,})."


def agreement_remark(is_right: "Mapping[str, npt.NDArray[np.bool_]]") -> str:
    """Say on how many test images both, one or neither of two models is right."""
    (one, right_one), (other, right_other) = is_right.items()
    both, neither = int((right_one & right_other).sum()), int((~right_one & ~right_other).sum())
    only_one, only_other = (
        int((right_one & ~right_other).sum()),
        int((right_other & ~right_one).sum()),
    )
    return (
        f"Of {len(right_one):,} test images, both models classify {both:,} correctly, only the "
        f"{one} {only_one:,}, only the {other} {only_other:,}, and neither {neither:,}."
    )


def confusion_remark(confusion: "npt.NDArray[Any]", names: Sequence[str], number: int = 3) -> str:
    """List the top mistakes of a confusion matrix (K, K): rows true, columns predicted."""
    import numpy as np

    wrong = confusion * ~np.eye(len(confusion), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:number]
    pairs = [(int(flat) // len(wrong), int(flat) % len(wrong)) for flat in order]
    listed = [
        f"{names[true]} as {names[predicted]} ({wrong[true, predicted]:,})"
        for true, predicted in pairs
        if wrong[true, predicted]
    ]
    return f"Most frequent mistakes: {', '.join(listed)}." if listed else "No mistakes."


def share(number: float) -> str:
    """Format a share as a percentage."""
    return f"{number:.2%}"


def certainty(probability: float) -> str:
    """Format a probability as a percentage that is never rounded up to 100%."""
    return "over 99.99%" if probability > 0.9999 else share(probability)


def duration(seconds: float) -> str:
    """Format seconds."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def value(setting: Any) -> str:
    """Format a training setting."""
    if isinstance(setting, list | tuple):
        return ", ".join(map(str, setting))
    if isinstance(setting, Mapping):
        return ", ".join(f"{name} {number}" for name, number in setting.items())
    return "-" if setting is None else str(setting)


def pixels(number: int) -> str:
    """Format a distance in pixels."""
    return "1 pixel" if number == 1 else f"{number} pixels"


def _distances(shifts: Mapping[str, Shift]) -> list[int]:
    """Distances above 0 that all models were evaluated at."""
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
    where = "every distance" if is_always_best else "this distance, but not at every distance"
    best_first = {best: shifts[best], **others}
    figures = [f"{shift[widest]:.1%} for the {name}" for name, shift in best_first.items()]
    return (
        f"The models differ most at a shift of {pixels(widest)}: accuracy is {_joined(figures)}. "
        f"The {best} is more robust at {where}."
    )


def _joined(phrases: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(phrases[:-1]), phrases[-1]]))
