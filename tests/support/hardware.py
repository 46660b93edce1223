"""Stand-ins for hardware: NVIDIA's driver with one GPU, and what Linux says of a processor."""

import ctypes
from pathlib import Path
from typing import Any

import pytest

from digits.training import processors

CUDA_ERROR = 100


class Driver:
    """A stand-in for NVIDIA's libcuda with one GPU; the function `failing` fails."""

    def __init__(self, failing: str = "", capability: tuple[int, int] = (8, 0)) -> None:
        self._failing, self._capability = failing, capability

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return self._status("cuInit")

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        assert ordinal == 0
        device._obj.value = 7
        return self._status("cuDeviceGet")

    def cuDeviceGetName(self, name: Any, length: int, device: ctypes.c_int) -> int:
        assert (length, device.value) == (128, 7)
        name.value = b"NVIDIA Made-up 100"
        return self._status("cuDeviceGetName")

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> int:
        assert device.value == 7
        # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        value._obj.value = dict(zip((75, 76), self._capability, strict=True))[attribute]
        return self._status("cuDeviceGetAttribute")

    def _status(self, function: str) -> int:
        return CUDA_ERROR if function == self._failing else 0


def install_driver(monkeypatch: pytest.MonkeyPatch, driver: Driver | None) -> None:
    def load(name: str) -> Driver:
        assert name == "libcuda.so.1"
        if driver is None:
            raise OSError(f"{name}: cannot open shared object file")
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)


def install_processor(
    monkeypatch: pytest.MonkeyPatch, folder: Path, facts: str | None, machine: str
) -> None:
    """Make this process find these facts of /proc/cpuinfo, or none, and this kind of machine."""
    path = folder / "cpuinfo"
    if facts is not None:
        path.write_text(facts, encoding="utf-8")
    monkeypatch.setattr(processors, "CPU_FACTS", path)
    monkeypatch.setattr("platform.machine", lambda: machine)
