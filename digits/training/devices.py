"""Which kind of device a training runs on, and how the backend is set up for it."""

import contextlib
import ctypes
import logging
import os
import platform
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Literal

from digits.errors import DigitsError, UsageError
from digits.settings import Settings
from digits.storage.locks import hold
from digits.training.streams import native_errors_in

logger = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "gpu"]
# The packages that bring CUDA to each backend: without one of them the backend sees no GPU.
CUDA_PACKAGES = {
    "tensorflow": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
    "jax": ("jax-cuda12-plugin", "jax-cuda13-plugin"),
    "torch": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
}
CPU_FACTS = Path("/proc/cpuinfo")
_configuring = Lock()


def backend() -> str:
    """The Keras backend of this process."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def resolve_device(requested: Device) -> str:
    """The kind of device that `requested` means here: "cpu" or "gpu:" and the GPU's name.

    Imports no backend, so that a cache key costs nothing. Raises UsageError for a GPU that is not
    there or that the backend could not use, and for a backend that is not there itself.
    """
    if backend() not in CUDA_PACKAGES or not _is_installed(backend()):
        raise UsageError(
            f"KERAS_BACKEND={backend()}: found no such backend, expected one of "
            f"{', '.join(CUDA_PACKAGES)} that is installed; unset it for tensorflow"
        )
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
    advice = (
        "`make gpu` adds them" if backend() == "tensorflow" else "install a build of it with CUDA"
    )
    raise UsageError(
        f"--device gpu: {name} is there, but {backend()} has no CUDA libraries; "
        f"{advice}, or use --device cpu"
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


@cache
def processor() -> str:
    """The CPU and how many of its cores this process may use: the bits of weights depend on both.

    As "AMD EPYC 9R14 (25-17-1), 2 cores": Linux also gives family, model and stepping, since a
    virtual machine's name for its processor may stand for several.
    """
    try:
        cores = len(os.sched_getaffinity(0))
        known = dict(re.findall(r"^([^\t:]+)\s*: (.*)$", CPU_FACTS.read_text(), re.MULTILINE))
        numbers = (known[fact] for fact in ("cpu family", "model", "stepping"))
        name = f"{known['model name']} ({'-'.join(numbers)})"
    except (AttributeError, OSError, KeyError):
        cores = os.cpu_count() or 1
        name = platform.processor() or platform.machine()
    return f"{name}, {cores} core{'s' if cores > 1 else ''}"


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
    than all at once; on the CPU, GPUs are hidden. Raises DigitsError when the backend cannot be
    imported, UsageError when it sees no GPU although one was resolved.
    """
    # Two trainings begin at once; the second then finds it done.
    with _configuring:
        _configure(device)


@cache
def _configure(device: str) -> None:
    log = Settings().artifacts_dir / "logs" / f"{backend()}.log"
    logger.info("loading %s; what it says itself goes to %s", backend(), log)
    try:
        with native_errors_in(log):
            visible = _load_backend(device)
    except ImportError as error:
        raise DigitsError(
            f"{backend()} cannot be loaded: {error}; {log} may say more, and setting the "
            "environment up again with `make` may mend it"
        ) from error
    num_gpus = sum("gpu" in name.lower() or "cuda" in name.lower() for name in visible)
    logger.info("Devices: %s; GPUs available: %d", ", ".join(visible), num_gpus)
    if device != "cpu" and num_gpus == 0:
        raise UsageError(
            f"{device.removeprefix('gpu:')} is there, but {backend()} does not see it; check the "
            f"driver and the CUDA libraries ({log} may say more), or use --device cpu"
        )


def _load_backend(device: str) -> list[str]:
    """Import Keras and its backend, set up for the device; the devices that it sees."""
    if backend() == "tensorflow":
        return _load_tensorflow(device)
    if backend() == "jax" and device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    import keras

    return list(keras.distribution.list_devices())


def _load_tensorflow(device: str) -> list[str]:
    import keras  # noqa: F401  (it says as much as TensorFlow does, so now is the time)
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    else:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_op_determinism()
    return [visible.name for visible in tf.config.get_visible_devices()]


def _has_cuda_libraries(name: str) -> bool:
    return any(_is_installed(package) for package in CUDA_PACKAGES.get(name, ()))


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
