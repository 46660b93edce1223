"""Asks Linux's kernel about one TCP socket, in microseconds however many there are.

Reading /proc/net/tcp takes milliseconds even on a quiet machine, for each new connection. See
sock_diag(7); the structures are those of linux/inet_diag.h.
"""

import socket
import struct
from typing import NamedTuple

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
IS_REQUEST = 1
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
# Family, protocol, extensions, padding, states; the ports and addresses follow.
REQUEST = struct.Struct("=BBBBI")
ALL_STATES = 0xFFFFFFFF
NO_INTERFACE, NO_COOKIE = bytes(4), b"\xff" * 8
# Family, state, timer, retransmissions; ports, addresses, interface, cookie; then expiry, queues,
# user, inode.
ANSWER = struct.Struct("=BBBB 48x IIIII")


class Answer(NamedTuple):
    """A socket: its state, its user, and its inode, which is 0 when its process has closed it."""

    state: int
    user: int
    inode: int


def ask(local: tuple[str, int], remote: tuple[str, int]) -> Answer:
    """Return the TCP socket of this machine between two addresses.

    Raises OSError if there is none, or if the kernel cannot be asked in this way.
    """
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError("sockets can only be asked for on Linux")
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    addresses = (socket.inet_pton(family, end[0]).ljust(16, b"\0") for end in (local, remote))
    request = b"".join(
        (
            REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, ALL_STATES),
            struct.pack("!HH", local[1], remote[1]),
            *addresses,
            NO_INTERFACE,
            NO_COOKIE,
        )
    )
    header = HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, IS_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1)
        kernel.sendto(header + request, (0, 0))
        answer = kernel.recv(8192)
    if (
        HEADER.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY
        or len(answer) < HEADER.size + ANSWER.size
    ):
        raise OSError("the kernel knows no such socket")
    _, state, _, _, _, _, _, user, inode = ANSWER.unpack_from(answer, HEADER.size)
    return Answer(state, user, inode)
