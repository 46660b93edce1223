"""The tensors of the Open Inference Protocol: images as JSON or binary data, probabilities back."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from digits.server.batching import Pixels, Probabilities
from digits.server.refusals import Refusal
from digits.spec import ImageShape

INPUT, OUTPUT = "image", "output_0"
MAX_IMAGES = 1024
# Little-endian, as the protocol says.
DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "UINT8": np.dtype("u1")}
HIGHEST = {"FP32": 1, "UINT8": 255}


class InferRequest(NamedTuple):
    """A request: its id, the pixels, and whether the answer is to be binary."""

    id: str | None
    pixels: Pixels
    is_binary: bool


def parse_request(body: bytes, json_size: int | None, shape: ImageShape) -> InferRequest:
    """Read a request for images of a shape; `json_size` bytes are JSON, the rest binary data.

    Raises Refusal saying what is wrong.
    """
    try:
        fields = orjson.loads(body if json_size is None else memoryview(body)[:json_size])
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the request is not JSON: {error}") from None
    binary = b"" if json_size is None else memoryview(body)[json_size:]
    if not isinstance(fields, dict):
        raise Refusal(400, "the request must be a JSON object with `inputs`")
    identifier = fields.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise Refusal(400, "id must be a string")
    tensor = _only_tensor(fields.get("inputs"))
    datatype = tensor.get("datatype")
    if datatype not in ("FP32", "UINT8"):
        raise Refusal(
            400,
            f"inputs[0].datatype is {_shown(datatype)} (expected FP32, 0 to 1, or UINT8, 0 to 255)",
        )
    sides = _sides(tensor.get("shape"), shape)
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        if binary:
            raise Refusal(400, "there is binary data, but inputs[0] has no binary_data_size")
        values = _from_json(tensor.get("data"), datatype, sides)
    else:
        values = _from_binary(binary, size, datatype, math.prod(sides))
    pixels = _scaled(values, datatype).reshape(-1, *shape, 1)
    return InferRequest(identifier, pixels, _wants_binary(fields))


def answer_body(facts: dict[str, Any], scores: Probabilities, *, is_binary: bool) -> list[bytes]:
    """Return an answer as JSON or, if it is binary, as JSON and the data after it."""
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(scores.shape)}
    if not is_binary:
        output["data"] = scores.reshape(-1)
        facts["outputs"] = [output]
        return [orjson.dumps(facts, option=orjson.OPT_SERIALIZE_NUMPY)]
    data = scores.astype("<f4", copy=False).tobytes()
    output["parameters"] = {"binary_data_size": len(data)}
    facts["outputs"] = [output]
    return [orjson.dumps(facts), data]


def _only_tensor(inputs: Any) -> dict[str, Any]:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refusal(400, f"inputs must be a list of one tensor, named {INPUT}")
    tensor = inputs[0]
    if tensor.get("name") != INPUT:
        raise Refusal(400, f"inputs[0].name is {_shown(tensor.get('name'))} (expected {INPUT})")
    return tensor


def _sides(found: Any, shape: ImageShape) -> list[int]:
    expected = f"[N, {shape[0]}, {shape[1]}, 1] or [N, {shape[0]}, {shape[1]}]"
    is_list = isinstance(found, list) and all(type(side) is int for side in found)
    if not is_list or found[1:] not in ([*shape, 1], [*shape]):
        raise Refusal(400, f"inputs[0].shape is {_shown(found)} (expected {expected})")
    if not 1 <= found[0] <= MAX_IMAGES:
        raise Refusal(
            400 if found[0] < 1 else 413,
            f"inputs[0].shape: {found[0]} images (expected 1 to {MAX_IMAGES} in a request)",
        )
    sides: list[int] = found
    return sides


def _from_json(data: Any, datatype: str, sides: list[int]) -> npt.NDArray[Any]:
    # Checked before NumPy reads it, which takes seconds for millions of lists.
    kinds: set[type] = {int} if datatype == "UINT8" else {int, float}
    if not (_is_of([math.prod(sides)], data, kinds) or _is_of(sides, data, kinds)):
        what = "whole numbers" if datatype == "UINT8" else "numbers"
        raise Refusal(
            400,
            f"inputs[0].data must be a list of {math.prod(sides):,} {what}, flat or nested by its "
            "shape",
        )
    try:
        with np.errstate(over="ignore"):
            return np.array(data, np.float32)
    except OverflowError:
        raise Refusal(400, "inputs[0].data has numbers that are far too large") from None


def _is_of(sides: list[int], data: Any, kinds: set[type]) -> bool:
    """Return whether data is lists of these lengths, one in another, of values of some types."""
    if not isinstance(data, list) or len(data) != sides[0]:
        return False
    if len(sides) == 1:
        return kinds.issuperset(map(type, data))
    return all(_is_of(sides[1:], one, kinds) for one in data)


def _from_binary(
    binary: memoryview | bytes, size: Any, datatype: str, num_values: int
) -> npt.NDArray[Any]:
    expected = num_values * DTYPES[datatype].itemsize
    if size != expected or len(binary) != expected:
        raise Refusal(
            400,
            f"inputs[0].parameters.binary_data_size is {_shown(size)}, and {len(binary):,} bytes "
            f"follow the JSON (expected {expected:,} of both by its shape)",
        )
    return np.frombuffer(binary, DTYPES[datatype])


def _scaled(values: npt.NDArray[Any], datatype: str) -> Pixels:
    """Return pixels float32 in 0..1. Raises Refusal if a value is out of range, or no number."""
    highest = HIGHEST[datatype]
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= highest):  # also if one is not a number
        raise Refusal(
            400,
            f"inputs[0].data ranges from {low:g} to {high:g} (expected 0 to {highest} for "
            f"{datatype})",
        )
    if datatype == "UINT8":
        # The same division as in digits.datasets.normalization.
        scaled: Pixels = np.divide(values, np.float32(255), dtype=np.float32)
        return scaled
    return values.astype(np.float32)


def _wants_binary(fields: dict[str, Any]) -> bool:
    outputs = fields.get("outputs")
    if outputs is None:
        return _parameters(fields).get("binary_data_output") is True
    if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
        raise Refusal(400, "outputs must be a list of objects with a name")
    unknown = [one.get("name") for one in outputs if one.get("name") != OUTPUT]
    if unknown or len(outputs) > 1:
        raise Refusal(400, f"outputs names {_shown(unknown or OUTPUT)} (expected {OUTPUT} once)")
    if not outputs:
        return _parameters(fields).get("binary_data_output") is True
    parameters = _parameters(outputs[0])
    if parameters.get("classification"):
        raise Refusal(400, "the classification extension is not supported")
    wants = parameters.get("binary_data", _parameters(fields).get("binary_data_output"))
    return wants is True


def _parameters(fields: dict[str, Any]) -> dict[str, Any]:
    found = fields.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Refusal(400, "parameters must be an object")
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
