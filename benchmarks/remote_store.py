"""Measures what a remote store costs: time and requests of unchanged runs, beside a local folder.

Usage: python -m benchmarks.remote_store [--rounds 5] [--latencies 0,5,50] [--small]
A real S3 server (SeaweedFS), behind a proxy that delays each request and counts them. All runs use
one running Prefect server. An unchanged run uses the machine's verified copies; the first run of a
cold worker has none yet, and fetches them. Runs alternate; times are medians. `--small` uses a
small dataset instead of the real MNIST.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.unchanged import server
from benchmarks.workspaces import DIGITS, fresh_workspace, timed
from digits.settings import ROOT, Settings
from digits.storage.workspace import Workspace
from tests.support.faulty_proxy import Proxy, Request, proxied
from tests.support.object_store import environment, object_store
from tests.support.small_dataset import NAME, write_small_dataset

RUN = ("run", "--recipe", "fast", "--epochs", "1", "--json")
NUM_RECORDS = (10, 100, 1000)
QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True)
class Measured:
    """One run: its seconds, and its requests."""

    seconds: float
    requests: Sequence[Request]

    @property
    def kinds(self) -> str:
        """The number of requests by method."""
        counts = Counter(request.method for request in self.requests)
        return ", ".join(f"{number} {method}" for method, number in sorted(counts.items()))


@dataclass(frozen=True)
class Worker:
    """A machine: its folders, in the environment of its commands."""

    root: Path
    environment: Mapping[str, str]
    options: tuple[str, ...]

    def run(self, proxy: Proxy | None = None) -> Measured:
        """Run `digits run`, all of whose results are there."""
        before = len(proxy.requests) if proxy else 0
        done = timed((*DIGITS, *RUN, *self.options), self.environment)
        executed = [s for s, how in json.loads(done.output)["steps"].items() if how == "executed"]
        assert not executed, f"executed although nothing changed: {executed}"
        return Measured(done.wall, proxy.requests[before:] if proxy else ())

    def fill(self) -> int:
        """Run `digits run` for the first time; return the number of its steps."""
        done = timed((*DIGITS, *RUN, *self.options), self.environment)
        return len(json.loads(done.output)["steps"])

    def forget(self) -> None:
        """Delete the machine's copies of what lies in the store."""
        shutil.rmtree(self.root / "cache", ignore_errors=True)

    @property
    def settings(self) -> Settings:
        """The machine's settings."""
        return Settings(
            data_dir=self.root / "data",
            artifacts_dir=self.root / "artifacts",
            cache_dir=self.root / "cache",
            store=self.environment.get("DIGITS_STORE"),
        )


def make_worker(root: Path, shared: Mapping[str, str], is_small: bool) -> Worker:
    """Create a machine in a new folder, with the raw files of the dataset."""
    folders = {
        "DIGITS_HOME": str(root),
        "DIGITS_DATA_DIR": str(root / "data"),
        "DIGITS_ARTIFACTS_DIR": str(root / "artifacts"),
        "PREFECT_HOME": str(root / "prefect"),
    }
    if not is_small:
        return Worker(root, {**fresh_workspace(root), **shared, **folders}, ())
    worker = Worker(root, {**os.environ, **shared, **folders}, ("--dataset", NAME))
    write_small_dataset(worker.settings)
    return worker


def print_row(name: str, unchanged: Sequence[Measured], cold: Sequence[Measured]) -> None:
    """Print the medians of a place's runs, and the requests of the last one."""
    cells = [name]
    for runs in (unchanged, cold):
        seconds = [run.seconds for run in runs]
        middle = f"{statistics.median(seconds):.2f}" if runs else ""
        bounds = f" ({min(seconds):.2f} to {max(seconds):.2f})" if runs else ""
        cells += [middle + bounds, runs[-1].kinds if runs else ""]
    print(f"| {' | '.join(cells)} |", flush=True)


def compare(
    local: Worker, remote: Worker, proxy: Proxy, latencies: Sequence[float], rounds: int
) -> None:
    """Time unchanged runs and cold starts, at each latency and in the local folder in turn."""
    unchanged: dict[float | None, list[Measured]] = {None: [], **{ms: [] for ms in latencies}}
    cold: dict[float, list[Measured]] = {ms: [] for ms in latencies}
    for _ in range(rounds):
        unchanged[None].append(local.run())
        for ms in latencies:
            with proxy.suffering(latency=ms / 1000):
                remote.forget()
                cold[ms].append(remote.run(proxy))
                unchanged[ms].append(remote.run(proxy))
    print("| store | unchanged run, s (range) | its requests | cold worker, s (range) | requests |")
    print("|---|---:|---:|---:|---:|")
    print_row("local folder", unchanged[None], ())
    for ms in latencies:
        print_row(f"S3, {ms:g} ms a request", unchanged[ms], cold[ms])


def grow(remote: Worker, proxy: Proxy, num_steps: int) -> None:
    """Count the requests of an unchanged run as the store's records grow."""
    print("\n| records in the store | requests of an unchanged run | a step |")
    print("|---:|---:|---:|")
    records = Workspace(remote.settings).records
    there = list(records.all())
    for begin, number in zip((len(there), *NUM_RECORDS), NUM_RECORDS, strict=False):
        for one in range(begin, number):
            key = there[0].key.model_copy(update={"inputs": {"number": one}})
            records.write(key, there[0].reference, run_id="0", run_name="another run")
        asked = remote.run(proxy).requests
        print(f"| {number} | {len(asked)} | {len(asked) / num_steps:.1f} |", flush=True)


@contextlib.contextmanager
def machines(folder: Path, is_small: bool) -> Iterator[tuple[Worker, Worker, Proxy]]:
    """Run the servers; yield a machine without a store, one with it, and the proxy between."""
    prefect = {**os.environ, "PREFECT_HOME": str(folder / "prefect"), **QUIET}
    with (
        server(prefect) as address,
        object_store(folder / "store") as store,
        proxied(store.port) as proxy,
    ):
        shared = {"PREFECT_API_URL": address, "PYTHONPATH": str(ROOT), **QUIET}
        remote = {**shared, **environment(proxy.address)}
        # For the records that are added from this process.
        os.environ.update(environment(proxy.address))
        yield (
            make_worker(folder / "local", shared, is_small),
            make_worker(folder / "remote", remote, is_small),
            proxy,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latencies", default="0,5,50", help="milliseconds a request")
    parser.add_argument("--small", action="store_true", help="a small dataset instead of MNIST")
    options = parser.parse_args()
    latencies = [float(ms) for ms in options.latencies.split(",")]
    with tempfile.TemporaryDirectory() as folder, machines(Path(folder), options.small) as found:
        local, remote, proxy = found
        local.fill()
        num_steps = remote.fill()
        print(f"{options.rounds} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        compare(local, remote, proxy, latencies, options.rounds)
        grow(remote, proxy, num_steps)


if __name__ == "__main__":
    main()
