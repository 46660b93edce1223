"""Text for the dashboard's Markdown pages, shown as it is: no markup, links, images or HTML."""

import re
from collections.abc import Iterable, Sequence

from digits.escaping.terminal import one_line

# An underscore within a word is no markup.
MARKUP = re.compile(
    r"[\\`*\[\]<>&~@]|(?<![^\W_])_|_(?![^\W_])|^[#+-]|:(?=//)|(?<=www)\.", re.IGNORECASE
)
PIPE = re.compile(r"(\\*)\|")


def text(foreign: str) -> str:
    """Escape text: no part of it is markup, and addresses do not become links."""
    return MARKUP.sub(r"\\\g<0>", one_line(foreign).strip())


def code(foreign: str) -> str:
    """Return a code span, with a fence that the text cannot close."""
    content = one_line(foreign)
    longest = max(map(len, re.findall("`+", content)), default=0)
    fence = "`" * (longest + 1)
    space = " " if content.startswith("`") or content.endswith("`") else ""
    return f"{fence}{space}{content}{space}{fence}"


def link(name: str, address: str) -> str:
    """Return a link to an address of ours, with any text as its name."""
    return f"[{text(name)}]({address})"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose cells are Markdown."""
    every = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in every)


def _cell(markdown: str) -> str:
    """Escape the pipes of a cell, even in code: an odd number of backslashes does."""
    return PIPE.sub(
        lambda found: found[0] if len(found[1]) % 2 else f"{found[1]}\\|",
        " ".join(markdown.split()),
    )
