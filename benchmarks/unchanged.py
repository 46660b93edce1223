"""Compares a retrain with nothing changed to a bare Prefect flow of seven tasks.

Usage: python -m benchmarks.unchanged [--rounds 5]
Uses the real MNIST in a workspace of its own. Runs alternate; results are medians. Both flows run
on an embedded server of their own and on one running Prefect server. Also times `digits plan`,
`digits status` and `digits --help`. CPU time is shown because it varies less on a busy machine.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.workspaces import DIGITS, Timed, fresh_workspace, timed

BARE = (sys.executable, "-m", "benchmarks.bare_flow")
RUN = (*DIGITS, "run", "--recipe", "fast", "--epochs", "1")
PLAN = (*DIGITS, "plan", "--recipe", "fast", "--epochs", "1")


@contextlib.contextmanager
def server(environment: Mapping[str, str]) -> Iterator[str]:
    """Start a Prefect server, wait until it answers, and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    address = f"http://127.0.0.1:{port}/api"
    with answering(command, environment, f"{address}/health"):
        yield address


@contextlib.contextmanager
def answering(
    command: Sequence[str | Path], environment: Mapping[str, str], url: str
) -> Iterator[None]:
    """Run a server during a block, which begins when it answers at an address.

    Raises RuntimeError if it ends before.
    """
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(url):
                break
            time.sleep(0.5)
        else:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}, before it answered")
        yield
    finally:
        process.terminate()
        process.wait()


def alternate(
    commands: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]], rounds: int
) -> Mapping[str, list[Timed]]:
    """Time commands in turn; each one's first run is dropped, because it may compile or migrate."""
    times: dict[str, list[Timed]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, (command, environment) in commands.items():
            times[name].append(timed(command, environment))
    return {name: all_times[1:] for name, all_times in times.items()}


def print_row(name: str, times: list[Timed], base: list[Timed] | None = None) -> None:
    wall, processor = (
        statistics.median(getattr(one, kind) for one in times) for kind in ("wall", "processor")
    )
    low, high = (bound(one.wall for one in times) for bound in (min, max))
    ratio = ""
    if base is not None:
        ratio = f"{wall / statistics.median(one.wall for one in base):.2f}"
    print(
        f"| {name} | {wall:.2f} ({low:.2f} to {high:.2f}) | {ratio} | {processor:.2f} |", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        ours = fresh_workspace(Path(root))
        bare = {**ours, "PREFECT_HOME": f"{root}/bare"}
        timed(RUN, ours)
        facts = json.loads(timed((*RUN, "--json"), ours).output)
        executed = {step for step, how in facts["steps"].items() if how == "executed"}
        assert not executed, f"executed although nothing changed: {executed}"
        print(f"{options.rounds} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        print("| | wall s (range) | ratio | CPU s |\n|---|---:|---:|---:|")
        embedded = alternate({"bare": (BARE, bare), "digits": (RUN, ours)}, options.rounds)
        print_row("bare flow, its own server", embedded["bare"])
        print_row("digits run, its own server", embedded["digits"], embedded["bare"])
        with server(bare) as address:
            bare, ours = ({**one, "PREFECT_API_URL": address} for one in (bare, ours))
            up = alternate({"bare": (BARE, bare), "digits": (RUN, ours)}, options.rounds)
        print_row("bare flow, running server", up["bare"])
        print_row("digits run, running server", up["digits"], up["bare"])
        commands = {"plan": PLAN, "status": (*DIGITS, "status"), "--help": (*DIGITS, "--help")}
        short = alternate(
            {name: (command, ours) for name, command in commands.items()}, options.rounds
        )
        for name in commands:
            print_row(f"digits {name}", short[name])


if __name__ == "__main__":
    main()
