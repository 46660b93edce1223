import pytest

from digits.escaping.addresses import without_password


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
