"""The fastest precision of each kind of hardware, as far as it can be told from what it says."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from digits.errors import UsageError
from digits.training.gpus import first_gpu
from digits.training.precisions import check_precision, fastest_precision, forced_precision
from digits.training.processors import instructions
from digits.training.variables import KEYED
from tests.support.hardware import Driver, install_driver, install_processor

AVX2 = "fpu sse4_2 avx avx2 fma"
AVX512 = f"{AVX2} avx512f avx512dq avx512bw avx512vl avx512_vnni"
ARM = "fp asimd crc32 atomics"


class Kind(NamedTuple):
    """A kind of processor: its machine, the line of its instructions, and what is the fastest."""

    machine: str
    line: str | None
    fastest: str
    reason: str


KINDS = {
    "AVX2": Kind("x86_64", f"flags\t\t: {AVX2}", "float32", "no instructions for bfloat16"),
    "AVX2 that converts bfloat16": Kind(
        "x86_64", f"flags\t\t: {AVX2} avx_ne_convert", "float32", "no instructions for bfloat16"
    ),
    "AVX-512": Kind("x86_64", f"flags\t\t: {AVX512}", "float32", "no instructions for bfloat16"),
    "AVX512-BF16": Kind(
        "x86_64", f"flags\t\t: {AVX512} avx512_bf16", "mixed_bfloat16", "(avx512_bf16)"
    ),
    "AMX": Kind(
        "x86_64",
        f"flags\t\t: {AVX512} avx512_bf16 amx_bf16 amx_tile",
        "mixed_bfloat16",
        "(amx_bf16)",
    ),
    "Arm": Kind("aarch64", f"Features\t: {ARM}", "float32", "on Arm processors"),
    "Arm with bfloat16": Kind(
        "aarch64", f"Features\t: {ARM} sve bf16 svebf16", "float32", "on Arm processors"
    ),
    "Apple silicon": Kind("arm64", None, "float32", "on Arm processors"),
    "Intel Mac": Kind("x86_64", None, "float32", "no instructions for bfloat16"),
}


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clear the caches and the variables."""
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in KEYED:
        monkeypatch.delenv(name, raising=False)
    for remembered in (first_gpu, instructions):
        remembered.cache_clear()
    yield
    for remembered in (first_gpu, instructions):
        remembered.cache_clear()


def install(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    kind = KINDS[name]
    facts = None if kind.line is None else f"processor\t: 0\n{kind.line}\nbogomips\t: 1.0\n\n" * 2
    install_processor(monkeypatch, folder, facts, kind.machine)
    return kind


@pytest.mark.parametrize("name", KINDS)
def test_a_processor_trains_in_bfloat16_only_if_it_computes_in_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = install(name, tmp_path, monkeypatch)

    fastest = fastest_precision("cpu")

    assert fastest.precision == kind.fastest
    assert kind.reason in fastest.reason


@pytest.mark.parametrize(
    ("capability", "precision", "reason"),
    [
        ((7, 0), "float32", "has no bfloat16 (compute capability 7.0)"),
        ((7, 5), "float32", "has no bfloat16 (compute capability 7.5)"),
        ((8, 0), "mixed_bfloat16", "computes in bfloat16 (compute capability 8.0)"),
        ((12, 0), "mixed_bfloat16", "computes in bfloat16 (compute capability 12.0)"),
    ],
)
def test_a_gpu_trains_in_bfloat16_from_ampere_on(
    capability: tuple[int, int], precision: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_driver(monkeypatch, Driver(capability=capability))

    assert fastest_precision("gpu:NVIDIA Made-up 100") == (
        precision,
        f"NVIDIA Made-up 100 {reason}",
    )


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("ONEDNN_MAX_CPU_ISA", "avx512_core", "ONEDNN_MAX_CPU_ISA=AVX512_CORE disables"),
        ("DNNL_MAX_CPU_ISA", "AVX2", "DNNL_MAX_CPU_ISA=AVX2 disables"),
        ("TF_ENABLE_ONEDNN_OPTS", "0", "TF_ENABLE_ONEDNN_OPTS disables"),
        ("KERAS_BACKEND", "jax", "is not known to be faster with jax"),
    ],
)
def test_a_variable_can_disable_bfloat16(
    variable: str, value: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("AMX", tmp_path, monkeypatch)
    monkeypatch.setenv(variable, value)

    fastest = fastest_precision("cpu")

    assert fastest.precision == "float32"
    assert reason in fastest.reason


@pytest.mark.parametrize("limit", ["", "ALL", "AVX512_CORE_BF16", "AVX512_CORE_AMX"])
def test_a_limit_that_leaves_bfloat16_changes_nothing(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("AMX", tmp_path, monkeypatch)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)

    assert fastest_precision("cpu").precision == "mixed_bfloat16"


def test_a_choice_is_kept_unless_it_cannot_be_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("AVX-512", tmp_path, monkeypatch)

    assert forced_precision("auto", "cpu") is None
    assert forced_precision("float32", "cpu") == "float32"
    assert forced_precision("bfloat16", "cpu") == "mixed_bfloat16"

    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    message = "bfloat16: ONEDNN_MAX_CPU_ISA=AVX2 disables .* unset the variable, or use --precision"
    with pytest.raises(UsageError, match=message):
        forced_precision("bfloat16", "cpu")
    check_precision("float32", "cpu")
    # Without oneDNN, TensorFlow emulates it.
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    check_precision("mixed_bfloat16", "cpu")
