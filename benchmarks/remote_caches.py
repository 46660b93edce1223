"""Compares the remote caches of digits, DVC and ZenML, on the same steps of the real MNIST.

Usage: python -m benchmarks.remote_caches [--rounds 3] [--latencies 0,5,50]
Results are in a real S3 server (SeaweedFS), behind a proxy that delays each request, counts it and
can alter its answer. Runs alternate; times are medians. DVC and ZenML each get an environment of
their own, made by pip on first use.
"""

import argparse
import contextlib
import os
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cache_tools import PACKAGES, Tool, all_tools, zenml_server
from benchmarks.environments import installed
from benchmarks.remote_store import QUIET
from benchmarks.unchanged import server
from tests.support.faulty_proxy import Proxy, Request, proxied
from tests.support.object_store import ObjectStore, object_store

# The size of x_train.npy, which no other object has.
IMAGES_BYTES = 60_000 * 28 * 28 * 4 + 128


@dataclass(frozen=True)
class Measured:
    """One run: its seconds, its requests by method, and the bytes that it fetched."""

    seconds: float
    requests: Mapping[str, int]
    fetched: int


@dataclass(frozen=True, eq=False)
class Case:
    """A way to use a tool: on its first machine, or on a new one."""

    tool: Tool
    way: str
    is_cold: bool

    @property
    def name(self) -> str:
        return f"{self.tool.name}: {self.way}"

    def run(self) -> tuple[float, Sequence[str]]:
        """Run the commands; return their seconds, and the steps that they executed."""
        if self.is_cold:
            seconds, output = self.tool.run(self.tool.cold[self.way], "second")
        else:
            seconds, output = self.tool.run(self.tool.unchanged[self.way])
        return seconds, re.findall(self.tool.executed, output)


def measured(case: Case, proxy: Proxy, milliseconds: float) -> Measured:
    """Run a case with this latency. Nothing changed, so no step may be executed."""
    say(f"{milliseconds:g} ms: {case.name}{', new machine' if case.is_cold else ''}")
    if case.is_cold:
        case.tool.make_second()
    begun, fetched = len(proxy.requests), proxy.fetched
    with proxy.suffering(latency=milliseconds / 1000):
        seconds, executed = case.run()
    assert not executed, f"{case.name} executed {executed} although nothing changed"
    asked = Counter(request.method for request in proxy.requests[begun:])
    return Measured(seconds, asked, proxy.fetched - fetched)


def compare(tools: Sequence[Tool], proxy: Proxy, latencies: Sequence[float], rounds: int) -> None:
    """Time all cases at all latencies in turn, and print a table of each situation."""
    cases = [
        Case(tool, way, is_cold)
        for is_cold in (False, True)
        for tool in tools
        for way in (tool.cold if is_cold else tool.unchanged)
    ]
    runs: dict[Case, dict[float, list[Measured]]] = {
        case: {ms: [] for ms in latencies} for case in cases
    }
    for _ in range(rounds):
        for ms in latencies:
            for case in cases:
                runs[case][ms].append(measured(case, proxy, ms))
    for title, is_cold in (("Nothing changed, own copies", False), ("A new machine", True)):
        columns = " | ".join(f"{ms:g} ms, s (range)" for ms in latencies)
        print(f"\n| {title} | {columns} | requests | MB fetched |")
        print(f"|---|{'---:|' * len(latencies)}---:|---:|")
        for case in cases:
            if case.is_cold == is_cold:
                print(row(case.name, runs[case]), flush=True)


def row(name: str, by_latency: Mapping[float, Sequence[Measured]]) -> str:
    """Return a row: medians and ranges of seconds, and requests and bytes of the last run."""
    cells = [name]
    for runs in by_latency.values():
        seconds = [run.seconds for run in runs]
        bounds = f"{min(seconds):.2f} to {max(seconds):.2f}"
        cells.append(f"{statistics.median(seconds):.2f} ({bounds})")
        last = runs[-1]
    kinds = ", ".join(f"{number} {method}" for method, number in sorted(last.requests.items()))
    return f"| {' | '.join([*cells, kinds or '0', f'{last.fetched / 1e6:.1f}'])} |"


@contextlib.contextmanager
def overwritten(store: ObjectStore, names: Sequence[str]) -> Iterator[None]:
    """Alter a bit in the middle of objects in the bucket during a block."""
    client = store.client()
    before = {name: bytes(client.get(name).bytes()) for name in names}
    for name, content in before.items():
        altered = bytearray(content)
        altered[len(content) // 2] ^= 1
        client.put(name, bytes(altered))
    try:
        yield
    finally:
        for name, content in before.items():
            client.put(name, content)


def outcome(case: Case, altering: AbstractContextManager[None], right: set[str]) -> str:
    """Say what a new machine does with altered training images; `right` is their true digest."""
    case.tool.make_second()
    with altering:
        try:
            _, executed = case.run()
        except RuntimeError as error:
            lines = str(error).strip().splitlines()
            return f"fails: {next((line for line in lines if 'ERROR' in line), lines[-1])}"
    found = case.tool.training_images()
    used = ("right" if found == right else "**altered**") if found else "not fetched"
    return f"images: {used}; executed: {', '.join(executed) or 'nothing'}"


def alter(tools: Sequence[Tool], store: ObjectStore, proxy: Proxy, right: set[str]) -> None:
    """Print what each tool does with training images of which one bit was altered."""
    print(
        "\n| One bit of the training images | altered in the bucket | on the way |\n|---|---|---|"
    )
    listed = [each for some in store.client().list() for each in some]
    names = [each["path"] for each in listed if each["size"] == IMAGES_BYTES]

    def asks_for_images(request: Request) -> bool:
        return request.method == "GET" and any(name in request.path for name in names)

    for tool in tools:
        for way in tool.cold:
            case = Case(tool, way, is_cold=True)
            say(f"Altered training images: {case.name}")
            cells = (
                outcome(case, overwritten(store, names), right),
                outcome(case, proxy.suffering(flip=True, of=asks_for_images), right),
            )
            print(f"| {case.name} | {' | '.join(cells)} |", flush=True)


@contextlib.contextmanager
def filled(
    folder: Path, programs: Mapping[str, Path]
) -> Iterator[tuple[Sequence[Tool], ObjectStore, Proxy]]:
    """Run all servers and fill the store; yield the tools, the store and the proxy before it."""
    with (
        server({**os.environ, "PREFECT_HOME": str(folder / "prefect"), **QUIET}) as prefect,
        zenml_server(programs["zenml"] / "zenml", folder / "server") as zenml,
        object_store(folder / "store") as store,
        proxied(store.port) as proxy,
    ):
        tools = all_tools(folder, programs, proxy.address, prefect, zenml)
        for tool in tools:
            say(f"{tool.name} fills the store")
            tool.make_first()
        yield tools, store, proxy


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latencies", default="0,5,50", help="milliseconds a request")
    parser.add_argument("--environments", type=Path, default=Path(sys.prefix) / "benchmarks")
    options = parser.parse_args()
    latencies = [float(ms) for ms in options.latencies.split(",")]
    programs = {
        name: installed(options.environments / name, packages)
        for name, packages in PACKAGES.items()
    }
    with tempfile.TemporaryDirectory() as folder, filled(Path(folder), programs) as found:
        tools, store, proxy = found
        print(f"{options.rounds} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        compare(tools, proxy, latencies, options.rounds)
        alter(tools, store, proxy, tools[1].training_images())


if __name__ == "__main__":
    main()
