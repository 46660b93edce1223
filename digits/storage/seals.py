"""A JSON object with its own SHA-256 as the last member, so that any changed byte is noticed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from digits.errors import DamagedError

_BEFORE, _AFTER = b',"digest":"', b'"}'
_LENGTH = len(_BEFORE) + 64 + len(_AFTER)


def seal(fields: Mapping[str, Any]) -> bytes:
    """The fields as one line of JSON, with the SHA-256 of that line as their "digest"."""
    body = json.dumps(fields, separators=(",", ":")).encode()
    return body[:-1] + _BEFORE + hashlib.sha256(body).hexdigest().encode() + _AFTER


def unseal(sealed: bytes) -> tuple[bytes, str]:
    """The JSON that was sealed and its digest. Raises DamagedError for other bytes."""
    body, end = sealed[:-_LENGTH] + b"}", sealed[-_LENGTH:]
    digest = hashlib.sha256(body).hexdigest()
    if end != _BEFORE + digest.encode() + _AFTER:
        raise DamagedError("its digest does not match it")
    return body, digest
