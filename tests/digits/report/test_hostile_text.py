"""Names from outside, in every page at once: in HTML by Chromium, in Markdown as HTML."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from rich.markdown import MarkdownIt  # the renderer that rich comes with

from digits.intake.incoming import Addition
from digits.labeling.label_reports import LabelReport, label_page
from digits.registry.garbage import Garbage
from digits.report.dashboard_pages import batch_page, champion_page, failure_page, garbage_page
from digits.report.page import write_report
from digits.validation.dataset_validation import render_page
from tests.support.browser import CHROMIUM, open_page, start_chromium
from tests.support.findings import make_finding, make_outcome
from tests.support.names import HOSTILE_NAMES, is_inert
from tests.support.reports import make_facts, make_layout, make_model, make_step, make_test_images
from tests.support.reports import make_verdict as make_shown_verdict
from tests.support.shown import make_entry, make_verdict, make_version

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium not found: apt-get install chromium"),
]

ALL = " ".join(HOSTILE_NAMES)
PARTS = ("alert(1)", "[link](javascript:", r"\x1b[31m", r"\u202egnp", "<img src=x")
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])

# What foreign text could have added to a page.
ADDED = """
() => [...document.querySelectorAll("script, iframe, img, a, [onerror], [onload]")]
  .map(e => e.getAttribute("href") ?? e.getAttribute("src") ?? e.outerHTML)
  .filter(address => !/^(#|data:image[/]png|[/]runs[/])/.test(address))
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_chromium() as browser:
        yield browser


def shown(browser: Browser, page: Path) -> str:
    """Open a page, check that nothing of it acts, and return its text."""

    def refuse(what: object) -> None:
        raise AssertionError(what)

    def open_all(tab: Page) -> str:
        tab.on("dialog", refuse)
        assert tab.evaluate(ADDED) == []
        tab.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true })")
        return f"{tab.title()}\n{tab.inner_text('body')}"

    with open_page(browser, page) as tab:
        text = open_all(tab)
    assert is_inert(text.replace("\n", ""))
    return text


def make_pages() -> dict[str, str]:
    outcome = make_outcome(
        make_finding(success=False, about=ALL, found=ALL, expected=ALL, names=(ALL,), num_rows=1)
    )
    verdict = make_verdict("promoted", None, 1).model_copy(update={"reason": ALL, "rule": ALL})
    addition = Addition(
        dataset="made-up",
        source=ALL,
        status="quarantined",
        version=1,
        reasons=HOSTILE_NAMES,
        warnings=HOSTILE_NAMES,
        page=Path(ALL),
    )
    labels = LabelReport(
        path=Path(ALL),
        dataset="made-up",
        version=1,
        class_counts=dict.fromkeys(HOSTILE_NAMES, 1),
        num_refused=0,
        drift=(),
    )
    garbage = Garbage(paths=tuple(map(Path, HOSTILE_NAMES)), num_bytes=0)
    return {
        "batch": batch_page(ALL, addition),
        "failure": failure_page(ALL, outcome, Path(ALL), None),
        "champion": champion_page(ALL, [make_entry(verdict, version=make_version(1))]),
        "garbage": garbage_page(garbage, is_dry_run=True),
        "labels": label_page(labels),
        "validation": render_page(outcome, "batch"),
    }


@pytest.mark.parametrize(
    "name", ["batch", "failure", "champion", "garbage", "labels", "validation"]
)
def test_names_from_outside_are_inert_on_every_page(
    name: str, browser: Browser, tmp_path: Path
) -> None:
    content, path = make_pages()[name], tmp_path / "page.html"
    is_html = content.startswith("<!")
    body = content if is_html else f"<!doctype html><meta charset=utf-8>{MARKDOWN.render(content)}"
    path.write_text(body, encoding="utf-8")

    text = shown(browser, path)

    for part in (*PARTS, "&#106;"):
        assert part in text


def test_names_from_outside_are_inert_on_the_report(browser: Browser, tmp_path: Path) -> None:
    names, everything = HOSTILE_NAMES[1:11], " ".join(HOSTILE_NAMES[1:])  # a spec is UTF-8
    layout = make_layout(num_classes=len(names)).model_copy(update={"class_names": names})
    _, y_test = make_test_images(layout)
    facts = make_facts(
        tmp_path,
        layout=layout,
        models=[make_model(tmp_path, "mlp", layout, y_test)],
        title=everything,
        warnings=HOSTILE_NAMES[1:],
        lineage=[make_step(everything, {"dataset": everything})],
        decision=make_shown_verdict("kept", candidate="mlp", reason=everything, rule=everything),
    )
    write_report(facts, tmp_path / "report.html")

    text = shown(browser, tmp_path / "report.html")

    for part in PARTS:
        assert part in text
