"""Foreign text in each medium."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markdown import MarkdownIt  # the renderer that rich comes with

from digits.escaping import (
    lines,
    markdown_code,
    markdown_link,
    markdown_table,
    markdown_text,
    one_line,
    spreadsheet_cell,
    without_password,
)
from tests.support.names import HOSTILE_NAMES, is_inert


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_nothing_acts_in_a_terminal(name: str) -> None:
    assert is_inert(one_line(name))
    assert one_line(one_line(name)) == one_line(name)


def test_our_own_line_breaks_remain() -> None:
    assert lines("one\n  two\x1b[2J") == "one\n  two\\x1b[2J"
    assert one_line("März 数字 (1)") == "März 数字 (1)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@host/file", "https://***@host/file"),
        ("https://token@host", "https://***@host"),
        ("https://me:p@ss@host/a@b", "https://***@host/a@b"),
        ("two: ftp://a:b@c, http://d:e@f/ failed", "two: ftp://***@c, http://***@f/ failed"),
        ("https://host/@scope/file?a@b", "https://host/@scope/file?a@b"),
        ("no address, a@b", "no address, a@b"),
    ],
)
def test_users_and_passwords_are_left_out(text: str, shown: str) -> None:
    assert without_password(text) == shown


RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TAG = re.compile(r"<(/?)(\w+)[^>]*>")
PIECES = st.sampled_from([*"\\`*_[]()<>&~#+-!|:/.@=\n\"' ax1", "](", "://", "www.", "&#106;", "``"])
TEXTS = st.lists(PIECES, max_size=30).map("".join)


def rendered(page: str) -> tuple[set[str], str]:
    """The tags of a page in HTML, and its text."""
    html = RENDERER.render(page)
    shown = re.sub(r"<[^>]*>", "", html).strip("\n")
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        shown = shown.replace(entity, character)
    return {tag[2] for tag in TAG.finditer(html)}, shown


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_text_and_code_are_shown_as_they_are(name: str) -> None:
    expected = one_line(name).strip()
    assert rendered(f"x {markdown_text(name)} x") == ({"p"}, f"x {expected} x")
    assert rendered(f"x {markdown_code(name)} x")[0] == {"p", "code"}


@given(TEXTS)
def test_no_text_is_markup(foreign: str) -> None:
    tags, shown = rendered(f"x {markdown_text(foreign)} x")

    assert tags == {"p"}
    assert shown.split() == f"x {one_line(foreign)} x".split()


@given(TEXTS.filter(str.strip))
def test_no_text_ends_the_code_span_around_it(foreign: str) -> None:
    tags, shown = rendered(f"x {markdown_code(foreign)} x")

    assert tags == {"p", "code"}
    assert shown.split() == f"x {one_line(foreign)} x".split()


@given(TEXTS, TEXTS)
def test_no_cell_reaches_into_the_next(one: str, other: str) -> None:
    page = markdown_table(("a", "b", "c"), [(markdown_text(one), markdown_text(other), "end")])

    tags, shown = rendered(page)

    assert tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert shown.split() == f"a b c {one_line(one)} {one_line(other)} end".split()


@given(TEXTS.filter(str.strip))
def test_no_code_in_a_cell_reaches_into_the_next(foreign: str) -> None:
    page = markdown_table(("a", "b"), [(markdown_code(foreign), "end")])

    tags, _ = rendered(page)

    assert tags == {"table", "thead", "tbody", "tr", "th", "td", "code"}
    assert RENDERER.render(page).count("<td>") == 2
    assert "<td>end</td>" in RENDERER.render(page)


@pytest.mark.parametrize("address", ["https://evil.example", "www.evil.example", "a@b.example"])
def test_addresses_do_not_become_links(address: str) -> None:
    # Where GitHub's dialect sees them: it looks for these in the text.
    assert address not in markdown_text(address)
    assert rendered(markdown_text(address))[1] == address


def test_ordinary_names_stay_readable() -> None:
    assert markdown_text("train, near_duplicates (ink): 3.5% | x = 2") == (
        "train, near_duplicates (ink): 3.5% | x = 2"
    )
    assert markdown_link("last | night", "/runs/1") == "[last | night](/runs/1)"


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", " =1", "\uff1d1", "\rx", "-"]
)
def test_a_formula_becomes_text(text: str) -> None:
    assert spreadsheet_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a.png", "3", "-1", "+1.5", "1-2", "a=b", "März"])
def test_other_text_and_numbers_stay_as_they_are(text: str) -> None:
    assert spreadsheet_cell(text) == text
