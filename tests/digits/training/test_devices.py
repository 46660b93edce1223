import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType

import pytest

from digits.errors import DigitsError, UsageError
from digits.settings import ROOT
from digits.training import devices
from digits.training.devices import (
    CUDA_PACKAGES,
    Device,
    configure_backend,
    resolve_device,
)
from digits.training.gpus import first_gpu
from tests.support.hardware import Driver, install_driver


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clear the caches, so that no test sees another's results."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    first_gpu.cache_clear()
    yield
    first_gpu.cache_clear()


def install_packages(monkeypatch: pytest.MonkeyPatch, *installed: str) -> None:
    def version(name: str) -> str:
        if name not in {*installed, "tensorflow", "jax"}:
            raise PackageNotFoundError(name)
        return "9.0"

    monkeypatch.setattr(devices, "version", version)


@pytest.mark.parametrize("package", CUDA_PACKAGES["tensorflow"])
@pytest.mark.parametrize("requested", ["auto", "gpu"])
def test_a_usable_gpu_is_resolved_to_its_name(
    requested: Device, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_driver(monkeypatch, Driver())
    install_packages(monkeypatch, package)

    assert resolve_device(requested) == "gpu:NVIDIA Made-up 100"


def test_the_cpu_can_be_requested_despite_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install_driver(monkeypatch, Driver())
    install_packages(monkeypatch, *CUDA_PACKAGES["tensorflow"])

    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("reason", ["no driver", "hidden", "hidden by number"])
def test_without_a_gpu_auto_means_the_cpu_and_gpu_is_an_error(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_driver(monkeypatch, None if reason == "no driver" else Driver())
    install_packages(monkeypatch, *CUDA_PACKAGES["tensorflow"])
    if reason.startswith("hidden"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "" if reason == "hidden" else "-1")

    assert resolve_device("auto") == "cpu"
    with pytest.raises(UsageError, match=r"--device gpu: no NVIDIA GPU was found .* --device cpu"):
        resolve_device("gpu")


@pytest.mark.parametrize(
    "function", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute"]
)
def test_a_failing_driver_means_no_gpu(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install_driver(monkeypatch, Driver(failing=function))
    install_packages(monkeypatch, *CUDA_PACKAGES["tensorflow"])

    assert resolve_device("auto") == "cpu"
    with pytest.raises(UsageError, match="no NVIDIA GPU was found"):
        resolve_device("gpu")


def test_a_gpu_without_cuda_libraries_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    install_driver(monkeypatch, Driver())
    install_packages(monkeypatch, *CUDA_PACKAGES["jax"])

    assert resolve_device("auto") == "cpu"
    with pytest.raises(UsageError) as caught:
        resolve_device("gpu")
    assert "found NVIDIA Made-up 100, but tensorflow has no CUDA libraries" in str(caught.value)
    assert "make gpu" in str(caught.value)


def test_each_backend_needs_its_own_cuda_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    install_driver(monkeypatch, Driver())
    install_packages(monkeypatch, *CUDA_PACKAGES["jax"])
    monkeypatch.setenv("KERAS_BACKEND", "jax")

    assert resolve_device("auto").startswith("gpu:")

    install_packages(monkeypatch, *CUDA_PACKAGES["tensorflow"])
    assert resolve_device("auto") == "cpu"
    with pytest.raises(
        UsageError, match="but jax has no CUDA libraries; install a build with CUDA"
    ):
        resolve_device("gpu")


@pytest.mark.parametrize("backend", ["theano", "torch"])
@pytest.mark.parametrize("requested", ["auto", "cpu", "gpu"])
def test_a_missing_backend_is_reported_at_once(
    requested: Device, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_packages(monkeypatch)
    monkeypatch.setenv("KERAS_BACKEND", backend)

    message = f"KERAS_BACKEND={backend}: the backend is unknown or not installed .*tensorflow, "
    with pytest.raises(UsageError, match=message):
        resolve_device(requested)


def test_resolving_the_device_loads_no_backend() -> None:
    code = """
import sys
from digits.training.devices import resolve_device
resolve_device("auto")
assert not {"keras", "tensorflow", "jax", "torch"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# As in a run with two trainings: two threads each set up the backend.
CONFIGURE = """
import logging, os, sys
from concurrent.futures import ThreadPoolExecutor
from digits.training.devices import configure_backend
from digits.training.streams import separate_error_stream

separate_error_stream()
logging.basicConfig(level=logging.INFO, format="%(message)s")
with ThreadPoolExecutor() as threads:
    for done in [threads.submit(configure_backend, "cpu") for _ in range(2)]:
        done.result()
os.write(2, b"native\\n")

import tensorflow as tf

assert tf.config.get_visible_devices("GPU") == []
try:
    tf.random.uniform([1])
except RuntimeError as error:
    assert "determinism is enabled" in str(error)
else:
    raise AssertionError("unseeded randomness was allowed")

from keras import config

assert (config.floatx(), config.image_data_format()) == ("float32", "channels_last")
assert config.backend() == "tensorflow"
assert (config.epsilon(), config.max_epochs(), config.max_steps_per_epoch()) == (1e-7, None, None)
"""
PLANTED = {
    "backend": "jax",
    "floatx": "float16",
    "epsilon": 0.1,
    "image_data_format": "channels_first",
}


def test_the_backend_is_set_up_once_whatever_is_configured_and_does_not_write_to_the_terminal(
    tmp_path: Path,
) -> None:
    log = tmp_path / "logs" / "tensorflow.log"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "keras.json").write_text(json.dumps(PLANTED))
    outside = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1"}
    inside = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}

    result = subprocess.run(
        [sys.executable, "-c", CONFIGURE],
        env={
            **inside,
            **outside,
            "KERAS_HOME": str(tmp_path / "home"),
            "DIGITS_ARTIFACTS_DIR": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        },
        stderr=subprocess.PIPE,
        text=True,
    )

    first, second, *others = result.stderr.splitlines()
    assert first == f"loading tensorflow; its own output goes to {log}"
    assert re.fullmatch(r"Devices: /physical_device:CPU:0; GPUs available: 0", second)
    assert others == ["native"]
    assert log.exists()


@pytest.mark.parametrize("missing", ["keras", "tensorflow"])
def test_a_backend_that_cannot_be_loaded_is_a_clear_error(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Another test may have set up the backend in this process, and the result is cached.
    monkeypatch.setattr(devices, "_configure", devices._configure.__wrapped__)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setenv("DIGITS_ARTIFACTS_DIR", str(tmp_path))
    if missing == "tensorflow":
        monkeypatch.setitem(sys.modules, "keras", ModuleType("keras"))

    with pytest.raises(DigitsError, match=f"tensorflow cannot be loaded: import of {missing} halt"):
        configure_backend("cpu")
