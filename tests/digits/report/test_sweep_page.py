import re
from pathlib import Path

import pytest

from digits.errors import DamagedError
from digits.report.sweep_page import write_sweep_page
from digits.report.sweep_summary import sweep_page
from digits.storage.workspace import Workspace
from digits.sweeps.statistics import summarize
from tests.support.markup import parse_page
from tests.support.names import HOSTILE_NAMES
from tests.support.shown import make_verdict
from tests.support.sweeps import combination, scored, store_scored, write_sweep


def test_variants_are_ranked_by_their_means(workspace: Workspace, tmp_path: Path) -> None:
    page = parse_page(write_sweep(tmp_path, workspace.store))

    _, *rows = page.one("#variants-1").all("table")[0].rows()
    assert [row[:2] for row in rows[:2]] == [
        ["1", "cnn best learning_rate=0.008"],
        ["2", "cnn best learning_rate=0.007"],
    ]
    # Seeds 0 and 1 have 97% and 98% (97.5% rounded to whole images).
    assert rows[0][2:6] == ["97.50% 91.15% to 100.00%", "97.00%", "98.00%", "2"]
    assert len(rows) == 8
    why = page.one("h1").one(".why").text
    assert why == "Best on handwriting: cnn best learning_rate=0.008, 97.50% (mean of 2 seeds)."


def test_the_chart_has_mean_curves_of_the_best_variants(
    workspace: Workspace, tmp_path: Path
) -> None:
    page = parse_page(write_sweep(tmp_path, workspace.store))

    label = page.one("svg")["aria-label"]
    assert label.startswith("Accuracy on handwriting by epoch, means over seeds; final values: 1 ")
    assert label.count("cnn") == 6
    assert "The 6 best of 8 variants" in page.one("#variants-1").text


def test_every_training_its_failures_and_the_bias_are_shown(
    workspace: Workspace, tmp_path: Path
) -> None:
    page = parse_page(write_sweep(tmp_path, workspace.store))

    assert len(page.one("#trainings").one("table").rows()) == 1 + 16
    failures = page.one("#failures").one("table").rows()[1:]
    assert failures == [["handwriting mlp best seed 1", "the disk is full"]]
    assert page.one("header").classes == ["verdict", "failed"]
    assert "its accuracy is optimistic" in page.one("header").text


def test_held_out_scores_are_named_so(workspace: Workspace, tmp_path: Path) -> None:
    asked = [combination(0.1, 0)]
    write_sweep_page(
        tmp_path,
        workspace.store,
        title="mine",
        combinations=asked,
        scored=[store_scored(workspace.store, "a", [0.5, 0.6])],
        failures=[],
        is_held_out=True,
    )
    page = parse_page((tmp_path / "report.html").read_text(encoding="utf-8"))

    assert "The test set had no part in this comparison" in page.one("header").text
    assert "Test accuracy" not in page.text
    assert page.one("#variants-1").all("table")[0].rows()[1][2] == "60.00% -"


def test_the_page_is_self_contained_and_equal_for_equal_facts(
    workspace: Workspace, tmp_path: Path
) -> None:
    html = write_sweep(tmp_path, workspace.store)

    assert html == write_sweep(tmp_path, workspace.store)
    page = parse_page(html)
    assert page.all("script") + page.all("link") + page.all("img") == []
    assert re.findall(r"https?:|@import|url\((?!#)", html) == []


def test_an_unreadable_learning_curve_is_an_error(workspace: Workspace, tmp_path: Path) -> None:
    pair = store_scored(workspace.store, "a", [0.5])
    (workspace.store.folder(pair[0]) / "history.json").write_text("{}")
    with pytest.raises(DamagedError, match=r"history\.json cannot be read"):
        write_sweep_page(
            tmp_path,
            workspace.store,
            title="mine",
            combinations=[combination(0.1, 0)],
            scored=[pair],
            failures=[],
            is_held_out=False,
        )


def test_the_dashboard_page_has_variants_decisions_and_failures() -> None:
    asked = [combination(0.1, 0), combination(0.1, 1)]
    summaries = summarize(asked, [scored("a", 90), scored("b", 92)])
    foreign = " ".join(HOSTILE_NAMES)

    text = sweep_page(
        "mine",
        summaries,
        [(foreign, foreign)],
        {"handwriting": make_verdict("kept", 1, 1)},
        is_held_out=True,
        page=Path("report.html"),
        link="http://127.0.0.1:4201/report.html",
    )

    row = (
        "| handwriting | cnn best learning_rate=0.1 | 91.00% | 78.29% to 100.00% | 90.00% | 92.00%"
    )
    assert row in text
    assert "Scored on held-out training images" in text
    assert "[Full page](http://127.0.0.1:4201/report.html)" in text
    assert "handwriting: " in text
    assert "<img" not in re.sub(r"\\<", "", text)
