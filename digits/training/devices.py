"""The kind of device that a training runs on, and the backend's setup for it."""

import contextlib
import logging
import os
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Literal

from digits.errors import DigitsError, UsageError
from digits.settings import Settings
from digits.storage.locks import hold
from digits.training.gpus import first_gpu
from digits.training.streams import native_errors_in

logger = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "gpu"]
# The packages that provide CUDA to each backend; without any of them it sees no GPU.
CUDA_PACKAGES = {
    "tensorflow": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
    "jax": ("jax-cuda12-plugin", "jax-cuda13-plugin"),
    "torch": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
}
# TensorFlow can crash (rarely, with a segmentation fault) if two threads build graphs at once.
# Whoever may build one holds this lock.
TRACING = Lock()
_configuring = Lock()


def backend() -> str:
    """Return the name of this process's Keras backend."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def resolve_device(requested: Device) -> str:
    """Resolve `requested` on this machine to "cpu" or to "gpu:" plus the GPU's name.

    Imports no backend, so that computing a cache key stays cheap. Raises UsageError if a GPU was
    requested but is missing or unusable by the backend, or if the backend is unknown or missing.
    """
    if backend() not in CUDA_PACKAGES or not _is_installed(backend()):
        raise UsageError(
            f"KERAS_BACKEND={backend()}: the backend is unknown or not installed (expected one of "
            f"{', '.join(CUDA_PACKAGES)}); unset it to use tensorflow"
        )
    if requested == "cpu":
        return "cpu"
    gpu = first_gpu()
    if gpu is not None and _has_cuda_libraries(backend()):
        return f"gpu:{gpu.name}"
    if requested == "auto":
        return "cpu"
    if gpu is None:
        raise UsageError(
            "--device gpu: no NVIDIA GPU was found on this machine (the driver reports none); "
            "use --device cpu or --device auto"
        )
    advice = (
        "run `make gpu` to add them" if backend() == "tensorflow" else "install a build with CUDA"
    )
    raise UsageError(
        f"--device gpu: found {gpu.name}, but {backend()} has no CUDA libraries; "
        f"{advice}, or use --device cpu"
    )


@contextlib.contextmanager
def device_for_one(device: str, settings: Settings, waiting: str) -> Iterator[None]:
    """Hold the GPU exclusively, across all processes, during the block.

    A CPU is shared, and a GPU if the setting `share_gpu` says so.
    """
    if device == "cpu" or settings.share_gpu:
        yield
        return
    with hold(settings.artifacts_dir / "locks" / "gpu.lock", waiting):
        yield


def configure_backend(device: str) -> None:
    """Set up the backend for `device` before its first use in this process; log its devices.

    With TensorFlow, kernels are always deterministic; on a GPU, memory is allocated on demand
    rather than all at once; on the CPU, GPUs are hidden. Raises DigitsError if the backend cannot
    be imported, UsageError if it sees no GPU although one was resolved.
    """
    # Two trainings start at the same time; the second finds this done.
    with _configuring:
        _configure(device)


@cache
def _configure(device: str) -> None:
    log = Settings().artifacts_dir / "logs" / f"{backend()}.log"
    logger.info("loading %s; its own output goes to %s", backend(), log)
    try:
        with native_errors_in(log):
            visible = _load_backend(device)
    except ImportError as error:
        raise DigitsError(
            f"{backend()} cannot be loaded: {error}; see {log}, or run `make` to set up the "
            "environment again"
        ) from error
    num_gpus = sum("gpu" in name.lower() or "cuda" in name.lower() for name in visible)
    logger.info("Devices: %s; GPUs available: %d", ", ".join(visible), num_gpus)
    if device != "cpu" and num_gpus == 0:
        raise UsageError(
            f"found {device.removeprefix('gpu:')}, but {backend()} does not see it; check the "
            f"driver and the CUDA libraries (see {log}), or use --device cpu"
        )


def _load_backend(device: str) -> list[str]:
    """Import Keras and its backend, set it up for the device, and return its visible devices."""
    # Whoever imports this without the command line: not ~/.keras, whose keras.json can name another
    # backend and another arithmetic.
    os.environ["KERAS_HOME"] = str(Settings().artifacts_dir / "keras")
    os.environ["KERAS_BACKEND"] = backend()
    visible = _load_tensorflow(device) if backend() == "tensorflow" else _load_other(device)
    from keras import config

    # Whatever keras.json and KERAS_... say: results are cached as those of these settings.
    config.set_floatx("float32")
    config.set_epsilon(1e-7)
    config.set_image_data_format("channels_last")
    config.set_max_epochs(None)
    config.set_max_steps_per_epoch(None)
    return visible


def _load_other(device: str) -> list[str]:
    if backend() == "jax" and device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    import keras

    return list(keras.distribution.list_devices())


def _load_tensorflow(device: str) -> list[str]:
    import keras  # noqa: F401  (prints as much as TensorFlow, so import it here)
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
