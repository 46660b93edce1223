"""A process and all that it started: memory, processor time, precedence."""

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

MB = 2**20
TICK = 1 / os.sysconf("SC_CLK_TCK")


def processes_of(first: int) -> list[int]:
    """Return a process and all that it started, at any depth."""
    children: dict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children[parent].append(int(stat.parent.name))
    found = [first]
    for process in found:
        found += children[process]
    return found


def memory(first: int) -> float:
    """Return the MB of a server: what its processes have alone, and their part of the rest."""
    rollups = (Path("/proc", str(one), "smaps_rollup").read_text() for one in processes_of(first))
    return sum(int(one.partition("Pss:")[2].split()[0]) for one in rollups) * 1024 / MB


def processor_seconds(first: int) -> float:
    """Return the processor time of a server so far, in seconds."""
    stats = (Path("/proc", str(one), "stat").read_text() for one in processes_of(first))
    times = (stat.rpartition(")")[2].split()[11:13] for stat in stats)
    return sum(int(user) + int(system) for user, system in times) * TICK


def put_ahead(first: int) -> None:
    """Give the sessions of a server precedence over all others. Raises OSError unless root."""
    for one in processes_of(first):
        Path("/proc", str(one), "autogroup").write_text("-20")
