"""Refuses requests that a page of another site makes in the operator's browser.

A service on the loopback address is reachable by every page that is open in a browser on this
machine. A page of another site betrays itself by the headers that browsers add and pages cannot
change: `Origin` and `Sec-Fetch-Site`. A page whose own host name was pointed at this machine (DNS
rebinding) betrays itself by the `Host` header, which has that name.
"""

import ipaddress
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from digits.errors import UsageError

NAMES_SETTING = "DIGITS_ALLOWED_HOSTS"
OWN_SITES = ("same-origin", "none", None)
FORBIDDEN = 403
POLICY_VIOLATION = 1008
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def _as_text(reason: str) -> Response:
    return PlainTextResponse(f"Refused: {reason}\n", FORBIDDEN)


class Guard:
    """An ASGI app that passes on what the operator's own programs and pages ask, and no more.

    `names` are further host names that this service is reached by. Without `has_pages`, no browser
    has any business here, and all are refused. `policy` is the Content-Security-Policy of pages.
    `refuse` makes the answer to a refused request from the reason.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: Iterable[str] = (),
        has_pages: bool = True,
        policy: str = "",
        refuse: Callable[[str], Response] = _as_text,
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._names = frozenset(name.lower() for name in names)
        self._has_pages = has_pages
        headers = HEADERS | ({"Content-Security-Policy": policy} if policy else {})
        self._headers = [(name.lower().encode(), text.encode()) for name, text in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with status 403 and the reason."""
        reason = None if scope["type"] == "lifespan" else self._refusal(scope)
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif reason is None:
            await self._app(scope, receive, self._with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})
        else:
            answer = self._refuse(reason)
            await answer(scope, receive, self._with_headers(send))

    def _refusal(self, scope: Scope) -> str | None:
        """Return why a request is refused, or None."""
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        site = headers.get("sec-fetch-site")
        if len(hosts) != 1 or not self._is_own_host(hosts[0]):
            return (
                f"unknown host {', '.join(hosts)!r}; to reach this service by a name, list it "
                f"in {NAMES_SETTING}"
            )
        if not self._has_pages and (origins or site is not None):
            return "this server answers no browsers"
        if any(not self._is_own_origin(origin, hosts[0]) for origin in origins):
            return f"the request comes from a page of {', '.join(origins)}"
        if site not in OWN_SITES and not _follows_link(scope, headers):
            return "the request comes from a page of another site"
        return None

    def _is_own_host(self, host: str) -> bool:
        """Return whether a Host header names this machine.

        An address needs no check, since no name was resolved: only DNS can be rebound.
        """
        name = _name_in(host)
        return name == "localhost" or _is_address(name) or not self._names.isdisjoint((name, host))

    def _is_own_origin(self, origin: str, host: str) -> bool:
        """Return whether an Origin header is this service's, also behind a proxy that renames it.

        Only the scheme may differ: a proxy may add TLS.
        """
        scheme, _, authority = origin.partition("://")
        return scheme in ("http", "https") and (authority == host or authority in self._names)

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = message.get("headers", ())
                names = {name for name, _ in own}
                message["headers"] = [*own, *(one for one in self._headers if one[0] not in names)]
            await send(message)

        return send_with_headers


def allowed_names() -> list[str]:
    """Return the host names in DIGITS_ALLOWED_HOSTS. Raises UsageError if one is none."""
    names = [name.strip() for name in os.environ.get(NAMES_SETTING, "").split(",")]
    for name in filter(None, names):
        if "/" in name or "*" in name or " " in name:
            raise UsageError(
                f"{NAMES_SETTING}: {name!r} is not a host name (expected names separated by "
                "commas, as in digits.example.org)"
            )
    return [name for name in names if name]


# Most requests name one of few hosts.
@lru_cache(64)
def _name_in(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


@lru_cache(64)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _follows_link(scope: Scope, headers: Headers) -> bool:
    """Return whether a request only opens a page in a tab; the linking page cannot read it."""
    return (
        scope.get("method") in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
