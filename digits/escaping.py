"""Foreign text made inert, for each medium: terminal, log, Markdown, HTML and spreadsheet.

Escape sequences can rewrite what is on the screen, line breaks can forge lines, bidirectional
controls can reverse the text around them, and markup can make links, images and HTML.
"""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

LOGIN = re.compile(r"(?<=://)[^/?#\s@]*(?:@[^/?#\s@]*)*@")
# An underscore within a word is no markup.
MARKUP = re.compile(
    r"[\\`*\[\]<>&~@]|(?<![^\W_])_|_(?![^\W_])|^[#+-]|:(?=//)|(?<=www)\.", re.IGNORECASE
)
PIPE = re.compile(r"(\\*)\|")
FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # also in full width
BEFORE = " \t\r\n\0'\""


def one_line(text: str) -> str:
    r"""Escape every character that is not printable: r"a\nb" for "a\nb"."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def lines(text: str) -> str:
    """Do the same to each line of a text of our own."""
    return "\n".join(map(one_line, text.split("\n")))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def without_password(text: str) -> str:
    """Leave out the user and password of every address in a text: https://***@host/file."""
    return LOGIN.sub("***@", text)


def markdown_text(foreign: str) -> str:
    """Escape text: no part of it is markup, and addresses do not become links."""
    return MARKUP.sub(r"\\\g<0>", one_line(foreign).strip())


def markdown_code(foreign: str) -> str:
    """Return a code span, with a fence that the text cannot close."""
    content = one_line(foreign)
    longest = max(map(len, re.findall("`+", content)), default=0)
    fence = "`" * (longest + 1)
    space = " " if content.startswith("`") or content.endswith("`") else ""
    return f"{fence}{space}{content}{space}{fence}"


def markdown_link(name: str, address: str) -> str:
    """Return a link to an address of ours, with any text as its name."""
    return f"[{markdown_text(name)}]({address})"


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose cells are Markdown."""
    every = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_markdown_cell, row))} |" for row in every)


def _markdown_cell(markdown: str) -> str:
    """Escape the pipes of a cell, even in code: an odd number of backslashes does."""
    return PIPE.sub(
        lambda found: found[0] if len(found[1]) % 2 else f"{found[1]}\\|",
        " ".join(markdown.split()),
    )


def page_environment() -> "jinja2.Environment":
    """Return an environment for this package's HTML templates, which escapes every value.

    A missing value raises an error. HTML has no escape for characters that turn the direction of
    the text around them, so these are shown by their escapes.
    """
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("digits"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_without_controls,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _without_controls(value: Any) -> Any:
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return lines(value) if is_text else value


def spreadsheet_cell(text: str) -> str:
    """Return a cell that a spreadsheet shows as text: with an apostrophe if it may be a formula."""
    is_formula = text.lstrip(BEFORE).startswith(FORMULA) and not _is_number(text)
    return f"'{text}" if is_formula or text.startswith(("\t", "\r")) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
