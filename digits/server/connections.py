"""Who is at the other end of a socket, and who holds a port, as Linux's kernel knows it.

Elsewhere, nothing is known.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from digits.server.socket_diag import ask

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
ESTABLISHED, LISTENING = "01", "0A"
ROOT_USER = 0
# A socket that its process has closed; the kernel no longer knows whose it was.
NOBODYS = "0"


@dataclass(frozen=True)
class Connection:
    """A row of the kernel's tables: addresses as the kernel writes them, state, user, inode."""

    local: str
    remote: str
    state: str
    user: int
    inode: str


def connections() -> Iterator[Connection]:
    """Yield the TCP sockets of this machine; none if the kernel has no such table."""
    for table in TABLES:
        if not table.exists():
            continue
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            _, local, remote, state, _, _, _, user, _, inode, *_ = line.split()
            yield Connection(local, remote, state, int(user), inode)


def is_own_user(peer: tuple[str, int], here: tuple[str, int]) -> bool:
    """Return whether the process that opened a connection belongs to this user, or to root.

    True if the connection comes from another machine, or if the kernel does not say.
    """
    if not TABLES[0].exists() or not _is_local(peer[0]):
        return True
    own = (os.getuid(), ROOT_USER)
    with contextlib.suppress(OSError):  # no such socket, or an old kernel: the tables tell
        found = ask(peer, here)
        return found.state == int(ESTABLISHED) and found.user in own and found.inode != 0
    ends = {(one, other) for one in _written(*peer) for other in _written(*here)}
    return any(
        row.user in own and row.inode != NOBODYS
        for row in connections()
        if row.state == ESTABLISHED and (row.local, row.remote) in ends
    )


def holder(port: int) -> str | None:
    """Describe the process that listens on a port: its pid and command, or None if unknown.

    The processes of other users are only known to root.
    """
    sockets = {
        f"socket:[{row.inode}]": row.user
        for row in connections()
        if row.state == LISTENING and int(row.local.rpartition(":")[2], 16) == port
    }
    for folder in Path("/proc").iterdir() if sockets else ():
        if folder.name.isdecimal() and not sockets.keys().isdisjoint(_open_files(folder)):
            return f"process {folder.name} ({_command(folder)})"
    users = sorted(user for user in sockets.values() if user != os.getuid())
    return f"a process of user {users[0]}" if users else None


def _open_files(process: Path) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):  # another user's, or just gone
        for descriptor in (process / "fd").iterdir():
            found.add(str(descriptor.readlink()))
    return found


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "ended meanwhile"
    text = b" ".join(words).decode(errors="replace").strip()
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:100]


def _is_local(address: str) -> bool:
    return address == "::1" or address.removeprefix("::ffff:").startswith("127.")


def _written(address: str, port: int) -> set[str]:
    """Return the forms in which the kernel writes an address: words of 32 bits, little-endian."""
    address = address.removeprefix("::ffff:")
    if ":" in address:
        packed = {socket.inet_pton(socket.AF_INET6, address)}
    else:
        v4 = socket.inet_pton(socket.AF_INET, address)
        packed = {v4, bytes(10) + b"\xff\xff" + v4}
    return {f"{_words(one)}:{port:04X}" for one in packed}


def _words(packed: bytes) -> str:
    return "".join(
        f"{int.from_bytes(packed[i : i + 4], sys.byteorder):08X}" for i in range(0, len(packed), 4)
    )
