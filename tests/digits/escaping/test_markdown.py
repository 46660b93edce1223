import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markdown import MarkdownIt  # the renderer that rich comes with

from digits.escaping import markdown
from digits.escaping.terminal import one_line
from tests.support.names import HOSTILE_NAMES

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
    assert rendered(f"x {markdown.text(name)} x") == ({"p"}, f"x {expected} x")
    assert rendered(f"x {markdown.code(name)} x")[0] == {"p", "code"}


@given(TEXTS)
def test_no_text_is_markup(foreign: str) -> None:
    tags, shown = rendered(f"x {markdown.text(foreign)} x")

    assert tags == {"p"}
    assert shown.split() == f"x {one_line(foreign)} x".split()


@given(TEXTS.filter(str.strip))
def test_no_text_ends_the_code_span_around_it(foreign: str) -> None:
    tags, shown = rendered(f"x {markdown.code(foreign)} x")

    assert tags == {"p", "code"}
    assert shown.split() == f"x {one_line(foreign)} x".split()


@given(TEXTS, TEXTS)
def test_no_cell_reaches_into_the_next(one: str, other: str) -> None:
    page = markdown.table(("a", "b", "c"), [(markdown.text(one), markdown.text(other), "end")])

    tags, shown = rendered(page)

    assert tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert shown.split() == f"a b c {one_line(one)} {one_line(other)} end".split()


@given(TEXTS.filter(str.strip))
def test_no_code_in_a_cell_reaches_into_the_next(foreign: str) -> None:
    page = markdown.table(("a", "b"), [(markdown.code(foreign), "end")])

    tags, _ = rendered(page)

    assert tags == {"table", "thead", "tbody", "tr", "th", "td", "code"}
    assert RENDERER.render(page).count("<td>") == 2
    assert "<td>end</td>" in RENDERER.render(page)


@pytest.mark.parametrize("address", ["https://evil.example", "www.evil.example", "a@b.example"])
def test_addresses_do_not_become_links(address: str) -> None:
    # Where GitHub's dialect sees them: it looks for these in the text.
    assert address not in markdown.text(address)
    assert rendered(markdown.text(address))[1] == address


def test_ordinary_names_stay_readable() -> None:
    assert markdown.text("train, near_duplicates (ink): 3.5% | x = 2") == (
        "train, near_duplicates (ink): 3.5% | x = 2"
    )
    assert markdown.link("last | night", "/runs/1") == "[last | night](/runs/1)"
