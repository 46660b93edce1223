"""Addresses for messages, logs and pages, without the passwords that they may contain."""

import re

LOGIN = re.compile(r"(?<=://)[^/?#\s@]*(?:@[^/?#\s@]*)*@")


def without_password(text: str) -> str:
    """Leave out the user and password of every address in a text: https://***@host/file."""
    return LOGIN.sub("***@", text)
