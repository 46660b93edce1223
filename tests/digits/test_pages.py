import re

import pytest

from digits.validation.dataset_validation import render_page
from digits.validation.findings import ValidationOutcome
from tests.support.findings import (
    FAILED,
    FAILED_AS_A_WHOLE,
    FAILED_IN_MANY_ROWS,
    WARNED,
    make_finding,
    make_outcome,
)
from tests.support.markup import Element, parse_page


def render(outcome: ValidationOutcome) -> Element:
    return parse_page(render_page(outcome))


def facts(card: Element) -> dict[str, str]:
    return dict(
        zip((e.text for e in card.all("dt")), (e.text for e in card.all("dd")), strict=True)
    )


@pytest.mark.parametrize(
    ("outcome", "tone", "headline"),
    [
        (make_outcome(), "passed", "All 6 expectations hold"),
        (make_outcome(WARNED), "warned", "Passed, but 1 of 7 expectations did not hold"),
        (make_outcome(WARNED, FAILED), "failed", "1 of 8 expectations failed"),
    ],
)
def test_the_verdict_leads_the_page(outcome: ValidationOutcome, tone: str, headline: str) -> None:
    lead = next(render(outcome).one("main").walk())

    assert lead.classes == ["verdict", tone]
    assert lead.one("h1").text == headline
    assert lead.one(".tag").text == ("passed" if outcome.success else "failed")


def test_failures_come_first_with_the_rows_at_fault() -> None:
    page = render(make_outcome(WARNED, FAILED, FAILED_AS_A_WHOLE, FAILED_IN_MANY_ROWS))

    cards = page.all("article.finding")
    assert [card.classes[-1] for card in cards] == ["failed"] * 3 + ["warned"]
    assert facts(cards[0]) == {
        "Found": "0 to 255",
        "Expected": "at least 254",
        "Rows": "5, 9",
        "Check": "pixel_max by expect_column_values_to_be_between",
    }
    assert facts(cards[1])["Rows"] == "none in particular: this applies to the entire split"
    assert facts(cards[2])["Rows"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … (40 total)"
    assert [heading.text for heading in page.all("h2")] == [
        "Failed",
        "Warnings",
        "All checks: train",
        "All checks: test",
    ]


def test_every_check_is_listed_with_its_result() -> None:
    page = render(make_outcome(WARNED, FAILED))

    train, test = (table.rows() for table in page.all("table"))
    assert train[0] == ["Result", "Property", "Expected", "Found"]
    assert [row[0] for row in train[1:]] == ["passed", "warned", "failed", "passed"]
    assert train[-1][1] == "2 expectations for columns and missing values"
    assert [row[0] for row in test[1:]] == ["passed", "passed"]
    assert [cell.text for cell in page.all("td.found")] == [WARNED.found, FAILED.found]


def test_passed_table_checks_are_summarized_but_failed_ones_are_not() -> None:
    failed = make_finding(check="columns", success=False, about="columns of the table")

    rows = render(make_outcome(failed)).all("table")[0].rows()

    assert [row[:2] for row in rows[1:]] == [
        ["passed", "share of each image's pixels above 127"],
        ["failed", "columns of the table"],
        ["passed", "2 expectations for columns and missing values"],
    ]


def test_the_validation_page_is_self_contained() -> None:
    html = render_page(make_outcome(FAILED, WARNED))

    page = parse_page(html)
    assert page.all("script") + page.all("link") + page.all("img") == []
    assert re.findall(r"https?:|@import|url\(", html) == []
    assert [m["content"] for m in page.all("meta") if "http-equiv" in m.attributes] == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    ]


def test_findings_never_become_markup() -> None:
    harm = '<script>alert("1")</script>&{{ 1 }}_x'
    outcome = make_outcome(
        make_finding(success=False, found=harm, expected=harm, about=harm, expectation=harm)
    )

    page = render(outcome)

    assert page.all("script") == []
    [card] = page.all("article.finding")
    assert card.one("h3").text == facts(card)["Found"] == facts(card)["Expected"] == harm
    assert facts(card)["Check"] == f"pixel_max by {harm}"
