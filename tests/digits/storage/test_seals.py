import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits.errors import DamagedError
from digits.storage.seals import seal, unseal
from tests.support.bytes import cuts, flips

FIELDS = {"number": 1, "text": 'a "quoted" digit: \u0663', "p": 1e-05, "none": None}


def test_sealed_fields_are_read_back_with_their_digest() -> None:
    sealed = seal(FIELDS)
    body, digest = unseal(sealed)

    assert json.loads(body) == FIELDS
    assert json.loads(sealed) == FIELDS | {"digest": digest}


def test_a_sealed_line_has_no_line_break() -> None:
    assert b"\n" not in seal({"text": "one\ntwo\r\u2028three"})


@pytest.mark.faults
def test_every_flipped_bit_and_every_truncation_is_detected() -> None:
    sealed = seal(FIELDS)

    # This includes changes that leave the JSON's meaning the same, such as 1E-05.
    for damaged in (*flips(sealed), *cuts(sealed), sealed + b"\n", b" " + sealed, sealed * 2):
        with pytest.raises(DamagedError):
            unseal(damaged)


@given(st.binary() | st.binary().map(lambda body: body + seal(FIELDS)[-77:]))
def test_any_other_bytes_are_reported_as_damage(content: bytes) -> None:
    with pytest.raises(DamagedError):
        unseal(content)


def test_text_that_could_not_be_read_back_is_not_sealed() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        seal({"source": "M\udce4rz"})
