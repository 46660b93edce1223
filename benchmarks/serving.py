"""Compares `digits serve` with other servers of the same champion, side by side in one run.

Usage: python -m benchmarks.serving [--rounds 3] [--seconds 5] [--only NAME]
Needs wrk, taskset, two cores, the champion of mnist with its ONNX form (`make run`), and the
network once, to install the others. On one core, the server has a core to itself and wrk the other
one; on two cores, two workers share both with wrk, which takes a tenth to a fifth of one.

In each round every server is started anew, in changing order. Its answer is compared with ONNX
Runtime's before it is timed; an error during the load ends the benchmark.
"""

import argparse
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import onnxruntime

from benchmarks.model_servers import ModelServer, Question, model_servers
from benchmarks.process_trees import memory, processes_of, processor_seconds, put_ahead
from digits.datasets.images import Images, iter_split
from digits.registry.champion import champion_version, dataset_folder
from digits.registry.ledger import Ledger, forms_of
from digits.settings import ROOT
from digits.spec import load_spec
from digits.storage.workspace import Workspace, current_workspace
from digits.tracking.mlflow_models import write_model

CONNECTIONS = (1, 8, 64)
# Cores of the server and of wrk, by the number of cores that the server may use.
CORES: Mapping[int, tuple[Sequence[int], Sequence[int]]] = {1: ([0], [1]), 2: ([0, 1], [0, 1])}
PATIENCE = 120
LOAD = ROOT / "benchmarks" / "load.lua"

# (server, question, cores, connections) -> measurements of wrk
Loads = dict[tuple[str, str, int, int], list[Mapping[str, float]]]
# (server, cores) -> seconds to the first right answer, MB of the whole server after its load
Starts = dict[tuple[str, int], list[tuple[float, float]]]


class Asked:
    """The champion's image, file and right answer."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        version = champion_version("mnist", workspace)
        entries = Ledger("mnist", workspace.settings).entries()
        form = forms_of(entries, version.number)[0]
        workspace.store.verify(form)
        self.onnx = workspace.store.folder(form) / "model.onnx"
        self.mlflow_model = folder / "mlflow-model"
        write_model(self.mlflow_model, self.onnx, form, threads=1)
        layout = load_spec("mnist", workspace.settings).layout
        data = dataset_folder(version, workspace) / "test.parquet"
        images: Images = next(images for images, _ in iter_split(data, layout))
        self.image = images[0]
        session = onnxruntime.InferenceSession(self.onnx, providers=["CPUExecutionProvider"])
        pixels = np.divide(self.image[np.newaxis, ..., np.newaxis], np.float32(255))
        self.answer = session.run(None, {"image": pixels})[0][0]

    def check(self, question: Question, address: str) -> None:
        """Ask once. Raises an error if the answer is not the model's."""
        answer = httpx.post(
            address + question.path, content=question.body, headers=question.headers, timeout=60
        )
        answer.raise_for_status()
        np.testing.assert_allclose(
            question.probabilities(answer.content), self.answer, rtol=1e-4, atol=1e-6
        )


@contextmanager
def running(
    server: ModelServer,
    programs: Path,
    asked: Asked,
    num_cores: int,
    folder: Path,
    *,
    is_ahead: bool,
) -> Iterator[tuple[str, int, float]]:
    """Start a server; yield its address, its process and the seconds to its first right answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    values = {"port": str(port), "workers": str(num_cores), "onnx": str(asked.onnx)}
    address, log = f"http://127.0.0.1:{port}", folder / "server.log"
    begun = time.monotonic()
    process = server.start(programs, values, CORES[num_cores][0], log)
    try:
        if is_ahead:
            put_ahead(process.pid)
        while not is_ready(address + server.ready):
            if process.poll() is not None or time.monotonic() > begun + PATIENCE:
                raise RuntimeError(f"{server.name} did not start: {log.read_text()}")
            time.sleep(0.01)
        asked.check(server.questions[0], address)
        until_ready = time.monotonic() - begun
        if is_ahead:
            put_ahead(process.pid)  # workers may have sessions of their own
        yield address, process.pid, until_ready
    finally:
        all_of_it = processes_of(process.pid)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        for one in all_of_it:  # some leave their workers behind
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.wait()


def is_ready(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5).is_success
    except httpx.TransportError:
        return False


def load(
    question: Question, address: str, connections: int, seconds: int, cores: Sequence[int]
) -> Mapping[str, float]:
    """Load a server with wrk. Returns requests, seconds, and p50 and p99 in ms."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(question.body)
        body.flush()
        headers = [f"{name}={value}" for name, value in question.headers.items()]
        done = subprocess.run(
            [
                *("taskset", "-c", ",".join(map(str, cores)), "wrk", "--threads", "1"),
                *("--connections", str(connections), "--duration", f"{seconds}s"),
                *("--timeout", "30s", "--script", str(LOAD), address + question.path),
                *("--", body.name, *headers),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    measured: Mapping[str, float] = json.loads(done.stdout.splitlines()[-1])
    if measured["errors"] or not measured["requests"]:
        raise RuntimeError(f"{question.name} at {address}: {measured}")
    return measured


def measure_round(
    servers: Sequence[tuple[ModelServer, Path]],
    asked: Asked,
    seconds: int,
    loads: Loads,
    starts: Starts,
    *,
    is_ahead: bool,
) -> None:
    for num_cores, (_, for_load) in CORES.items():
        for server, programs in servers:
            with (
                tempfile.TemporaryDirectory() as folder,
                running(
                    server, programs, asked, num_cores, Path(folder), is_ahead=is_ahead
                ) as started,
            ):
                address, process, until_ready = started
                for question in server.questions:
                    asked.check(question, address)
                    load(question, address, 8, 1, for_load)
                    for connections in CONNECTIONS:
                        before = processor_seconds(process)
                        measured = load(question, address, connections, seconds, for_load)
                        used = (processor_seconds(process) - before) / measured["requests"]
                        loads[server.name, question.name, num_cores, connections].append(
                            {**measured, "processor_us": 1e6 * used}
                        )
                starts[server.name, num_cores].append((until_ready, memory(process)))
            print(f"{num_cores} cores: {server.name} done", file=sys.stderr, flush=True)


def print_loads(loads: Loads, num_cores: int) -> None:
    for connections in CONNECTIONS:
        print(f"\n{num_cores} core(s), {connections} connection(s)\n")
        print("| server | requests/s (range) | p50 ms | p99 ms | CPU us a request |")
        print("|---|---:|---:|---:|---:|")
        rows = {
            f"{server}, {question}": measured
            for (server, question, cores, count), measured in loads.items()
            if (cores, count) == (num_cores, connections)
        }
        for name, measured in sorted(
            rows.items(), key=lambda row: -statistics.median(rates(row[1]))
        ):
            print(f"| {name} | {described(measured)} |")


def rates(measured: Sequence[Mapping[str, float]]) -> list[float]:
    return [one["requests"] / one["seconds"] for one in measured]


def described(measured: Sequence[Mapping[str, float]]) -> str:
    found = rates(measured)
    p50, p99, used = (
        statistics.median(one[key] for one in measured) for key in ("p50", "p99", "processor_us")
    )
    spread = f"{min(found):,.0f} to {max(found):,.0f}"
    return f"{statistics.median(found):,.0f} ({spread}) | {p50:.2f} | {p99:.2f} | {used:,.0f}"


def print_starts(starts: Starts) -> None:
    print("\n| server | workers | s to the first answer | MB, whole server |")
    print("|---|---:|---:|---:|")
    for (server, workers), measured in sorted(starts.items()):
        seconds, size = (statistics.median(values) for values in zip(*measured, strict=True))
        print(f"| {server} | {workers} | {seconds:.2f} | {size:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--only", action="append", help="part of a server's name")
    parser.add_argument("--environments", type=Path, default=Path(sys.prefix) / "benchmarks")
    parser.add_argument(
        "--ahead",
        action="store_true",
        help="let other processes wait, on a machine that is not idle (root, Linux's autogroups)",
    )
    arguments = parser.parse_args()
    if arguments.ahead:
        put_ahead(os.getpid())
    loads: Loads = defaultdict(list)
    starts: Starts = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        asked = Asked(current_workspace(), Path(folder))
        servers = [
            (server, server.environment(arguments.environments))
            for server in model_servers(asked.image, asked.mlflow_model)
            if not arguments.only or any(part in server.name for part in arguments.only)
        ]
        for number in range(arguments.rounds):
            print(f"Round {number + 1}; load average {os.getloadavg()[0]:.2f}", file=sys.stderr)
            random.Random(number).shuffle(servers)
            measure_round(
                servers, asked, arguments.seconds, loads, starts, is_ahead=arguments.ahead
            )
    for num_cores in CORES:
        print_loads(loads, num_cores)
    print_starts(starts)


if __name__ == "__main__":
    main()
