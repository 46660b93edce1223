import json
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from digits.server.tensors import MAX_IMAGES
from tests.support.handwriting import SHAPE
from tests.support.model_server import INFER
from tests.support.small_dataset import NAME

HEIGHT, WIDTH = SHAPE
NUM_PIXELS = HEIGHT * WIDTH


def tensor(**fields: Any) -> dict[str, Any]:
    whole = {
        "name": "image",
        "shape": [1, HEIGHT, WIDTH, 1],
        "datatype": "FP32",
        "data": [0.5] * NUM_PIXELS,
    }
    return {name: value for name, value in (whole | fields).items() if value is not ...}


def ask(client: TestClient, tensor: Any, path: str = INFER, **fields: Any) -> Any:
    return client.post(path, json={"inputs": [tensor], **fields})


def test_a_model_describes_itself_as_the_protocol_says(client: TestClient) -> None:
    assert client.get("/v2").json() == {
        "name": "digits",
        "version": client.get("/v2").json()["version"],
        "extensions": ["binary_tensor_data"],
    }
    assert client.get(f"/v2/models/{NAME}").json() == {
        "name": NAME,
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, HEIGHT, WIDTH, 1]}],
        "outputs": [{"name": "output_0", "datatype": "FP32", "shape": [-1, 10]}],
    }
    for path in ("health/live", "health/ready", f"models/{NAME}/ready"):
        assert client.get(f"/v2/{path}").status_code == 200


def test_an_answer_names_the_version_and_its_digest(client: TestClient) -> None:
    answer = ask(client, tensor(), id="42")
    facts = answer.json()
    assert facts["model_name"] == NAME
    assert facts["model_version"] == answer.headers["x-model-version"] == "2"
    assert facts["id"] == "42"
    assert facts["parameters"] == {"digest": answer.headers["x-model-digest"]}
    (output,) = facts["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("output_0", "FP32", [1, 10])
    assert int(np.argmax(output["data"])) == 5
    assert sum(output["data"]) == pytest.approx(1)


def test_an_earlier_version_answers_on_request(client: TestClient) -> None:
    answer = ask(client, tensor(), f"/v2/models/{NAME}/versions/1/infer")
    assert answer.headers["x-model-version"] == "1"
    assert int(np.argmax(answer.json()["outputs"][0]["data"])) == 3
    assert client.get(f"/v2/models/{NAME}/versions/1/ready").status_code == 200


@pytest.mark.parametrize("shape", [[2, HEIGHT, WIDTH, 1], [2, HEIGHT, WIDTH]])
def test_the_same_pixels_give_the_same_answer_in_every_form(
    shape: list[int], client: TestClient
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    floats = np.divide(pixels, np.float32(255))
    forms = [
        tensor(shape=shape, data=floats.ravel().tolist()),
        tensor(shape=shape, data=floats.tolist()),
        tensor(shape=shape, data=pixels.ravel().tolist(), datatype="UINT8"),
    ]
    answers = [ask(client, form).json()["outputs"][0]["data"] for form in forms]
    for datatype, values in (("FP32", floats), ("UINT8", pixels)):
        data = values.tobytes()
        form = tensor(
            shape=shape,
            datatype=datatype,
            data=...,
            parameters={"binary_data_size": len(data)},
        )
        outputs = [{"name": "output_0", "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [form], "outputs": outputs}).encode()
        sizes = {"Inference-Header-Content-Length": str(len(head))}
        answer = client.post(INFER, content=head + data, headers=sizes)
        size = int(answer.headers["inference-header-content-length"])
        (output,) = json.loads(answer.content[:size])["outputs"]
        assert output["parameters"]["binary_data_size"] == len(answer.content) - size
        answers.append(np.frombuffer(answer.content[size:], "<f4").tolist())
    for answer in answers[1:]:
        assert answer == pytest.approx(answers[0], abs=1e-6)


MALFORMED: dict[str, Any] = {
    "not JSON": b"{",
    "not an object": b"[1]",
    "no inputs": b"{}",
    "two inputs": {"inputs": [tensor(), tensor()]},
    "an id that is a number": {"inputs": [tensor()], "id": 1},
    "another name": {"inputs": [tensor(name="x")]},
    "no datatype": {"inputs": [tensor(datatype=...)]},
    "another datatype": {"inputs": [tensor(datatype="INT64")]},
    "a datatype that is a list": {"inputs": [tensor(datatype=[])]},
    "another shape": {"inputs": [tensor(shape=[1, 3, 3, 1])]},
    "no images": {"inputs": [tensor(shape=[0, HEIGHT, WIDTH, 1], data=[])]},
    "a negative number of images": {"inputs": [tensor(shape=[-1, HEIGHT, WIDTH, 1])]},
    "a shape of booleans": {"inputs": [tensor(shape=[True, HEIGHT, WIDTH, True])]},
    "no data": {"inputs": [tensor(data=...)]},
    "too little data": {"inputs": [tensor(data=[0.5])]},
    "text": {"inputs": [tensor(data=["1"] * NUM_PIXELS)]},
    "nulls": {"inputs": [tensor(data=[None] * NUM_PIXELS)]},
    "booleans": {"inputs": [tensor(data=[True] * NUM_PIXELS)]},
    "uneven lists": {"inputs": [tensor(data=[[1.0], 1.0])]},
    "deep lists": b'{"inputs":[{"name":"image","shape":[1,%d,%d,1],"datatype":"FP32","data":%s]}]}'
    % (HEIGHT, WIDTH, b"[" * 200 + b"]" * 200),
    "bytes as floats": {"inputs": [tensor(data=[255] * NUM_PIXELS)]},
    "negative pixels": {"inputs": [tensor(data=[-0.5] * NUM_PIXELS)]},
    "bytes above 255": {"inputs": [tensor(data=[256] * NUM_PIXELS, datatype="UINT8")]},
    "fractions as bytes": {"inputs": [tensor(data=[0.5] * NUM_PIXELS, datatype="UINT8")]},
    "a list in place of a number": {"inputs": [tensor(data=[0.5] * (NUM_PIXELS - 1) + [[0.5]])]},
    "lists that are nested otherwise": {"inputs": [tensor(data=[[0.5] * NUM_PIXELS])]},
    "infinity as a float": b'{"inputs":[%s]}'
    % json.dumps(tensor(data=[1e300] * NUM_PIXELS)).encode(),
    "huge numbers": {"inputs": [tensor(data=[10**400] * NUM_PIXELS)]},
    "outputs that are text": {"inputs": [tensor()], "outputs": "output_0"},
    "an unknown output": {"inputs": [tensor()], "outputs": [{"name": "x"}]},
    "classes": {
        "inputs": [tensor()],
        "outputs": [{"name": "output_0", "parameters": {"classification": 3}}],
    },
    "parameters that are a list": {"inputs": [tensor(parameters=[])]},
    "binary data without a length": {
        "inputs": [tensor(data=..., parameters={"binary_data_size": 4 * NUM_PIXELS})]
    },
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_request_is_refused_with_the_reason(what: str, client: TestClient) -> None:
    body = MALFORMED[what]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(INFER, content=content)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("size", ["x", "-1", "99999", "1e3"])
def test_a_wrong_length_of_the_json_is_refused(size: str, client: TestClient) -> None:
    headers = {"Inference-Header-Content-Length": size}
    assert client.post(INFER, content=b"{}", headers=headers).status_code == 400


def test_binary_data_that_is_no_number_is_refused(client: TestClient) -> None:
    data = np.full(NUM_PIXELS, np.nan, "<f4").tobytes()
    form = tensor(data=..., parameters={"binary_data_size": len(data)})
    head = json.dumps({"inputs": [form]}).encode()
    sizes = {"Inference-Header-Content-Length": str(len(head))}
    answer = client.post(INFER, content=head + data, headers=sizes)
    assert answer.status_code == 400
    assert "nan" in answer.json()["error"]


def test_too_many_images_are_refused_and_the_most_are_answered(client: TestClient) -> None:
    def of(number: int) -> Any:
        pixels = [0] * (number * NUM_PIXELS)
        return ask(client, tensor(shape=[number, *SHAPE], data=pixels, datatype="UINT8"))

    assert of(MAX_IMAGES + 1).status_code == 413
    assert of(MAX_IMAGES).json()["outputs"][0]["shape"] == [MAX_IMAGES, 10]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/unknown/infer", 404),
        (f"/v2/models/{NAME}/versions/9/infer", 404),
        (f"/v2/models/{NAME}/versions/x/infer", 400),
        (f"/v2/models/{NAME}/versions/99999999999999999999/infer", 404),
        ("/v2/models//infer", 404),
        ("/nothing", 404),
    ],
)
def test_what_is_not_there_is_said_in_json(path: str, status: int, client: TestClient) -> None:
    answer = client.post(path, json={})
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
