"""Who may use the server: API keys, compared in constant time."""

import hmac
from collections.abc import Iterable

from starlette.responses import Response

from digits.server.refusals import json_answer

# What a load balancer's probe asks, and the page itself, which holds nothing: it asks for the key.
OPEN_PATHS = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
BEARER = b"bearer "
Header = tuple[bytes, bytes]


class Keys:
    """The key that requests must carry, as `Authorization: Bearer KEY` or `X-API-Key: KEY`."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def refusal(self, path: str, headers: Iterable[Header]) -> Response | None:
        """Return the answer to a request without the key, or None if it has it or needs none."""
        if path in OPEN_PATHS or any(self._is_key(name, value) for name, value in headers):
            return None
        return json_answer(
            {"error": "missing or wrong API key (expected Authorization: Bearer KEY)"},
            401,
            {"WWW-Authenticate": "Bearer"},
        )

    def _is_key(self, name: bytes, value: bytes) -> bool:
        if name == b"authorization":
            is_bearer = value[: len(BEARER)].lower() == BEARER
            return is_bearer and hmac.compare_digest(value[len(BEARER) :].strip(), self._key)
        return name == b"x-api-key" and hmac.compare_digest(value, self._key)
