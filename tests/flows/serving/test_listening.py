import os
import socket

import pytest

from digits.errors import DigitsError, UsageError
from flows.serving.listening import configured_port, listen


@pytest.mark.parametrize("text", ["", "0", "abc", "65534", "70000", "-1", "4200.5", "٤٢٠٠"])
def test_what_cannot_be_a_port_is_refused_with_the_settings_name(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_PORT", text)
    with pytest.raises(UsageError, match=r"PREFECT_SERVER_API_PORT=.* is not usable"):
        configured_port()


def test_a_taken_port_is_named_with_its_holder_and_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DigitsError) as refusal:
            listen("127.0.0.1", port)
    said = str(refusal.value)
    assert f"port {port} is in use by process {os.getpid()}" in said
    assert "PREFECT_SERVER_API_PORT" in said


def test_a_port_taken_on_all_addresses_is_taken() -> None:
    with (
        socket.create_server(("0.0.0.0", 0)) as taken,
        pytest.raises(DigitsError, match="is in use"),
    ):
        listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused_with_the_settings_name(host: str) -> None:
    with pytest.raises(UsageError, match=f"PREFECT_SERVER_API_HOST='{host}': cannot listen"):
        listen(host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_free_port_accepts_connections_at_once(host: str) -> None:
    with listen(host, 0) as server, socket.create_connection(server.getsockname()[:2]):
        pass
