"""Decide about a run: what the decision needs, and the line that records it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from digits.datasets.versions import DatasetVersion
from digits.errors import DamagedError, LostRaceError
from digits.registry.ledger import (
    Entry,
    Ledger,
    ModelVersion,
    Verdict,
    champion_of,
    standing_verdict,
    versions_of,
)
from digits.registry.needed import bundles_of
from digits.registry.promotion_rule import Rule, choose_candidate, judge
from digits.registry.recorded_forms import missing_forms, new_forms
from digits.storage.lineage import Lineage, write_lineage
from digits.storage.references import (
    ArraysRef,
    DatasetRef,
    EvaluationRef,
    Frozen,
    ModelRef,
    OnnxRef,
    ReportRef,
    ValidationRef,
)
from digits.storage.workspace import Workspace

logger = logging.getLogger(__name__)


class Decision(Frozen):
    """A ledger entry, and the verdict to show for it.

    The two differ if a run's candidate is already the champion: `standing` is then the verdict that
    promoted it, so that an unchanged run gets an unchanged report page. `rival` is the model
    version that `standing` compares the candidate with.
    """

    entry: Entry
    standing: Verdict
    rival: ModelVersion | None


@dataclass(frozen=True)
class RunOutcome:
    """What a run made and decided; `version` is that of its dataset."""

    version: DatasetVersion
    validation: ValidationRef
    arrays: ArraysRef
    scored: Sequence[tuple[ModelRef, EvaluationRef]]
    lineage: Lineage
    decision: Decision
    report: ReportRef


def decide(
    dataset: DatasetRef,
    scored: Sequence[tuple[ModelRef, EvaluationRef]],
    incumbent: EvaluationRef | None,
    *,
    rule: Rule,
    lineage: Lineage,
    forms: Sequence[OnnxRef],
    run: str,
    workspace: Workspace,
) -> Decision | None:
    """Decide about a run's best model and append the decision to the ledger, under one lock.

    `incumbent` is the champion's score on the test set of `scored`; `lineage` is the run's lineage,
    stored if its model is promoted; `forms` are the ONNX forms of `models_to_convert`. Returns
    None, without a decision, if another run has changed the champion in the meantime, or another
    machine the ledger: score the new champion, convert what it needs and call again.
    """
    candidate = choose_candidate([score for _, score in scored])
    model = next(model for model, score in scored if score == candidate)
    try:
        with Ledger(dataset.layout.name, workspace.settings).deciding() as ledger:
            champion = ledger.champion
            verdict = judge(candidate, incumbent, ledger.entries, rule, workspace.store)
            is_promoted = verdict is not None and verdict.outcome == "promoted"
            if verdict is None or (is_promoted and not _has_form(model, forms)):
                return None
            version = None
            if is_promoted and verdict.champion_after is not None:
                version = ModelVersion(
                    number=verdict.champion_after,
                    model=model,
                    evaluation=candidate,
                    lineage=write_lineage(lineage, workspace.store),
                )
            recorded = new_forms(forms, version or champion, ledger.entries)
            for needed in (*(bundles_of(version) if version else ()), *recorded):
                workspace.store.secure(needed)
            entry = ledger.append(
                verdict,
                run=run,
                data_digest=dataset.content_digest,
                version=version,
                forms=recorded,
            )
            grounds = verdict
            if champion is not None and verdict.outcome == "unchanged":
                grounds = standing_verdict(ledger.entries, champion)
            rival = versions_of(ledger.entries).get(grounds.champion_before or 0)
            return Decision(entry=entry, standing=grounds, rival=rival)
    except LostRaceError as race:
        logger.info("%s; deciding again", race)
        return None


def _has_form(model: ModelRef, forms: Sequence[OnnxRef]) -> bool:
    return bool(forms) and forms[0].model_digest == model.digest


def models_to_convert(
    dataset: str,
    scored: Sequence[tuple[ModelRef, EvaluationRef]],
    incumbent: EvaluationRef | None,
    *,
    rule: Rule,
    workspace: Workspace,
) -> list[ModelRef]:
    """Return the models whose ONNX forms the decision about a run needs, in the ledger's order.

    If the candidate will be promoted, these are the models of the run. Otherwise they are those
    whose forms the current champion lacks: usually none.
    """
    entries = Ledger(dataset, workspace.settings).entries()
    candidate = choose_candidate([score for _, score in scored])
    models = [model for model, _ in scored]
    verdict = judge(candidate, incumbent, entries, rule, workspace.store)
    champion = champion_of(entries)
    if verdict is not None and verdict.outcome == "promoted":
        return sorted(models, key=lambda model: model.digest != candidate.model_digest)
    return missing_forms(champion, models, entries, workspace.store) if champion else []


def needs_score(
    champion: ModelVersion, arrays: ArraysRef, check: Callable[[EvaluationRef], object]
) -> bool:
    """Whether the champion must be scored again to be compared on the test set of `arrays`.

    `check` raises DamagedError if the evaluation that it is given is not intact.
    """
    if champion.evaluation.test_digest != arrays.test_digest:
        return True
    try:
        check(champion.evaluation)
    except DamagedError:
        return True
    return False
