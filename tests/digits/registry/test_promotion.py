from collections.abc import Sequence
from dataclasses import dataclass, field
from math import comb

import pytest

from digits.errors import DamagedError, DigitsError
from digits.registry.history import roll_back
from digits.registry.ledger import Entry, Ledger, forms_of
from digits.registry.promotion import Decision, decide, models_to_convert
from digits.registry.promotion_rule import Rule, choose_candidate, compare
from digits.storage.lineage import LineageStep, read_lineage
from digits.storage.records import StepKey
from digits.storage.references import EvaluationRef, ModelRef
from digits.storage.workspace import Workspace
from tests.support.histories import (
    NUM_IMAGES,
    digest,
    forget_forms,
    make_dataset,
    make_model,
    make_score,
    store_form,
    store_model,
    store_score,
)
from tests.support.small_dataset import NAME

RULE = Rule(floor=0.8)
KEY = StepKey(step="train", inputs={}, code={"digits/a.py: build_cnn": "0"}, libraries={})
LINEAGE = {"train cnn": LineageStep(key=KEY, output=digest("weights"))}
Scored = tuple[ModelRef, EvaluationRef]


def scored(workspace: Workspace, text: str, wrong: range, test_set: str = "a") -> Scored:
    model = store_model(workspace, text)
    return model, store_score(workspace, model, wrong, test_set=test_set)


def run(
    workspace: Workspace,
    *models: Scored,
    incumbent: EvaluationRef | None = None,
    rule: Rule = RULE,
    test_set: str = "a",
) -> Decision:
    """Decide a run, with the champion's recorded score unless another is given."""
    champion = Ledger(NAME, workspace.settings).champion()
    if incumbent is None and champion is not None:
        incumbent = champion.evaluation
    due = models_to_convert(NAME, models, incumbent, rule=rule, workspace=workspace)
    decision = decide(
        make_dataset(test_set),
        models,
        incumbent,
        rule=rule,
        lineage=LINEAGE,
        forms=[store_form(workspace, model) for model in due],
        run="a run",
        workspace=workspace,
    )
    assert decision is not None
    return decision


def facts(entry: Entry) -> tuple[str, int | None, int | None]:
    verdict = entry.verdict
    return verdict.outcome, verdict.champion_before, verdict.champion_after


@dataclass
class Case:
    """The mistakes of champion and candidate, as image numbers, and the expected decision."""

    champion: range | None
    candidate: range
    outcome: str
    reason: str
    rule: Rule = field(default_factory=lambda: RULE)


SIGNIFICANT = Rule(floor=0.8, require_significance=True)
CASES = {
    "the first above the floor": Case(
        None, range(10), "promoted", "the cnn reached 90.00%; there was no previous champion"
    ),
    "the first on the floor": Case(None, range(20), "promoted", "the cnn reached 80.00%; there"),
    "the first below the floor": Case(
        None, range(21), "kept", "the cnn reached 79.00%, below the floor of 80.00%"
    ),
    "below the floor but better": Case(
        range(15), range(11), "kept", "the cnn reached 89.00%, below the floor", Rule(floor=0.9)
    ),
    "one more right": Case(
        range(10),
        range(9),
        "promoted",
        "the cnn reached 91.00%, the champion (cnn, version 1) 90.00%: more accurate "
        "(exact McNemar p = 1)",
    ),
    "as many right": Case(range(10), range(10, 20), "kept", "a tie keeps the champion"),
    "one less right": Case(range(10), range(11), "kept", "less accurate"),
    "not significantly better": Case(
        range(10),
        range(5),
        "kept",
        "not significantly (exact McNemar p = 0.0625, needed < 0.05)",
        SIGNIFICANT,
    ),
    "significantly better": Case(
        range(10), range(4), "promoted", "(exact McNemar p = 0.0312)", SIGNIFICANT
    ),
    "p equal to the level is not significant": Case(
        range(10),
        range(4),
        "kept",
        "needed < 0.03125",
        Rule(floor=0.8, require_significance=True, significance_level=0.03125),
    ),
    "the first needs no significance": Case(None, range(10), "promoted", "", SIGNIFICANT),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_rule(workspace: Workspace, case: Case) -> None:
    before = None
    if case.champion is not None:
        run(workspace, scored(workspace, "champion", case.champion), rule=Rule(floor=0))
        before = 1
    model, score = scored(workspace, "candidate", case.candidate)

    decision = run(workspace, (model, score), rule=case.rule)

    after = (before or 0) + 1 if case.outcome == "promoted" else before
    assert facts(decision.entry) == (case.outcome, before, after)
    assert case.reason in decision.entry.verdict.reason
    champion = Ledger(NAME, workspace.settings).champion()
    is_promoted = case.outcome == "promoted"
    assert (champion is not None and champion.model == model) == is_promoted
    assert (decision.entry.version is not None) == is_promoted


def test_a_decision_records_its_grounds(workspace: Workspace) -> None:
    champion = scored(workspace, "champion", range(10))
    run(workspace, champion)
    candidate = scored(workspace, "candidate", range(5, 8))

    entry = run(workspace, candidate).entry

    verdict = entry.verdict
    assert (entry.run, entry.dataset) == ("a run", NAME)
    assert entry.data_digest == make_dataset("a").content_digest
    assert verdict.rule == "higher test accuracy than the champion, at least 80.00%"
    assert (verdict.candidate, verdict.candidate_digest) == ("cnn", candidate[0].digest)
    assert (verdict.candidate_accuracy, verdict.champion_accuracy) == (0.97, 0.9)
    assert verdict.champion_score == champion[1]
    assert verdict.discordant == (0, 7)
    assert verdict.p_value == pytest.approx(2 / 2**7)


def test_the_rule_is_described_with_its_level() -> None:
    assert Rule(floor=0.97, require_significance=True, significance_level=0.01).describe() == (
        "higher test accuracy than the champion, at least 97.00%, exact McNemar p < 0.01"
    )


def test_a_version_records_everything_needed_to_reproduce_it(workspace: Workspace) -> None:
    model, score = scored(workspace, "candidate", range(5))

    version = run(workspace, (model, score)).entry.version

    assert version is not None
    assert (version.number, version.model, version.evaluation) == (1, model, score)
    assert read_lineage(version.lineage, workspace.store) == LINEAGE


def test_the_champion_as_candidate_changes_nothing(workspace: Workspace) -> None:
    run(workspace, scored(workspace, "first", range(10)))
    second = scored(workspace, "second", range(5))
    promoted = run(workspace, second).entry

    again = run(workspace, second)

    assert facts(again.entry) == ("unchanged", 2, 2)
    assert again.entry.verdict.reason == "the cnn of this run is already the champion (95.00%)"
    assert (again.entry.verdict.champion_accuracy, again.entry.version) == (0.95, None)
    # The original verdict stands, so that the report page stays the same.
    assert again.standing == promoted.verdict
    assert again.rival is not None
    assert again.rival.number == 1


def test_a_new_verdict_is_the_standing_one(workspace: Workspace) -> None:
    run(workspace, scored(workspace, "first", range(10)))

    decision = run(workspace, scored(workspace, "worse", range(12)))

    assert decision.standing == decision.entry.verdict
    assert decision.rival is not None
    assert decision.rival.number == 1


def test_a_rolled_back_model_is_not_promoted_again(workspace: Workspace) -> None:
    run(workspace, scored(workspace, "first", range(10)))
    second = scored(workspace, "second", range(5))
    run(workspace, second)
    entry = roll_back(NAME, None, "by hand", workspace)

    again = run(workspace, second).entry

    assert facts(again) == ("kept", 1, 1)
    assert again.verdict.reason == (
        f"this cnn is version 2, which was rolled back on {entry.time:%Y-%m-%d}; "
        "`digits rollback 2` makes it champion again"
    )


def test_a_model_restored_by_hand_is_the_champion_again(workspace: Workspace) -> None:
    run(workspace, scored(workspace, "first", range(10)))
    second = scored(workspace, "second", range(5))
    run(workspace, second)
    roll_back(NAME, None, "by hand", workspace)
    roll_back(NAME, 2, "by hand", workspace)

    assert facts(run(workspace, second).entry) == ("unchanged", 2, 2)


def test_a_better_model_still_replaces_a_rollback_target(workspace: Workspace) -> None:
    run(workspace, scored(workspace, "first", range(10)))
    run(workspace, scored(workspace, "second", range(5)))
    roll_back(NAME, None, "by hand", workspace)

    assert facts(run(workspace, scored(workspace, "third", range(4))).entry) == ("promoted", 1, 3)


def test_a_champion_from_another_test_set_is_compared_by_its_new_score(
    workspace: Workspace,
) -> None:
    champion = scored(workspace, "champion", range(1), test_set="a")
    run(workspace, champion)
    again = store_score(workspace, champion[0], range(30), test_set="b")
    candidate = scored(workspace, "candidate", range(15), test_set="b")

    entry = run(workspace, candidate, incumbent=again, test_set="b").entry

    assert facts(entry) == ("promoted", 1, 2)
    assert entry.verdict.champion_accuracy == 0.7
    assert entry.verdict.champion_score == again


def test_scores_on_different_test_sets_are_never_compared(workspace: Workspace) -> None:
    run(workspace, scored(workspace, "champion", range(10), test_set="a"))
    before = Ledger(NAME, workspace.settings).entries()

    with pytest.raises(DigitsError, match=r"cannot compare scores: .* does not match"):
        run(workspace, scored(workspace, "candidate", range(5), test_set="b"), test_set="b")

    assert Ledger(NAME, workspace.settings).entries() == before


@pytest.mark.parametrize("is_scored", [True, False])
def test_nothing_is_decided_when_another_run_changed_the_champion(
    workspace: Workspace, is_scored: bool
) -> None:
    run(workspace, scored(workspace, "first", range(10)))
    seen = Ledger(NAME, workspace.settings).champion()
    assert seen is not None
    run(workspace, scored(workspace, "second", range(5)))
    before = Ledger(NAME, workspace.settings).entries()

    decision = decide(
        make_dataset("a"),
        [scored(workspace, "third", range(3))],
        seen.evaluation if is_scored else None,
        rule=RULE,
        lineage=LINEAGE,
        forms=[],
        run="a run",
        workspace=workspace,
    )

    assert decision is None
    assert Ledger(NAME, workspace.settings).entries() == before


def test_the_best_model_of_a_run_is_the_candidate(workspace: Workspace) -> None:
    models = [scored(workspace, text, range(n)) for text, n in (("a", 9), ("b", 3), ("c", 5))]

    entry = run(workspace, *models).entry

    assert entry.version is not None
    assert (entry.version.model, entry.version.evaluation) == models[1]


def test_a_promotion_records_the_forms_of_its_models_that_of_the_version_first(
    workspace: Workspace,
) -> None:
    worse, better = (scored(workspace, text, range(n)) for text, n in (("a", 9), ("b", 3)))

    entry = run(workspace, worse, better).entry

    models = [better[0].digest, worse[0].digest]
    assert [form.model_digest for form in entry.forms] == models
    assert forms_of(Ledger(NAME, workspace.settings).entries(), 1) == entry.forms


@pytest.mark.parametrize(("text", "wrong"), [("champion", range(10)), ("b", range(20))])
def test_a_run_that_promotes_nothing_makes_no_form(
    workspace: Workspace, text: str, wrong: range
) -> None:
    run(workspace, scored(workspace, "champion", range(10)))

    entry = run(workspace, scored(workspace, text, wrong)).entry

    assert entry.verdict.champion_after == 1
    assert entry.forms == ()


def test_nothing_is_promoted_without_its_form(workspace: Workspace) -> None:
    model, score = scored(workspace, "a", range(3))
    other = store_form(workspace, store_model(workspace, "another"))

    for forms in ([], [other]):
        decision = decide(
            make_dataset("a"),
            [(model, score)],
            None,
            rule=RULE,
            lineage=LINEAGE,
            forms=forms,
            run="a run",
            workspace=workspace,
        )
        assert decision is None

    assert Ledger(NAME, workspace.settings).entries() == []


def test_a_version_of_an_earlier_release_gets_its_form_with_the_next_run(
    workspace: Workspace,
) -> None:
    champion, other = scored(workspace, "champion", range(5)), scored(workspace, "b", range(9))
    run(workspace, champion)
    forget_forms(workspace)

    kept = run(workspace, other).entry

    assert kept.verdict.outcome == "kept"
    assert [form.model_digest for form in kept.forms] == [champion[0].digest]
    assert run(workspace, other).entry.forms == ()
    entries = Ledger(NAME, workspace.settings).entries()
    assert forms_of(entries, 1) == kept.forms


def test_an_unchanged_run_converts_the_other_models_too(workspace: Workspace) -> None:
    champion, other = scored(workspace, "champion", range(5)), scored(workspace, "b", range(9))
    run(workspace, other, champion)
    forget_forms(workspace)

    entry = run(workspace, other, champion).entry

    assert entry.verdict.outcome == "unchanged"
    models = [champion[0].digest, other[0].digest]
    assert [form.model_digest for form in entry.forms] == models


def test_a_corrupted_form_is_made_again_and_not_recorded_twice(workspace: Workspace) -> None:
    champion, other = scored(workspace, "champion", range(5)), scored(workspace, "b", range(9))
    (form,) = run(workspace, champion).entry.forms
    (workspace.store.folder(form) / "model.onnx").write_text("another model")

    entry = run(workspace, other).entry

    assert entry.forms == ()
    assert workspace.store.is_whole(form)


def test_a_missing_model_cannot_be_converted_but_the_run_goes_on(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    champion, other = scored(workspace, "champion", range(5)), scored(workspace, "b", range(9))
    run(workspace, champion)
    forget_forms(workspace)
    (workspace.store.folder(champion[0]) / "model.keras").unlink()

    entry = run(workspace, other).entry

    assert (entry.verdict.outcome, entry.forms) == ("kept", ())
    assert "version 1 has no ONNX form, and none can be made" in caplog.text


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ([(90, 0.5, 10), (91, 0.9, 99)], 1),
        ([(90, 0.5, 10), (90, 0.4, 99)], 1),
        ([(90, 0.5, 10), (90, 0.5, 9)], 1),
        ([(90, 0.5, 10), (90, 0.5, 10)], 0),
    ],
)
def test_accuracy_then_loss_then_size_decide(
    scores: Sequence[tuple[int, float, int]], chosen: int
) -> None:
    evaluations = [
        make_score(make_model(f"{place}", num_parameters=size), num_correct, loss=loss)
        for place, (num_correct, loss, size) in enumerate(scores)
    ]

    assert choose_candidate(evaluations) == evaluations[chosen]


@pytest.mark.parametrize(
    ("champion", "candidate", "discordant"),
    [
        (range(10), range(10), (0, 0)),
        (range(10), range(5, 8), (0, 7)),
        (range(10), range(5, 20), (10, 5)),
        (range(40), range(40, 60), (20, 40)),
        (range(NUM_IMAGES), range(0), (0, NUM_IMAGES)),
    ],
)
def test_the_comparison_is_the_exact_mcnemar_test(
    workspace: Workspace, champion: range, candidate: range, discordant: tuple[int, int]
) -> None:
    found = compare(
        scored(workspace, "champion", champion)[1],
        scored(workspace, "candidate", candidate)[1],
        workspace.store,
    )

    assert found.discordant == discordant
    # Under the null hypothesis, either model is equally likely to be the one that is right.
    num_tails = 2 * sum(comb(sum(discordant), k) for k in range(min(discordant) + 1))
    assert found.p_value == pytest.approx(min(1.0, num_tails / 2 ** sum(discordant)))


def test_nothing_is_decided_with_corrupted_predictions(workspace: Workspace) -> None:
    champion = scored(workspace, "champion", range(10))
    run(workspace, champion)
    (workspace.store.folder(champion[1]) / "predictions.parquet").write_bytes(b"no answers")

    with pytest.raises(DamagedError, match="cannot be read as predictions"):
        run(workspace, scored(workspace, "candidate", range(5)))

    assert len(Ledger(NAME, workspace.settings).entries()) == 1
