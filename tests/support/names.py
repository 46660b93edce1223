"""Names that outsiders can give to files, classes and labels, made to act where they are shown."""

import os
import re

HOSTILE_NAMES = (
    os.fsdecode(b"M\xe4rz"),
    "`]( javascript:alert(1) )[x`",
    "![](__host_x)",
    "[link](javascript:alert(1))",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)<_script>",
    "a\nb\r\n# heading",
    "a|b|c",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egnp.exe",
    "\u2066hidden\u2069\u200b",
    "=1+1",
    "@SUM(A1)",
    "-2+3",
    "\tcell",
    "&#106;avascript:",
    "{{ 7 * 7 }}",
    "%s %n",
    "x...",
)
"""File names without a suffix: escapes, markup, control characters, formulas."""

ACTIVE = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def is_inert(text: str) -> bool:
    """Whether a line has no characters that act in a terminal or turn the text around them."""
    return ACTIVE.search(text) is None
