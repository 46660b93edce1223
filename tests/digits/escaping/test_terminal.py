import pytest

from digits.escaping.terminal import lines, one_line
from tests.support.names import HOSTILE_NAMES, is_inert


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_nothing_acts_in_a_terminal(name: str) -> None:
    assert is_inert(one_line(name))
    assert one_line(one_line(name)) == one_line(name)


def test_our_own_line_breaks_remain() -> None:
    assert lines("one\n  two\x1b[2J") == "one\n  two\\x1b[2J"
    assert one_line("März 数字 (1)") == "März 数字 (1)"
