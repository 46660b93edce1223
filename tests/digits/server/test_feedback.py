import errno
from base64 import b64decode, b64encode
from typing import Any

import pytest
from starlette.testclient import TestClient

from digits.intake import corrections as module
from digits.intake.corrections import corrections
from digits.server import feedback
from digits.settings import Settings
from tests.support.handwriting import SHAPE
from tests.support.model_server import drawing, png, served
from tests.support.served_versions import promote_version
from tests.support.small_dataset import NAME

SEEN = png(drawing(*SHAPE))


def content(**changes: Any) -> dict[str, Any]:
    image = b64encode(SEEN).decode()
    return {"dataset": NAME, "version": 1, "image": image, "label": 3, "predicted": 8} | changes


def test_what_the_model_saw_is_kept_as_a_correction(served_dataset: Settings) -> None:
    promote_version(served_dataset, 8)
    with served(served_dataset) as client:
        files = {"image": ("a.png", png(drawing()))}
        (read,) = client.post("/predict?seen=true", files=files).json()["predictions"]
        image = content(image=read["seen"])

        answers = [client.post("/feedback", json=image | {"label": n}) for n in (3, 3, 4)]

    found = [(answer.status_code, answer.json()["status"]) for answer in answers]
    (path,) = corrections(NAME, served_dataset)
    assert found == [(201, "kept"), (200, "known"), (200, "changed")]
    assert path.parent.name == "4"
    assert b64decode(read["seen"])[:8] == path.read_bytes()[:8]


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"label": 10}, 400, "label: 10 is no class (expected 0 to 9)"),
        ({"label": -1}, 400, "label: Input should be greater than or equal to 0"),
        ({"label": "3"}, 400, "label: Input should be a valid integer"),
        ({"predicted": 10}, 400, "predicted: 10 is no class (expected 0 to 9)"),
        ({"version": 9}, 400, f"version: {NAME} has no version 9"),
        ({"dataset": "../x"}, 404, f"unknown dataset '../x' (served here: {NAME})"),
        ({"image": "?"}, 400, "image: not base64: Only base64 data is allowed"),
        ({"image": "AAAA"}, 400, "image: is no such picture (expected a gray 8-bit PNG of 12 x"),
        ({"image": "A" * 40_000}, 400, "image: String should have at most 32768 characters"),
        ({"image": b64encode(png(drawing())).decode()}, 400, "image: is an image of 60 x 60"),
        ({"more": 1}, 400, "more: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_a_correction_is_refused(
    client: TestClient, changes: dict[str, Any], status: int, message: str
) -> None:
    answer = client.post("/feedback", json=content(**changes))

    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)


def test_a_body_that_is_no_json_is_refused(client: TestClient) -> None:
    answer = client.post("/feedback", content=b"{")

    assert answer.status_code == 400
    assert "Invalid JSON" in answer.json()["error"]


def test_too_many_corrections_and_a_full_disk_are_told(
    served_dataset: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote_version(served_dataset, 8)
    with served(served_dataset) as client:
        monkeypatch.setattr(module, "MAX_CORRECTIONS", 0)
        many = client.post("/feedback", json=content())
        monkeypatch.setattr(feedback, "keep_correction", _fail)
        full = client.post("/feedback", json=content())

    assert (many.status_code, full.status_code) == (507, 507)
    assert "0 corrections of handwriting wait already" in many.json()["error"]
    assert full.json()["error"] == "the server cannot store it: No space left on device"


def _fail(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
