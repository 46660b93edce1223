"""Labels as text: one spelling for each, so that equal labels compare equal."""

import unicodedata
from typing import Any


def as_text(label: Any) -> str:
    """Return a label as text in Unicode's form NFC, without spaces around it.

    Bytes of a folder's name that are not UTF-8 are escaped.
    """
    if isinstance(label, bytes):
        label = label.decode("utf-8", "surrogateescape")
    text = str(int(label)) if isinstance(label, bool) else str(label)
    try:
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a character in UTF-16
        text = text.encode("utf-8", "backslashreplace").decode()
    return unicodedata.normalize("NFC", text).strip()


def as_number(text: str) -> int | None:
    """Return the whole number that a label stands for: 7 for "7", "+7", "07" and "7.0e+00".

    None if Python's float() reads no whole number from it.
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
