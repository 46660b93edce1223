"""`digits serve` with two workers, as its clients and operators have it."""

import logging
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import schemathesis
import tritonclient.http as triton
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from schemathesis import GenerationMode

from digits.registry.history import roll_back
from digits.registry.ledger import Ledger, forms_of
from digits.settings import Settings
from digits.storage.workspace import Workspace
from tests.support.handwriting import SHAPE
from tests.support.load import Load, Period, unexpected
from tests.support.model_server import INFER, ModelServer, drawing, png
from tests.support.served_versions import promote_version, write_served_dataset
from tests.support.small_dataset import NAME

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.e2e

WORKERS = 2
RAW = {"content-type": "image/png"}
MODEL = {"name": NAME, "number": 1}
PICTURE = png(drawing())
# Modules that a server of models has no use for, and that take seconds and gigabytes.
HEAVY = {"tensorflow", "keras", "prefect", "jax", "torch", "tf2onnx", "onnx", "pandas", "pyarrow"}

Start = Callable[..., ModelServer]


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    """Start servers of the small dataset, whose first version says 0."""
    write_served_dataset(settings)
    promote_version(settings, 0)
    started: list[ModelServer] = []

    def start(*options: str, **environment: str) -> ModelServer:
        usual = ("--workers", str(WORKERS), "--drain", "0")
        server = ModelServer(settings, tmp_path, *usual, *options, **environment)
        started.append(server)
        server.await_ready()
        server.wait_for(lambda: server.metric("digits_swaps_total") == WORKERS)
        return server

    yield start
    for server in started:
        server.end()


def await_all_workers(server: ModelServer, number: int) -> None:
    """Wait until all workers have a version in service."""
    server.wait_for(lambda: server.samples("digits_version{") == [number] * WORKERS)


@pytest.mark.timeout(600)
def test_no_answer_is_lost_wrong_or_mixed_while_the_champion_changes(
    start: Start, settings: Settings
) -> None:
    server = start("--no-access-log")
    workspace = Workspace(settings)
    favored = {1: 0}
    periods = [Period(1, 0.0, 0.0)]
    load = Load(server.port, 100_000, favored)
    thread = threading.Thread(target=load.run)
    thread.start()
    for number in range(10):
        while load.num_answered < (number + 1) * load.num_requests / 12:
            assert thread.is_alive()
            time.sleep(0.02)
        begin = time.monotonic()
        if number % 3 == 2:
            champion = roll_back(NAME, None, "by hand", workspace).verdict.champion_after
        else:
            version = len(favored) + 1
            favored[version] = version % 10
            champion = promote_version(settings, version % 10).verdict.champion_after
        assert champion is not None
        await_all_workers(server, champion)
        periods.append(Period(champion, begin, time.monotonic()))
    thread.join()
    seconds = [period.settled - period.begin for period in periods[1:]]
    logger.info("in service on all workers after %.2f to %.2f s", min(seconds), max(seconds))
    assert load.wrong == []
    assert load.num_closed == 0
    assert len(load.answers) == load.num_requests
    assert unexpected(load.answers, periods) == []
    assert {answer.version for answer in load.answers} == {period.version for period in periods}


def test_killed_workers_are_replaced_and_the_others_go_on(start: Start) -> None:
    server = start("--no-access-log")
    load = Load(server.port, 20_000, {1: 0})
    thread = threading.Thread(target=load.run)
    thread.start()
    for number in range(3):
        while load.num_answered < (number + 1) * load.num_requests / 5:
            time.sleep(0.02)
        before = server.workers
        os.kill(before[0], signal.SIGKILL)
        server.wait_for(
            lambda before=before: len(server.workers) == WORKERS and before[0] not in server.workers
        )
    thread.join()
    assert load.wrong == []
    assert len(load.answers) == load.num_requests
    # Only requests on the connections of a killed worker were cut off.
    assert load.num_closed <= 3 * load.num_connections
    server.await_ready()


def test_workers_end_with_the_process_that_replaces_them(start: Start) -> None:
    server = start()
    workers = server.workers
    server.process.kill()
    server.process.wait()
    server.wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_a_corrupted_version_is_not_served_and_is_once_it_is_restored(
    start: Start, settings: Settings
) -> None:
    server = start()
    entry = promote_version(settings, 1, corrupt=True)
    server.wait_for(lambda: server.metric("digits_load_failures_total") >= WORKERS)
    facts = server.http.get("/health").json()["datasets"][NAME]
    assert (facts["ready"], facts["version"]) == (True, 1)
    assert "model.onnx" in facts["problem"]
    assert server.metric("digits_ready{") == 0
    form = forms_of(Ledger(NAME, settings).entries(), entry.verdict.champion_after or 0)[0]
    path = Workspace(settings).store.folder(form) / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    await_all_workers(server, 2)
    assert server.http.get("/health").json()["datasets"][NAME]["problem"] is None


def test_a_full_disk_costs_log_lines_and_samples_but_no_answer(start: Start) -> None:
    server = start("--sample", "1")
    for pid in [server.process.pid, *server.workers]:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    for _ in range(20):
        assert server.http.post("/predict", content=PICTURE, headers=RAW).status_code == 200
    for what in ("samples", "log lines"):
        server.wait_for(lambda w=what: server.metric(f'digits_lost_total{{what="{w}"}}') >= 20)
    assert len(server.workers) == WORKERS


def test_slow_clients_hold_up_nobody(start: Start) -> None:
    server = start()
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n".encode()
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    for number, connection in enumerate(slow):
        connection.sendall(head[: number or 1] if number % 2 else head + b"{")
    load = Load(server.port, 1000, {1: 0}, num_connections=4)
    load.run()
    assert load.wrong == []
    assert len(load.answers) == 1000
    for connection in slow:
        connection.close()


def test_the_server_says_that_it_is_not_ready_before_it_ends(start: Start) -> None:
    server = start("--drain", "3")
    seen: list[int] = []
    server.process.send_signal(signal.SIGTERM)
    while server.process.poll() is None:
        try:
            answer = server.http.get("/v2/health/ready")
            asked = server.http.post("/predict", content=PICTURE, headers=RAW)
        except Exception:  # noqa: BLE001  # it has ended
            break
        seen.append(answer.status_code)
        assert asked.status_code == 200  # whoever has not noticed yet is still answered
    assert server.process.wait() == 0
    assert 503 in seen
    assert sorted(seen) == seen  # 200 until the signal arrives, 503 from then on


def test_the_public_client_of_the_protocol_works_unchanged(
    start: Start, settings: Settings
) -> None:
    server = start()
    promote_version(settings, 7)
    await_all_workers(server, 2)
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert not client.is_model_ready(NAME, "9")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    (facts,) = client.get_model_metadata(NAME)["inputs"]
    pixels = np.random.default_rng(0).random((3, *SHAPE, 1), np.float32)
    assert [-1, *pixels.shape[1:]] == facts["shape"]
    for is_binary in (True, False):
        for version, label in (("", 7), ("1", 0)):
            sent = triton.InferInput(facts["name"], list(pixels.shape), facts["datatype"])
            sent.set_data_from_numpy(pixels, binary_data=is_binary)
            wanted = triton.InferRequestedOutput("output_0", binary_data=is_binary)
            result = client.infer(
                NAME, [sent], model_version=version, outputs=[wanted], request_id="a"
            )
            assert result.as_numpy("output_0").argmax(axis=1).tolist() == [label] * 3
            assert result.get_response()["id"] == "a"
    with pytest.raises(triton.InferenceServerException, match="unknown dataset"):
        client.infer("unknown", [sent])
    client.close()


def test_a_server_imports_nothing_that_trains(start: Start) -> None:
    server = start(PYTHONPROFILEIMPORTTIME="1")  # each import of each process is in its log
    server.http.post("/predict?each=true&compare=true&seen=true", content=PICTURE, headers=RAW)
    lines = server.log.read_text().splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time")}
    assert {"onnxruntime", "digits.server.app", "digits.labeling.separation"} <= imported
    assert not {name.partition(".")[0] for name in imported} & HEAVY


@pytest.mark.timeout(600)
def test_malformed_requests_are_never_a_fault_of_the_server(
    start: Start,
) -> None:
    server = start("--no-access-log")
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    found = [found.ok() for found in schema.get_all_operations()]
    # With a model that exists: the bodies are read.
    paths = {
        operation: {name: value for name, value in MODEL.items() if f"{{{name}}}" in operation.path}
        for operation in found
        if operation.method == "post"
    }
    modes = (GenerationMode.NEGATIVE, GenerationMode.POSITIVE)
    cases = st.one_of(
        [
            operation.as_strategy(mode, path_parameters=path or None)
            for operation, path in paths.items()
            for mode in modes
        ]
    )
    statuses: dict[int, int] = {}

    @hypothesis.settings(
        max_examples=1000, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(cases)
    def ask(case: schemathesis.Case) -> None:
        answer = case.call(timeout=60)
        assert answer.status_code < 500, case.as_curl_command()
        if answer.status_code >= 400:
            assert set(answer.json()) == {"error"}, case.as_curl_command()
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1

    ask()
    logger.info("answers by status: %s", statuses)
    assert sum(statuses.values()) >= 1000
    assert server.samples("digits_version{") == [1] * WORKERS
