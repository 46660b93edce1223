"""The number types that a device can train in, and which of them is the fastest.

Found from what the processor or the GPU says of itself, so that computing a cache key stays cheap:
no backend is imported and nothing is measured.
"""

import os
import platform
from typing import Literal, NamedTuple

from digits.errors import UsageError
from digits.models import Precision
from digits.training.devices import backend
from digits.training.gpus import first_gpu
from digits.training.processors import instructions

PrecisionChoice = Literal["auto", "float32", "bfloat16"]
# What Linux calls the instructions of x86 that compute in bfloat16. Without them it is emulated,
# which makes a training of the CNN twice as slow as in float32.
X86_BFLOAT16 = ("amx_bf16", "avx512_bf16")
# With Volta and Turing, the generations before, only float16 is fast. It would need loss scaling.
FIRST_BFLOAT16_GPU = (8, 0)
# The variables, by precedence, that limit oneDNN's instructions, and the limits without bfloat16.
ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
WITHOUT_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
WITHOUT_BFLOAT16 = (*WITHOUT_AVX512, "AVX512_CORE", "AVX512_CORE_VNNI")


class Fastest(NamedTuple):
    """The fastest precision of a device that keeps the accuracy, and why it is."""

    precision: Precision
    reason: str


def fastest_precision(device: str) -> Fastest:
    """Return the fastest precision of a resolved device that keeps the accuracy.

    bfloat16 only where it is known to be faster than float32: on other devices it may be emulated.
    """
    return _on_gpu() if device.startswith("gpu") else _on_cpu()


def forced_precision(choice: PrecisionChoice, device: str) -> Precision | None:
    """Return the precision that all layers are computed in, or None to leave it to the recipe.

    Raises UsageError if the device cannot compute in it.
    """
    if choice == "bfloat16":
        check_precision("mixed_bfloat16", device)
        return "mixed_bfloat16"
    return None if choice == "auto" else choice


def check_precision(precision: Precision, device: str) -> None:
    """Raise UsageError if the device cannot compute in this precision, even slowly."""
    name, limit = _isa_limit()
    if (
        precision == "mixed_bfloat16"
        and device == "cpu"
        and limit in WITHOUT_AVX512
        # TensorFlow looks at the processor, and oneDNN at the variable.
        and "avx512f" in instructions()
        and _uses_onednn()
    ):
        raise UsageError(
            f"precision bfloat16: {name}={limit} disables the instructions for it (expected at "
            "least AVX512_CORE); unset the variable, or use --precision float32"
        )


def _on_gpu() -> Fastest:
    gpu = first_gpu()
    if gpu is None:
        return Fastest("float32", "no NVIDIA GPU was found")
    capability = "compute capability {}.{}".format(*gpu.capability)
    if gpu.capability < FIRST_BFLOAT16_GPU:
        return Fastest("float32", f"{gpu.name} has no bfloat16 ({capability})")
    return Fastest("mixed_bfloat16", f"{gpu.name} computes in bfloat16 ({capability})")


def _on_cpu() -> Fastest:
    if backend() != "tensorflow":
        return Fastest("float32", f"bfloat16 is not known to be faster with {backend()} on a CPU")
    if platform.machine().lower() in ("aarch64", "arm64"):
        return Fastest("float32", "TensorFlow has no fast bfloat16 on Arm processors")
    found = [name for name in X86_BFLOAT16 if name in instructions()]
    if not found:
        return Fastest("float32", "the processor has no instructions for bfloat16")
    if not _uses_onednn():
        return Fastest("float32", "TF_ENABLE_ONEDNN_OPTS disables TensorFlow's fast bfloat16")
    name, limit = _isa_limit()
    if limit in WITHOUT_BFLOAT16:
        return Fastest("float32", f"{name}={limit} disables the instructions for bfloat16")
    return Fastest("mixed_bfloat16", f"the processor computes in bfloat16 ({found[0]})")


def _uses_onednn() -> bool:
    return os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1").lower() not in ("0", "false")


def _isa_limit() -> tuple[str, str]:
    """Return the variable that limits oneDNN's instructions and its value, or empty strings."""
    set_ones = (name for name in ISA_LIMITS if os.environ.get(name))
    name = next(set_ones, "")
    return name, os.environ.get(name, "").upper() if name else ""
