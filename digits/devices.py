"""Which kind of device a training runs on, and how the backend is set up for it."""

import contextlib
import ctypes
import logging
import os
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from digits.errors import UsageError
from digits.locks import hold
from digits.settings import Settings

logger = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "gpu"]
# The packages that bring CUDA to each backend: without one of them the backend sees no GPU.
CUDA_PACKAGES = {
    "tensorflow": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
    "jax": ("jax-cuda12-plugin", "jax-cuda13-plugin"),
    "torch": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
}


def backend() -> str:
    """The Keras backend of this process."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def resolve_device(requested: Device) -> str:
    """The kind of device that `requested` means here: "cpu" or "gpu:" and the GPU's name.

    Imports no backend, so that a cache key costs nothing. Raises UsageError for a GPU that is not
    there or that the backend could not use.
    """
    if requested == "cpu":
        return "cpu"
    name = gpu_name()
    usable = name is not None and _has_cuda_libraries(backend())
    if usable:
        return f"gpu:{name}"
    if requested == "auto":
        return "cpu"
    if name is None:
        raise UsageError(
            "--device gpu: no NVIDIA GPU was found on this machine (its driver reports none); "
            "use --device cpu or --device auto"
        )
    raise UsageError(
        f"--device gpu: {name} is there, but {backend()} has no CUDA libraries; "
        "install them with: pip install -e '.[gpu]', or use --device cpu"
    )


@cache
def gpu_name() -> str | None:
    """The name of the first visible NVIDIA GPU, asked of the driver; None without one."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(128)
    succeeded = (
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(device), 0) == 0
        and driver.cuDeviceGetName(name, len(name), device) == 0
    )
    return name.value.decode() if succeeded else None


@contextlib.contextmanager
def device_for_one(device: str, settings: Settings, waiting: str) -> Iterator[None]:
    """Keep the GPU to oneself for the length of a block, among all processes; a CPU is shared."""
    if device == "cpu":
        yield
        return
    with hold(settings.artifacts_dir / "locks" / "gpu.lock", waiting):
        yield


def configure_backend(device: str) -> None:
    """Set the backend up for `device` before its first use in this process, and log what it sees.

    On TensorFlow: deterministic kernels always; on a GPU, memory is taken as it is needed rather
    than all at once; on the CPU, GPUs are hidden. Raises UsageError when the backend sees no GPU
    although one was resolved.
    """
    if backend() == "tensorflow":
        _configure_tensorflow(device)
    elif backend() == "jax" and device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    import keras

    visible = keras.distribution.list_devices() if backend() != "tensorflow" else _tf_devices()
    num_gpus = sum("gpu" in name.lower() or "cuda" in name.lower() for name in visible)
    logger.info("Devices: %s; GPUs available: %d", ", ".join(visible), num_gpus)
    if device != "cpu" and num_gpus == 0:
        raise UsageError(
            f"{device.removeprefix('gpu:')} is there, but {backend()} does not see it; "
            "check the driver and the CUDA libraries, or use --device cpu"
        )


@cache
def _configure_tensorflow(device: str) -> None:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    else:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_op_determinism()


def _tf_devices() -> list[str]:
    import tensorflow as tf

    return [device.name for device in tf.config.get_visible_devices()]


def _has_cuda_libraries(name: str) -> bool:
    return any(_is_installed(package) for package in CUDA_PACKAGES.get(name, ()))


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
