from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from digits.labeling.centering import center, center_each
from digits.labeling.image_files import read_grey
from digits.server import bodies, predictions
from digits.server.uploads import MAX_PICTURES
from tests.support.handwriting import SHAPE
from tests.support.model_server import drawing, png
from tests.support.small_dataset import NAME

PICTURE = png(drawing())
RAW = {"content-type": "image/png"}


def row(client: TestClient, content: bytes = PICTURE, query: str = "") -> Any:
    answer = client.post(f"/predict?{query}", content=content, headers=RAW)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["predictions"]
    return found


def test_an_answer_names_the_dataset_the_version_and_the_model(client: TestClient) -> None:
    answer = client.post("/predict", content=PICTURE, headers=RAW)
    facts = answer.json()
    assert (facts["dataset"], facts["version"], facts["model"]) == (NAME, 2, "cnn")
    assert answer.headers["x-model-version"] == "2"
    assert answer.headers["x-model-digest"] == facts["digest"]
    (found,) = facts["predictions"]
    assert (found["label"], found["name"], found["part"], found["note"]) == (5, "5", 1, None)
    assert found["probability"] == max(found["probabilities"])
    assert len(found["probabilities"]) == 10


def test_every_way_to_send_a_picture_gives_the_same_answer(client: TestClient) -> None:
    ways = [
        client.post("/predict", files={"image": ("a.png", PICTURE)}),
        client.post("/predict", content=PICTURE, headers={"content-type": "image/x-unknown"}),
        client.post(
            "/predict", content=PICTURE, headers={"content-type": "application/octet-stream"}
        ),
        client.post("/predict", json={"images": [b64encode(PICTURE).decode()]}),
    ]
    answers = [way.json()["predictions"][0] for way in ways]
    assert [answer.pop("file") for answer in answers] == ["a.png", "1", "1", "1"]
    assert all(answer == answers[0] for answer in answers)


def test_many_pictures_are_answered_in_order_and_a_broken_one_by_itself(
    client: TestClient,
) -> None:
    files = [("image", ("a.png", PICTURE)), ("image", ("b.png", b"no")), ("image", ("c", PICTURE))]
    first, second, third = client.post("/predict", files=files).json()["predictions"]
    assert (first["file"], third["file"]) == ("a.png", "c")
    assert first["label"] == third["label"] == 5
    assert second == {
        "file": "b.png",
        "error": "is not a PNG, JPEG, WebP, BMP, TIFF or GIF image",
    }


def test_the_model_sees_what_digits_predict_shows_it(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PICTURE)
    seen = np.asarray(Image.open(BytesIO(b64decode(row(client, query="seen=true")["seen"]))))
    assert np.array_equal(seen, center(read_grey(str(tmp_path / "a.png")), SHAPE).seen)


def test_each_digit_of_a_picture_is_labeled(client: TestClient) -> None:
    row_of_three = np.hstack([drawing()] * 3)
    query = "/predict?each=true&seen=true"
    found = client.post(query, content=png(row_of_three), headers=RAW).json()["predictions"]
    assert [one["part"] for one in found] == [1, 2, 3]
    seen = [np.asarray(Image.open(BytesIO(b64decode(one["seen"])))) for one in found]
    assert np.array_equal(seen, [one.seen for one in center_each(row_of_three, SHAPE)])
    assert row(client, png(row_of_three))["note"] == "3 parts side by side"


def test_pictures_can_be_labeled_as_they_are(client: TestClient) -> None:
    field = np.zeros(SHAPE, np.uint8)
    field[2:9, 5:7] = 200
    seen = b64decode(row(client, png(field), "as_is=true&seen=true")["seen"])
    assert np.array_equal(np.asarray(Image.open(BytesIO(seen))), field)
    assert "60x60 pixels" in row(client, query="as_is=true")["error"]


def test_other_models_and_the_champion_before_answer_beside_it(client: TestClient) -> None:
    others = row(client, query="compare=true")["compared"]
    assert [(one["version"], one["model"], one["label"]) for one in others] == [
        (2, "mlp", 6),
        (1, "cnn", 3),
    ]


def test_an_earlier_version_answers_on_request(client: TestClient) -> None:
    answer = client.post("/predict?version=1", content=PICTURE, headers=RAW)
    assert answer.json()["version"] == 1
    assert answer.json()["predictions"][0]["label"] == 3


def test_the_datasets_in_service_are_listed(client: TestClient) -> None:
    (facts,) = client.get("/datasets").json()["datasets"]
    assert (facts["name"], facts["version"], facts["model"]) == (NAME, 2, "cnn")
    assert facts["image_shape"] == list(SHAPE)
    assert len(facts["class_names"]) == 10
    assert [(one["version"], one["model"]) for one in facts["compared"]] == [(2, "mlp"), (1, "cnn")]


REFUSED: dict[str, tuple[int, str, dict[str, Any]]] = {
    "no type": (415, "", {"content": PICTURE}),
    "another type": (415, "", {"content": PICTURE, "headers": {"content-type": "text/html"}}),
    "an empty picture": (400, "", {"content": b"", "headers": RAW}),
    "no JSON": (400, "", {"content": b"{", "headers": {"content-type": "application/json"}}),
    "other JSON": (400, "", {"json": ["x"]}),
    "no pictures": (400, "", {"json": {"images": []}}),
    "numbers": (400, "", {"json": {"images": [1]}}),
    "no base64": (400, "", {"json": {"images": ["%%%%"]}}),
    "base64 with letters of other scripts": (400, "", {"json": {"images": ["ä"]}}),
    "a form of other fields": (400, "", {"files": {"picture": PICTURE}}),
    "a field without a file": (400, "", {"files": {"x": b""}, "data": {"image": "x"}}),
    "a form without a boundary": (
        400,
        "",
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
    ),
    "a broken form": (
        400,
        "",
        {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}},
    ),
    "an unknown dataset": (404, "dataset=x", {"content": PICTURE, "headers": RAW}),
    "an unknown version": (404, "version=9", {"content": PICTURE, "headers": RAW}),
    "version zero": (400, "version=0", {"content": PICTURE, "headers": RAW}),
    "a huge version": (404, f"version=1{'0' * 30}", {"content": PICTURE, "headers": RAW}),
    "a version of letters": (400, "version=x", {"content": PICTURE, "headers": RAW}),
    "as it is and each": (400, "as_is=1&each=1", {"content": PICTURE, "headers": RAW}),
    "a compressed body": (415, "", {"content": b"x", "headers": {"content-encoding": "gzip"}}),
    "too many pictures": (413, "", {"json": {"images": ["AAAA"] * (MAX_PICTURES + 1)}}),
    "too many files": (400, "", {"files": [("image", b"x")] * (MAX_PICTURES + 2)}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_answered_is_refused_with_the_reason(what: str, client: TestClient) -> None:
    status, query, request = REFUSED[what]
    answer = client.post(f"/predict?{query}", **request)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused(
    announced: bool, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_BYTES", 100)
    content = b"x" * 101
    body = content if announced else iter([content[:50], content[50:]])
    answer = client.post("/predict", content=body, headers=RAW)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "MAX_PIXELS", 59 * 60)
    assert row(client)["error"] == "is larger than the limit of 3,540 pixels"


def test_too_many_digits_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "MAX_DIGITS", 2)
    picture = png(np.hstack([drawing()] * 3))
    assert client.post("/predict?each=true", content=picture, headers=RAW).status_code == 413


@pytest.mark.parametrize(("side", "limit"), [(3, 2), (9, 20)], ids=["digits", "parts"])
def test_a_picture_of_too_many_digits_is_refused(
    side: int, limit: int, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "MAX_DIGITS_OF_PICTURE", limit)
    picture = np.tile(drawing(24, 24), (side, side))
    error = row(client, png(picture), "each=true")["error"]
    assert error == f"has too many digits (expected at most {limit} in a picture)"


def test_a_server_with_too_much_to_do_says_so(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "MAX_WAITING", 0)
    answer = client.post("/predict", content=PICTURE, headers=RAW)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
