"""Listening sockets, bound before anything is sent to them: whoever answers there is ours."""

import errno
import os
import socket

from digits.errors import DigitsError, UsageError
from digits.server.connections import holder
from flows.serving.proxies import LOOPBACK

PORT_SETTING = "PREFECT_SERVER_API_PORT"
HOST_SETTING = "PREFECT_SERVER_API_HOST"
PASSWORD_SETTING = "PREFECT_SERVER_API_AUTH_STRING"  # noqa: S105
# The pages and the model server are at the next two ports.
LAST_PORT = 65533


def configured_port() -> int:
    """Return the port of the server. Raises UsageError if it cannot be one."""
    text = os.environ.get(PORT_SETTING, "4200")
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= LAST_PORT):
        raise UsageError(
            f"{PORT_SETTING}={text!r} is not usable (expected a number from 1 to {LAST_PORT}, "
            "because the reports and the model server are at the next two ports)"
        )
    return int(text)


def refuse_without_password(host: str, setting: str = f"{HOST_SETTING}=") -> None:
    """Raise UsageError if other machines could reach Prefect's server without a password."""
    if host not in LOOPBACK and not os.environ.get(PASSWORD_SETTING):
        raise UsageError(
            f"{setting}{host}: without a password, other machines could start and delete anything; "
            f"set {PASSWORD_SETTING} (docs/operate.md explains how to expose the dashboard)"
        )


def listen(
    host: str, port: int, host_setting: str = HOST_SETTING, port_setting: str = PORT_SETTING
) -> socket.socket:
    """Return a socket that listens at an address; port 0 means any free one.

    Messages name the settings that say where.
    Raises DigitsError if the port is taken, with what holds it if that is known, and UsageError if
    the host is not an address of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise DigitsError(_taken(port, port_setting)) from error
        if error.errno == errno.EACCES:
            raise DigitsError(
                f"port {port} needs root's rights; choose one above 1023 with {port_setting}"
            ) from error
        raise UsageError(
            f"{host_setting}={host!r}: cannot listen there ({error.strerror}; expected an address "
            "of this machine, such as 127.0.0.1)"
        ) from error


def _taken(port: int, setting: str) -> str:
    who = holder(port) or "another program"
    advice = f"port {port} is in use by {who}; stop that, or choose another port with {setting}"
    if setting == PORT_SETTING:
        advice += " (the reports and the model server are at the next two ports)"
    return advice
