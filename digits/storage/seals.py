"""JSON objects that end with their own SHA-256, so that any changed byte is detected."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from digits.errors import DamagedError

_BEFORE, _AFTER = b',"digest":"', b'"}'
_LENGTH = len(_BEFORE) + 64 + len(_AFTER)


def seal(fields: Mapping[str, Any]) -> bytes:
    """Serialize the fields to one line of JSON and append its SHA-256 as the member "digest".

    Raises ValueError for text that could not be read back: a lone surrogate.
    """
    json.dumps(fields, ensure_ascii=False).encode()
    body = json.dumps(fields, separators=(",", ":")).encode()
    return body[:-1] + _BEFORE + hashlib.sha256(body).hexdigest().encode() + _AFTER


def unseal(sealed: bytes) -> tuple[bytes, str]:
    """Return the sealed JSON and its digest. Raises DamagedError if they do not match."""
    body, end = sealed[:-_LENGTH] + b"}", sealed[-_LENGTH:]
    digest = hashlib.sha256(body).hexdigest()
    if end != _BEFORE + digest.encode() + _AFTER:
        raise DamagedError("its digest does not match")
    return body, digest
