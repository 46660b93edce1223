"""`digits status --hardware`: what models are trained on, and what of it changes bits."""

import pytest

from digits.settings import Settings
from digits.training.precisions import Fastest
from digits.training.variables import KEYED, RECORDED
from tests.support.commands import call_digits, read_json


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*KEYED, *RECORDED):
        monkeypatch.delenv(name, raising=False)
    fastest = Fastest("mixed_bfloat16", "the processor is made up")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr("digits.training.hardware.resolve_device", lambda _: "cpu")
    monkeypatch.setattr("digits.training.hardware.processor", lambda: "Made-up, 3 cores")
    monkeypatch.setattr("digits.training.hardware.fastest_precision", lambda _: fastest)


def test_the_hardware_is_shown_with_the_reason_for_the_precision(
    here: Settings,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert call_digits("status", "--hardware").stdout.splitlines()[-4:] == [
        "device: cpu, with tensorflow",
        "processor: Made-up, 3 cores",
        "fastest precision: mixed_bfloat16; the processor is made up",
        "variables that change bits: none is set",
    ]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")

    facts = read_json(call_digits("status", "--hardware", "--json"))["hardware"]

    assert facts == {
        "device": "cpu",
        "backend": "tensorflow",
        "processor": "Made-up, 3 cores",
        "precision": "mixed_bfloat16",
        "reason": "the processor is made up",
        "variables": {"NVIDIA_TF32_OVERRIDE": "0", "OMP_NUM_THREADS": "2"},
    }
    assert "hardware" not in read_json(call_digits("status", "--json"))
