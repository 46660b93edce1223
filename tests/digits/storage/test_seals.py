import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits.errors import DamagedError
from digits.storage.seals import seal, unseal
from tests.support.bytes import cuts, flips

FIELDS = {"number": 1, "text": 'a "quoted" digit: \u0663', "p": 1e-05, "none": None}


def test_what_was_sealed_comes_back_with_its_digest() -> None:
    sealed = seal(FIELDS)
    body, digest = unseal(sealed)

    assert json.loads(body) == FIELDS
    assert json.loads(sealed) == FIELDS | {"digest": digest}


def test_a_sealed_line_has_no_line_break() -> None:
    assert b"\n" not in seal({"text": "one\ntwo\r\u2028three"})


@pytest.mark.faults
def test_every_altered_bit_and_every_cut_is_noticed() -> None:
    sealed = seal(FIELDS)

    # Among them those after which the JSON still means the same, such as 1E-05.
    for damaged in (*flips(sealed), *cuts(sealed), sealed + b"\n", b" " + sealed, sealed * 2):
        with pytest.raises(DamagedError):
            unseal(damaged)


@given(st.binary() | st.binary().map(lambda body: body + seal(FIELDS)[-77:]))
def test_other_bytes_are_damage_and_no_crash(content: bytes) -> None:
    with pytest.raises(DamagedError):
        unseal(content)
