"""The first visible NVIDIA GPU, described by its driver; no backend is imported."""

import ctypes
import os
from functools import cache
from typing import NamedTuple

# Numbers of two attributes in the driver's cuDeviceGetAttribute.
MAJOR, MINOR = 75, 76


class Gpu(NamedTuple):
    """A GPU: its name, and its compute capability, such as (8, 0)."""

    name: str
    capability: tuple[int, int]


@cache
def first_gpu() -> Gpu | None:
    """Return the first visible NVIDIA GPU, or None without one."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(128)
    major, minor = ctypes.c_int(), ctypes.c_int()
    succeeded = (
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(device), 0) == 0
        and driver.cuDeviceGetName(name, len(name), device) == 0
        and driver.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, device) == 0
        and driver.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, device) == 0
    )
    return Gpu(name.value.decode(), (major.value, minor.value)) if succeeded else None
