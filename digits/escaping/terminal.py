"""Text for a terminal or a log: characters that act are shown by their escapes instead.

Escape sequences can rewrite what is on the screen, line breaks can forge lines, and bidirectional
controls can reverse the text around them.
"""


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
