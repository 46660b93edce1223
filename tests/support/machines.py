"""Several machines on this one: network namespaces on a bridge, or only isolated homes.

Namespaces need root and a kernel that has bridges and veth pairs. In both cases each machine has
its own home, and nothing is shared below it; kernel locks and sockets meet only by paths.
"""

import contextlib
import ctypes
import os
import random
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

NAMESPACES = Path("/run/netns")
CLONE_NEWNET = 0x40000000  # linux/sched.h


@dataclass(frozen=True)
class Machine:
    """A machine: its folder, and its namespace if it has one of its own."""

    name: str
    home: Path
    namespace: str = ""
    address: str = "127.0.0.1"
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, *command: object, **environment: str) -> "subprocess.Popen[str]":
        """Start a command on the machine; its streams are pipes, also its input."""
        return subprocess.Popen(
            [*self.inside, *map(str, command)],
            cwd=self.home,
            env={**os.environ, **self.environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def inside(self) -> tuple[str, ...]:
        """The beginning of a command that starts it on the machine, as the same process."""
        return ("ip", "netns", "exec", self.namespace) if self.namespace else ()

    @property
    def entrance(self) -> "Entrance":
        """What moves a process that was forked elsewhere onto the machine."""
        return Entrance(self.namespace)

    @contextlib.contextmanager
    def disconnected(self) -> Iterator[None]:
        """Pull the machine's cable during a block. Needs namespaces."""
        _ip("link", "set", self._cable, "down")
        try:
            yield
        finally:
            _ip("link", "set", self._cable, "up")

    @property
    def _cable(self) -> str:
        assert self.namespace, "a machine without a namespace has no cable of its own"
        return f"{self.namespace}-v"


@dataclass(frozen=True)
class Entrance:
    """Moves the process that calls it into a namespace, if there is one."""

    namespace: str

    def __call__(self) -> None:
        if self.namespace:
            libc = ctypes.CDLL(None, use_errno=True)
            with (NAMESPACES / self.namespace).open() as namespace:
                if libc.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"cannot enter {self.namespace}")


@dataclass(frozen=True)
class Network:
    """Machines, and the address at which they reach what runs on the host."""

    machines: tuple[Machine, ...]
    host: str


@cache
def why_no_namespaces() -> str:
    """Return why machines cannot have namespaces here; empty if they can."""
    try:
        with _namespaces(1):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return str(said).strip().splitlines()[-1]


@contextlib.contextmanager
def network(folder: Path, number: int) -> Iterator[Network]:
    """Run a network of machines during a block, each with its home below `folder`."""
    names = [f"machine-{one}" for one in range(1, number + 1)]
    homes = [folder / name for name in names]
    for home in homes:
        home.mkdir(parents=True)
    if why_no_namespaces():
        yield Network(tuple(map(Machine, names, homes)), "127.0.0.1")
        return
    with _namespaces(number) as (host, places):
        yield Network(
            tuple(
                Machine(name, home, *place)
                for name, home, place in zip(names, homes, places, strict=True)
            ),
            host,
        )


@contextlib.contextmanager
def _namespaces(number: int) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Make namespaces on a bridge; yield the host's address, their names and addresses."""
    # Any two runs at once differ; from the range for tests of networks, 198.18.0.0/15.
    chance = random.SystemRandom()
    tag, subnet = f"dg{chance.randrange(16**6):06x}", f"198.18.{chance.randrange(256)}"
    with contextlib.ExitStack() as stack:
        _ip("link", "add", tag, "type", "bridge")
        stack.callback(_ip, "link", "del", tag)
        _ip("addr", "add", f"{subnet}.1/24", "dev", tag)
        _ip("link", "set", tag, "up")
        places = []
        for one in range(1, number + 1):
            name, address = f"{tag}-{one}", f"{subnet}.{one + 1}"
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            _connect(name, address, tag)
            places.append((name, address))
        yield f"{subnet}.1", places


def _connect(name: str, address: str, bridge: str) -> None:
    """Connect a namespace to the bridge by a pair of interfaces."""
    _ip("link", "add", f"{name}-v", "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("link", "set", f"{name}-v", "master", bridge, "up")
    _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip("-n", name, "link", "set", device, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
