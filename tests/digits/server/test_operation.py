import json
import os
import time
from io import FileIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr
from starlette.testclient import TestClient

from digits.inference.loaded_versions import LoadedVersion, load_version
from digits.server import recorder, samples
from digits.server.access_log import AccessLog
from digits.server.samples import Sampler, samples_folder
from digits.settings import Settings
from digits.storage.workspace import Workspace
from tests.support.handwriting import SHAPE
from tests.support.model_server import INFER, drawing, png, served
from tests.support.served_versions import promote_version
from tests.support.small_dataset import NAME

RAW = {"content-type": "image/png"}
PICTURE = png(drawing())
KEY = "a-long-key"


@pytest.fixture
def guarded(served_dataset: Settings) -> Any:
    promote_version(served_dataset, 1)
    with served(served_dataset, api_key=SecretStr(KEY), names=("digits.example.org",)) as client:
        yield client


def test_requests_need_the_key(guarded: TestClient) -> None:
    for path in ("/datasets", "/metrics", "/health", "/openapi.json", "/nothing"):
        answer = guarded.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert set(answer.json()) == {"error"}
    for wrong in ("Bearer wrong", f"Bearer {KEY}x", f"Basic {KEY}", "Bearer ä"):
        headers = {"authorization": wrong.encode()}
        assert guarded.post(INFER, headers=headers).status_code == 401
    for right in ({"authorization": f"bearer {KEY}"}, {"x-api-key": KEY}):
        assert guarded.get("/datasets", headers=right).status_code == 200


def test_probes_and_the_page_need_no_key(guarded: TestClient) -> None:
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert guarded.get(path).status_code == 200
    assert guarded.get("/").status_code != 401


@pytest.mark.parametrize(
    ("headers", "is_answered"),
    [
        ({}, True),
        ({"host": "localhost:8000"}, True),
        ({"host": "10.1.2.3"}, True),
        ({"host": "digits.example.org"}, True),
        ({"host": "evil.example.org"}, False),
        ({"origin": "http://127.0.0.1"}, True),
        ({"origin": "http://evil.example.org"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
    ],
)
def test_pages_of_other_sites_are_refused_in_json(
    headers: dict[str, str], is_answered: bool, guarded: TestClient
) -> None:
    answer = guarded.get("/datasets", headers={"x-api-key": KEY, **headers})
    assert answer.status_code == (200 if is_answered else 403)
    assert "access-control-allow-origin" not in answer.headers
    if not is_answered:
        assert answer.json()["error"].startswith("refused: ")


def metrics_of(client: TestClient) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if line[0] != "#"]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_count_requests_images_versions_and_failures(served_dataset: Settings) -> None:
    promote_version(served_dataset, 1)
    with served(served_dataset) as client:
        client.post("/predict", content=PICTURE, headers=RAW)
        client.post("/predict", content=b"", headers=RAW)
        client.post("/nothing")
        client.get("/v2/models/x")
        found = metrics_of(client)
    counts = {name: value for name, value in found.items() if "requests_total" in name}
    assert counts == {
        'digits_requests_total{route="/predict",status="200"}': 1,
        'digits_requests_total{route="/predict",status="400"}': 1,
        'digits_requests_total{route="other",status="404"}': 1,
        'digits_requests_total{route="/v2/models/{name}",status="404"}': 1,
    }
    assert found['digits_request_seconds_count{route="/predict"}'] == 2
    assert found[f'digits_images_total{{dataset="{NAME}",version="1"}}'] == 1
    assert found[f'digits_batch_images_sum{{dataset="{NAME}"}}'] == 1
    assert found[f'digits_version{{dataset="{NAME}"}}'] == 1
    assert found[f'digits_ready{{dataset="{NAME}"}}'] == 1
    assert found[f'digits_swaps_total{{dataset="{NAME}"}}'] == 1


def test_what_is_wrong_is_in_the_details_and_the_metrics(served_dataset: Settings) -> None:
    with served(served_dataset) as client:
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 503
        details = client.get("/health")
        assert details.status_code == 503
        found = metrics_of(client)
    facts = details.json()["datasets"][NAME]
    assert facts["version"] is None
    assert "has no champion yet" in facts["problem"]
    assert found[f'digits_ready{{dataset="{NAME}"}}'] == 0
    assert f'digits_load_failures_total{{dataset="{NAME}"}}' not in found


def test_the_access_log_says_who_asked_what_and_which_version_answered(
    served_dataset: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    promote_version(served_dataset, 1)
    with served(served_dataset, has_access_log=True) as client:
        client.post("/predict?seen=true", content=PICTURE, headers=RAW)
        client.get("/nothing")
    first, second = map(json.loads, capfdbinary.readouterr().out.splitlines())
    expected = {"method": "POST", "path": "/predict", "status": 200, "client": "testclient"}
    assert first | expected | {"dataset": NAME, "version": 1, "images": 1} == first
    assert first["ms"] > 0
    assert (second["path"], second["status"]) == ("/nothing", 404)


def test_a_log_that_cannot_be_written_loses_lines_and_counts_them() -> None:
    lost: list[int] = []
    with FileIO("/dev/full", "w") as full:
        log = AccessLog(full, lost.append)
        for _ in range(3):
            log.write({"time": 0.0})
        log.close()
    assert sum(lost) == 3


def test_a_log_that_nobody_reads_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from digits.server import access_log

    monkeypatch.setattr(access_log, "MAX_LINES", 1000)
    lost: list[int] = []
    reader, writer = os.pipe()
    with FileIO(writer, "w") as stream:
        log = AccessLog(stream, lost.append)
        begin = time.monotonic()
        for _ in range(20_000):
            log.write({"time": 0.0, "path": "x" * 100})
        assert time.monotonic() - begin < 60  # it did not wait
        assert sum(lost) > 0
        os.close(reader)
        log.close()


def test_a_share_of_the_pictures_is_kept_in_folders_of_their_labels(
    served_dataset: Settings,
) -> None:
    promote_version(served_dataset, 1)
    promote_version(served_dataset, 2)
    pixels = [128] * (SHAPE[0] * SHAPE[1])
    tensor = {"name": "image", "shape": [1, *SHAPE], "datatype": "UINT8", "data": pixels}
    with served(served_dataset, sample=1.0) as client:
        client.post("/predict?version=1", content=PICTURE, headers=RAW)
        client.post(INFER, json={"inputs": [tensor]})
    found = sorted(samples_folder(NAME, served_dataset).rglob("*"))
    pictures = {path.parent.name: path for path in found if path.is_file()}
    assert sorted(pictures) == ["1", "2"]
    assert pictures["1"].name.startswith("v1-0.7")
    assert np.asarray(Image.open(pictures["2"])).tolist() == np.full(SHAPE, 128).tolist()


@pytest.fixture
def version(served_dataset: Settings) -> LoadedVersion:
    promote_version(served_dataset, 1)
    return load_version(NAME, Workspace(served_dataset))


def keep_samples(sampler: Sampler, version: LoadedVersion, number: int) -> None:
    seen, scores = np.zeros((number, *SHAPE), np.uint8), np.zeros((number, 10), np.float32)
    scores[:, 4] = 0.5
    sampler.keep(version, seen, scores)
    sampler.close()


def test_samples_stop_at_a_limit(
    version: LoadedVersion, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "MAX_PICTURES", 2)
    lost: list[int] = []
    keep_samples(Sampler(1.0, settings, lost.append), version, 5)
    assert len(list(samples_folder(NAME, settings).glob("4/v1-0.5000-*.png"))) == 2
    assert sum(lost) == 3


def test_samples_that_cannot_be_written_are_counted_and_leave_nothing(
    version: LoadedVersion, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    (settings.artifacts_dir / "feedback").write_text("a file in the way")
    lost: list[int] = []
    keep_samples(Sampler(1.0, settings, lost.append), version, 3)
    assert sum(lost) == 3
    assert sum("cannot write samples" in line for line in caplog.messages) == 1


def test_a_bug_is_answered_in_json_without_a_traceback(
    served_dataset: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote_version(served_dataset, 1)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("digits.server.open_inference.parse_request", fail)
    monkeypatch.setattr("digits.server.app.predict_now", fail)
    with served(served_dataset) as client:
        for answer in (client.post(INFER), client.post("/predict")):
            assert answer.status_code == 500
            assert answer.json() == {"error": "internal error; the server's log says more"}


def test_the_documentation_names_no_other_host(client: TestClient) -> None:
    assert client.get("/docs").status_code == 404
    document = client.get("/openapi.json").json()
    assert "https://" not in json.dumps(document)
    assert {"/predict", "/v2/models/{name}/infer", "/health"} <= set(document["paths"])


def test_more_bodies_than_fit_into_memory_are_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MAX_HELD_BYTES", len(PICTURE) - 1)
    answer = client.post("/predict", content=PICTURE, headers=RAW)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert client.get("/datasets").status_code == 200  # what it held was given back
    monkeypatch.undo()
    assert client.post("/predict", content=PICTURE, headers=RAW).status_code == 200
