import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message
from starlette.websockets import WebSocket

from digits.errors import UsageError
from digits.server.guard import Guard, allowed_names

OWN = "127.0.0.1:4200"


async def answer(_: Request) -> PlainTextResponse:
    return PlainTextResponse("answered")


async def greet(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("answered")
    await websocket.close()


APP = Starlette(
    routes=[Route("/", answer, methods=["GET", "POST", "OPTIONS"]), WebSocketRoute("/ws", greet)]
)


def ask(guard: Guard, method: str, headers: list[tuple[str, str]]) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard)) as client:
            return await client.request(method, "http://unused/", headers=headers)

    return asyncio.run(send())


def status(guard: Guard, method: str = "GET", **headers: str) -> int:
    named = [(name.replace("_", "-"), value) for name, value in {"host": OWN, **headers}.items()]
    return ask(guard, method, named).status_code


def open_web_socket(guard: Guard, headers: dict[str, str]) -> list[str]:
    """Return the types of the messages that a new web socket is answered with."""
    answers: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        answers.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "websocket", "path": "/ws", "headers": raw, "query_string": b""}
    asyncio.run(guard(scope, receive, send))
    return [answer["type"] for answer in answers]


@pytest.mark.parametrize(
    "host", [OWN, "localhost:4200", "LOCALHOST", "[::1]:4200", "192.168.1.7:8080", "127.0.0.1"]
)
def test_addresses_and_localhost_are_answered_at_any_port(host: str) -> None:
    assert status(Guard(APP), host=host) == 200
    assert status(Guard(APP), "POST", host=host, origin=f"http://{host}") == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:4200",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "evil.example#127.0.0.1",
        "[evil",
        "",
    ],
)
def test_a_name_that_points_here_is_refused(host: str) -> None:
    assert status(Guard(APP), host=host) == 403


def test_two_hosts_are_refused() -> None:
    assert ask(Guard(APP), "GET", [("host", OWN), ("host", OWN)]).status_code == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://127.0.0.1:4201",
        "http://127.0.0.1",
        "http://localhost:4200",
        "https://127.0.0.1:4200.evil.example",
        "null",
        "file://",
        "chrome-extension://127.0.0.1:4200",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_pages_of_other_origins_are_refused(origin: str, method: str) -> None:
    assert status(Guard(APP), method, origin=origin) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "unheard-of"])
def test_what_a_page_of_another_site_loads_is_refused_but_a_link_is_followed(site: str) -> None:
    link = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert status(Guard(APP), **link) == 200
    assert status(Guard(APP), "POST", **link) == 403
    assert status(Guard(APP), **link | {"sec_fetch_dest": "iframe"}) == 403
    assert status(Guard(APP), **link | {"sec_fetch_mode": "no-cors"}) == 403
    assert status(Guard(APP), sec_fetch_site=site) == 403


def test_own_pages_and_programs_are_answered() -> None:
    assert status(Guard(APP), "POST") == 200
    assert status(Guard(APP), "POST", origin=f"http://{OWN}", sec_fetch_site="same-origin") == 200
    assert status(Guard(APP), sec_fetch_site="none") == 200


def test_a_listed_name_is_answered_also_behind_a_proxy_that_replaces_the_host() -> None:
    guard = Guard(APP, names=["Digits.example.org"])
    origin = "https://digits.example.org"
    assert status(guard, "POST", host="digits.example.org", origin=origin) == 200
    assert status(guard, "POST", host=OWN, origin=origin) == 200
    assert status(guard, "POST", host=OWN, origin="https://digits.example.org:8443") == 403
    assert status(guard, host="other.example.org") == 403


def test_the_server_of_a_run_answers_no_browser() -> None:
    guard = Guard(APP, has_pages=False)
    assert status(guard, "POST") == 200
    assert status(guard, origin=f"http://{OWN}") == 403
    assert status(guard, sec_fetch_site="none") == 403


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"host": "evil.example"}, {"origin": "null"}]
)
def test_web_sockets_are_guarded_too(headers: dict[str, str]) -> None:
    own = {"host": OWN, "origin": f"http://{OWN}"}
    assert open_web_socket(Guard(APP), own)[:2] == ["websocket.accept", "websocket.send"]
    assert open_web_socket(Guard(APP), own | headers) == ["websocket.close"]


@pytest.mark.parametrize("host", [OWN, "evil.example"])
def test_every_answer_forbids_framing_and_guessing_of_types(host: str) -> None:
    headers = ask(Guard(APP), "GET", [("host", host)]).headers
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"


def test_allowed_names_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_ALLOWED_HOSTS", "digits.example.org, other.example:8443,")
    assert allowed_names() == ["digits.example.org", "other.example:8443"]
    for wrong in ("https://digits.example.org", "*"):
        monkeypatch.setenv("DIGITS_ALLOWED_HOSTS", wrong)
        with pytest.raises(UsageError, match=r"DIGITS_ALLOWED_HOSTS: .* is not a host name"):
            allowed_names()
