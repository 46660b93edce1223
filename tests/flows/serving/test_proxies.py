import os
import subprocess
import sys

import httpx
import pytest
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from flows.serving.proxies import exempt_loopback, is_loopback
from tests.support.server import Answer, Server

PROXY = "http://127.0.0.1:9"
# Connects Prefect's client, which is made for httpx's settings in the environment.
CLIENT = """
import asyncio
from flows.serving.proxies import exempt_loopback, reach_loopback_directly
exempt_loopback()
reach_loopback_directly()
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    print(client.api_healthcheck())
async def main():
    async with get_client() as client:
        print(await client.api_healthcheck())
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "listed", [{}, {"NO_PROXY": "intern.example"}, {"no_proxy": "127.0.0.0/8"}, {"NO_PROXY": " "}]
)
def test_this_machine_is_added_to_the_exempt_hosts(listed: dict[str, str]) -> None:
    environment = dict(listed)
    exempt_loopback(environment)
    assert environment["no_proxy"] == environment["NO_PROXY"]
    names = environment["NO_PROXY"].split(",")
    assert names[-3:] == ["127.0.0.1", "localhost", "::1"]
    assert set(names) >= {name for name in listed.values() if name.strip()}
    exempt_loopback(environment)
    assert environment["NO_PROXY"].split(",") == names


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_libraries_reach_this_machine_directly_and_others_by_the_proxy(
    variable: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/"] = [Answer(b"here")]
    monkeypatch.setenv(variable, PROXY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    exempt_loopback(os.environ)
    assert httpx.get(server.url).text == "here"
    with pytest.raises(httpx.ConnectError):
        httpx.get("http://192.0.2.1/")
    assert get_proxy(parse_uri("ws://127.0.0.1:4200/api")) is None


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "http://127.0.0.1:9", "no proxy at all"])
def test_prefects_clients_ignore_proxies_for_a_server_on_this_machine(
    proxy: str, prefect_api: str
) -> None:
    variables = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    environment = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    environment |= dict.fromkeys(variables, proxy) | {"PREFECT_API_URL": prefect_api}
    printed = subprocess.check_output([sys.executable, "-c", CLIENT], env=environment, text=True)
    assert printed.splitlines() == ["None", "None"]


def test_loopback_addresses_are_told_from_others() -> None:
    assert is_loopback("http://localhost:4200/api")
    assert is_loopback("http://[::1]:4200/api")
    assert not is_loopback("https://api.prefect.cloud/api")
    assert not is_loopback("http://127.0.0.1.evil.example/api")
    assert not is_loopback("http://[")
    assert not is_loopback("")
