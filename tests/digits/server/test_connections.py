"""Who is at the other end: with real sockets, and another user where this one is root."""

import os
import socket
import subprocess
import sys

import pytest

from digits.server import connections
from digits.server.connections import holder, is_own_user
from digits.server.socket_diag import ask

CONNECT = "import socket, sys; kept = socket.create_connection(sys.argv[1:]); sys.stdin.read()"
LISTEN = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""
NOBODY = 65534
ENDS = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@pytest.fixture(params=["asked", "tables"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is asked for the one socket, or its tables are read, as where it cannot be."""

    def refuse(*_: object) -> None:
        raise OSError

    def read_tables() -> None:
        raise AssertionError("the tables were read, which takes milliseconds")

    if request.param == "tables":
        monkeypatch.setattr(connections, "ask", refuse)
    elif not can_ask():
        pytest.skip("this kernel has no sock_diag for TCP")
    else:
        monkeypatch.setattr(connections, "connections", read_tables)


def can_ask() -> bool:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        try:
            ask(client.getsockname(), client.getpeername())
        except OSError:
            return False
    return True


def is_own(family: int, address: str, **options: object) -> bool:
    """Connect from another process to a socket here, and return what is said about it."""
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        with subprocess.Popen(
            [sys.executable, "-S", "-c", CONNECT, address, str(port)],
            stdin=subprocess.PIPE,
            **options,  # type: ignore[call-overload]
        ) as process:
            connection, peer = server.accept()
            with connection:
                said = is_own_user(peer[:2], connection.getsockname()[:2])
            process.communicate()
    return said


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize(("family", "address"), ENDS)
def test_a_process_of_this_user_is_own(family: int, address: str) -> None:
    assert is_own(family, address)


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another user")
@pytest.mark.parametrize(("family", "address"), ENDS)
def test_a_process_of_another_user_is_not_own(family: int, address: str) -> None:
    assert not is_own(family, address, user=NOBODY, executable="/usr/bin/python3")


@pytest.mark.usefixtures("_both_ways")
def test_a_connection_that_its_process_has_closed_is_nobodys() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        connection, peer = server.accept()
        with connection:
            assert is_own_user(peer, connection.getsockname())
            client.close()
            assert not is_own_user(peer, connection.getsockname())


def test_other_machines_are_left_to_the_password() -> None:
    assert is_own_user(("192.0.2.1", 40000), ("192.0.2.2", 4200))


def test_the_holder_of_a_port_is_named() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        said = holder(port)
        process.communicate()
    assert said is not None
    assert said.startswith(f"process {process.pid} (")
    assert "socket.create_server" in said
    assert "\n" not in said
