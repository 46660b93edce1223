"""The promotion rule: whether a candidate is promoted or the champion is kept."""

from collections.abc import Sequence
from typing import Literal

from digits.errors import DigitsError
from digits.registry.ledger import (
    Entry,
    ModelVersion,
    Verdict,
    champion_of,
    versions_of,
    withdrawn,
)
from digits.storage.references import EvaluationRef, Frozen
from digits.storage.store import Store


class Rule(Frozen):
    """Requirements for promotion in addition to being more accurate than the champion."""

    floor: float
    require_significance: bool = False
    significance_level: float = 0.05

    def describe(self) -> str:
        """Describe the rule in one sentence, as recorded in the ledger."""
        text = f"higher test accuracy than the champion, at least {self.floor:.2%}"
        if self.require_significance:
            text += f", exact McNemar p < {self.significance_level:g}"
        return text


class Comparison(Frozen):
    """The comparison of champion and candidate on the same test images.

    `discordant` counts the images that only the champion, and only the candidate, got right;
    `p_value` is the two-sided exact McNemar test.
    """

    champion: EvaluationRef
    discordant: tuple[int, int]
    p_value: float


def judge(
    candidate: EvaluationRef,
    incumbent: EvaluationRef | None,
    entries: list[Entry],
    rule: Rule,
    store: Store,
) -> Verdict | None:
    """Return the verdict about a candidate after these entries.

    Returns None if `incumbent` is not the score of the champion that it must be compared with.
    """
    champion, comparison = champion_of(entries), None
    if champion is not None and champion.model.digest != candidate.model_digest:
        if incumbent is None or incumbent.model_digest != champion.model.digest:
            return None
        comparison = compare(incumbent, candidate, store)
    return apply_rule(candidate, entries, comparison, rule)


def choose_candidate(evaluations: Sequence[EvaluationRef]) -> EvaluationRef:
    """Return the most accurate score; ties go to the lower loss, then to fewer parameters."""
    return min(evaluations, key=lambda e: (-e.num_correct / e.num_images, e.loss, e.num_parameters))


def compare(champion: EvaluationRef, candidate: EvaluationRef, store: Store) -> Comparison:
    """Run the exact McNemar test (McNemar, 1947) on predictions for the same test images."""
    from digits.training.predictions import read_predictions

    if champion.test_digest != candidate.test_digest:
        raise DigitsError(
            f"cannot compare scores: the champion's test set {champion.test_digest[:12]} does not "
            f"match the candidate's {candidate.test_digest[:12]}; the champion is kept"
        )
    champion_path, candidate_path = (
        store.folder(evaluation) / "predictions.parquet" for evaluation in (champion, candidate)
    )
    y_true, y_champion = read_predictions(champion_path)
    _, y_candidate = read_predictions(candidate_path)
    only_champion = int(((y_champion == y_true) & (y_candidate != y_true)).sum())
    only_candidate = int(((y_candidate == y_true) & (y_champion != y_true)).sum())
    discordant = only_champion, only_candidate
    return Comparison(champion=champion, discordant=discordant, p_value=mcnemar(*discordant))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of a split of discordant pairs, assuming even odds.

    Uses integer arithmetic, since importing the statistics library would cost every run a second.
    """
    num_pairs, fewer = only_first + only_second, min(only_first, only_second)
    num_ways, ways = 0, 1
    for number in range(fewer + 1):
        num_ways += ways
        ways = ways * (num_pairs - number) // (number + 1)
    p_value: float = 2 * num_ways / 2**num_pairs
    return min(p_value, 1.0)


def apply_rule(
    candidate: EvaluationRef, entries: list[Entry], comparison: Comparison | None, rule: Rule
) -> Verdict:
    """Decide about `candidate`; `comparison` is None if it is the champion or there is none."""
    current = champion_of(entries)
    outcome, reason = _outcome(candidate, current, entries, comparison, rule)
    before = current.number if current else None
    return Verdict(
        outcome=outcome,
        reason=reason,
        rule=rule.describe(),
        candidate=candidate.model,
        candidate_digest=candidate.model_digest,
        candidate_accuracy=candidate.accuracy,
        champion_accuracy=_champion_accuracy(candidate, current, comparison),
        champion_score=comparison.champion if comparison else None,
        champion_before=before,
        champion_after=max(versions_of(entries), default=0) + 1
        if outcome == "promoted"
        else before,
        discordant=comparison.discordant if comparison else None,
        p_value=comparison.p_value if comparison else None,
    )


def _outcome(
    candidate: EvaluationRef,
    current: ModelVersion | None,
    entries: list[Entry],
    comparison: Comparison | None,
    rule: Rule,
) -> tuple[Literal["promoted", "kept", "unchanged"], str]:
    name, accuracy = candidate.model, f"{candidate.accuracy:.2%}"
    if current is not None and candidate.model_digest == current.model.digest:
        return "unchanged", f"the {name} of this run is already the champion ({accuracy})"
    if candidate.accuracy < rule.floor:
        return "kept", f"the {name} reached {accuracy}, below the floor of {rule.floor:.2%}"
    down = withdrawn(entries).get(candidate.model_digest)
    if down is not None:
        return "kept", (
            f"this {name} is version {down.number}, which was rolled back on "
            f"{down.time:%Y-%m-%d}; `digits rollback {down.number}` makes it champion again"
        )
    if current is None or comparison is None:
        return "promoted", f"the {name} reached {accuracy}; there was no previous champion"
    return _against_champion(candidate, current, comparison, rule)


def _against_champion(
    candidate: EvaluationRef, current: ModelVersion, comparison: Comparison, rule: Rule
) -> tuple[Literal["promoted", "kept"], str]:
    champion = comparison.champion
    facts = (
        f"the {candidate.model} reached {candidate.accuracy:.2%}, the champion "
        f"({champion.model}, version {current.number}) {champion.accuracy:.2%}"
    )
    if candidate.num_correct == champion.num_correct:
        return "kept", f"{facts}: a tie keeps the champion"
    if candidate.num_correct < champion.num_correct:
        return "kept", f"{facts}: less accurate"
    if rule.require_significance and comparison.p_value >= rule.significance_level:
        return "kept", (
            f"{facts}: more accurate, but not significantly (exact McNemar p = "
            f"{comparison.p_value:.3g}, needed < {rule.significance_level:g})"
        )
    return "promoted", f"{facts}: more accurate (exact McNemar p = {comparison.p_value:.3g})"


def _champion_accuracy(
    candidate: EvaluationRef, current: ModelVersion | None, comparison: Comparison | None
) -> float | None:
    if comparison is not None:
        return comparison.champion.accuracy
    is_champion = current is not None and candidate.model_digest == current.model.digest
    return candidate.accuracy if is_champion else None
