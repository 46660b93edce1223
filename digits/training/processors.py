"""The processor that this process runs on: its name, its cores and its instructions."""

import os
import platform
import re
from functools import cache
from pathlib import Path

CPU_FACTS = Path("/proc/cpuinfo")


@cache
def processor() -> str:
    """Return the CPU and the number of its cores that this process can use.

    The bits of trained weights depend on both. Example: "AMD EPYC 9R14 (25-17-1), 2 cores". On
    Linux this includes family, model and stepping, since a virtual machine can report one name for
    several processors.
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


@cache
def instructions() -> frozenset[str]:
    """Return Linux's names of the processor's instruction sets, or none on other systems.

    Examples: "avx2" and "amx_bf16" on x86, "asimd" and "bf16" on Arm.
    """
    try:
        facts = CPU_FACTS.read_text()
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*: (.*)$", facts, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()
