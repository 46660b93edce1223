from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from digits.datasets.growth import Growth, SplitGrowth
from digits.datasets.versions import Change, version_of
from digits.intake.incoming import Addition
from digits.registry.garbage import Garbage
from digits.registry.ledger import Verdict
from digits.registry.promotion import Decision, RunOutcome
from digits.report.dashboard_pages import (
    NO_PICTURES,
    batch_page,
    champion_page,
    failure_page,
    garbage_page,
    run_page,
)
from digits.storage.lineage import LineageStep
from digits.storage.records import Record, StepKey
from digits.storage.references import ArraysRef, ReportRef, ValidationRef
from digits.validation.findings import ValidationOutcome
from tests.support.findings import TOO_FEW_IMAGES
from tests.support.shown import (
    WHEN,
    digest,
    make_entry,
    make_model,
    make_score,
    make_verdict,
    make_version,
)
from tests.support.small_dataset import small_layout

KEY = StepKey(step="train", inputs={}, code={}, libraries={})
KEPT = make_verdict(
    "kept", 3, 3, champion_score=make_score("mlp", 38), discordant=(3, 1), p_value=0.625
)


def record_of(run: str) -> Record:
    model = make_model("cnn")
    return Record(
        key=KEY,
        value=model.model_dump(mode="json"),
        run_id="00000000-1111-2222-3333-444444444444",
        run_name=run,
        created=WHEN,
    )


def shown(
    verdict: Verdict = KEPT,
    *,
    link: str | None = None,
    pictures: Mapping[str, str] | None = None,
    warnings: tuple[str, ...] = (),
    changes: Sequence[Change] = (),
) -> str:
    version = make_version(3) if verdict.champion_score else None
    outcome = RunOutcome(
        version=version_of(list(changes)),
        validation=ValidationRef(
            digest=digest("validation"), num_expectations=51, warnings=warnings
        ),
        arrays=ArraysRef(
            digest=digest("arrays"),
            layout=small_layout(),
            num_train=60,
            num_test=40,
            test_digest=digest("test"),
        ),
        scored=[
            (make_model("mlp"), make_score("mlp", 30)),
            (make_model("cnn"), make_score("cnn", 36)),
        ],
        lineage={"train cnn": LineageStep(key=KEY, output=digest("cnn"))},
        decision=Decision(entry=make_entry(verdict), standing=verdict, rival=version),
        report=ReportRef(digest=digest("report")),
    )
    return run_page(
        "Made-up | digits",
        outcome,
        steps={"train cnn": "last | night", "train mlp": "gone", "report": None},
        origins={"train cnn": record_of("last | night")},
        report=Path("/artifacts/reports/1/report.html"),
        link=link,
        pictures=pictures or {},
    )


def rows(page: str) -> list[list[str]]:
    """The cells of all tables of a page."""
    lines = (line for line in page.splitlines() if line.startswith("| "))
    return [line.strip("| ").replace("\\|", "!").split(" | ") for line in lines]


def test_a_run_page_starts_with_the_decision_and_its_reason() -> None:
    assert shown().startswith("# Version 3 remains champion\n\nMade-up | digits: the cnn was kept.")
    promoted = make_verdict("promoted", None, 1)
    assert shown(promoted).startswith("# New champion: the cnn, version 1\n")


def test_models_are_listed_with_the_champion_they_were_compared_with() -> None:
    assert rows(shown())[2:5] == [
        ["mlp", "75.00%", "65.00% to 75.00%", "0.4321", "1,234", "12.3 s, cpu"],
        ["**cnn**", "90.00%", "80.00% to 90.00%", "0.4321", "1,234", "12.3 s, cpu"],
        ["champion, v3 (mlp)", "95.00%", "85.00% to 95.00%", "0.4321", "1,234", "12.3 s, cpu"],
    ]
    assert (
        "Test images that only the candidate classified correctly: 1; only the champion: 3 "
        "(exact McNemar p = 0.625)" in shown()
    )


def test_a_run_without_a_comparison_does_not_show_one() -> None:
    page = shown(make_verdict("promoted", None, 1))
    assert "champion, v" not in page
    assert "McNemar" not in page
    assert "Rule: the rule." in page


def test_a_cached_step_names_the_run_that_made_it_and_links_to_it() -> None:
    steps = dict(row for row in rows(shown()) if len(row) == 2)
    linked = "[last ! night](/runs/flow-run/00000000-1111-2222-3333-444444444444)"
    assert steps["train cnn"] == f"the cache: {linked}, 2026-01-02 03:04 UTC"
    assert steps["train mlp"] == "the cache: gone"
    assert steps["report"] == "this run"


def test_lineage_shows_output_and_cache_key() -> None:
    assert ["train cnn", f"`{digest('cnn')[:12]}`", f"`{KEY.digest[:12]}`"] in rows(shown())


def test_pictures_are_shown_if_there_are_any() -> None:
    assert NO_PICTURES in shown()
    page = shown(pictures={"Learning curves": "data:image/png;base64,AA=="})
    assert "![Learning curves](data:image/png;base64,AA==)" in page
    assert NO_PICTURES not in page


def test_the_report_is_a_link_if_it_has_a_url() -> None:
    assert "Full report: `/artifacts/reports/1/report.html`" in shown()
    assert "[Full report](http://127.0.0.1:1/r.html)" in shown(link="http://127.0.0.1:1/r.html")


def test_validation_warnings_are_listed() -> None:
    assert "51 expectations checked, none failed" in shown()
    page = shown(warnings=("test, ink: a little much",))
    assert "none failed, 1 warning:\n\n- test, ink: a little much" in page


def test_the_champion_is_shown_with_all_changes_newest_first() -> None:
    entries = [
        make_entry(make_verdict("promoted", None, 1), make_version(1), 1),
        make_entry(make_verdict("kept", 1, 1), None, 2),
        make_entry(make_verdict("promoted", 1, 2), make_version(2, "cnn", 36), 3),
        make_entry(make_verdict("rolled back", 2, 1), None, 4),
        make_entry(make_verdict("unchanged", 1, 1), None, 5),
    ]
    page = champion_page("Made-up digits", entries)
    assert page.startswith("# Made-up digits: version 1 is the champion\n")
    assert f"model `{digest('mlp')}`" in page
    changes = [row[1:3] for row in rows(page)[2:]]
    assert changes == [["rolled back", "2 → 1"], ["promoted", "1 → 2"], ["promoted", "- → 1"]]
    again = [*entries, make_entry(make_verdict("kept", 1, 1), None, 6)]
    assert champion_page("Made-up digits", again) == page
    address = "http://127.0.0.1:4202/?dataset=made-up"
    assert f"]({address})" in champion_page("Made-up digits", entries, address)


def test_a_failed_validation_shows_the_findings_and_their_rows() -> None:
    finding = TOO_FEW_IMAGES.model_copy(update={"rows": (3, 5), "num_rows": 2})
    outcome = ValidationOutcome(findings=(finding, finding.model_copy(update={"success": True})))
    page = failure_page("Made-up digits", outcome, Path("/validations/page.html"), None)
    assert "1 of 2 expectations failed." in page
    assert ["train", "number of images", "600", "6000", "3, 5"] in rows(page)
    assert "`/validations/page.html`" in page


@pytest.mark.parametrize(("is_dry_run", "verb"), [(True, "would free"), (False, "frees")])
def test_garbage_is_shown_with_its_size(is_dry_run: bool, verb: str) -> None:
    garbage = Garbage(paths=(Path("/artifacts/models/1"),), num_bytes=2_500_000)
    page = garbage_page(garbage, is_dry_run=is_dry_run)
    assert page.startswith(f"# Garbage collection {verb} 2.5 MB\n")
    assert "- `/artifacts/models/1`" in page


GROWTH = Growth(train=SplitGrowth(class_sizes=(30, 1200)), test=SplitGrowth(class_sizes=(5, 0)))


def test_a_run_page_shows_the_dataset_version_and_its_batches() -> None:
    batch = digest("a batch")
    change = Change(
        version=2,
        time=WHEN,
        dataset="mnist",
        action="added",
        batch=batch,
        manifest=digest("files"),
        source="new | digits.npz",
        growth=GROWTH,
    )

    page = shown(changes=[change])

    assert "Data: dataset version 2, 1 batch." in page
    since = f"version 2, {WHEN:%Y-%m-%d %H:%M} UTC"
    assert f"| `{batch[:12]}` | {since} | 1,230 | 5 | new \\| digits.npz |" in page
    assert "Data: dataset version 1." in shown()


def test_an_added_batch_is_shown_with_its_class_counts() -> None:
    addition = Addition(
        dataset="mnist",
        source="a.npz",
        status="accepted",
        version=4,
        batch=digest("a batch"),
        growth=GROWTH,
        warnings=("3 images are odd",),
    )

    page = batch_page("Made-up digits", addition)

    assert page.startswith("# Made-up digits: dataset version 4\n")
    assert "| train | 1,230 | 30 | 1,200 |" in page
    assert "| test | 5 | 5 | 0 |" in page
    assert "- warning: 3 images are odd" in page


def test_a_refused_batch_is_shown_with_the_reasons_and_the_page() -> None:
    addition = Addition(
        dataset="mnist",
        source="a.npz",
        status="quarantined",
        version=1,
        reasons=("half is blank", "half is not"),
        page=Path("/data/quarantine/mnist/1/page.html"),
    )

    page = batch_page("Made-up digits", addition)

    assert page.startswith("# A batch for Made-up digits was refused\n")
    assert "- half is blank\n- half is not\n" in page
    assert "`/data/quarantine/mnist/1/page.html`" in page
    assert "| train" not in page


def test_a_known_batch_is_reported_as_such() -> None:
    addition = Addition(
        dataset="mnist", source="a.npz", status="known", version=2, batch=digest("a")
    )

    assert "already has this batch" in batch_page("Made-up digits", addition)
