"""Separate workspaces for benchmarks, and timed commands in them."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from digits.settings import ROOT, Settings

DIGITS = (sys.executable, "-P", "-c", "from flows.cli import main; main(prog_name='digits')")


@dataclass(frozen=True)
class Timed:
    """A successful command: wall and CPU seconds, peak memory and standard output."""

    wall: float
    processor: float
    peak_mb: float
    output: str = field(repr=False)


def fresh_workspace(root: Path) -> Mapping[str, str]:
    """Create a workspace in `root` with MNIST's raw files only; returns its environment."""
    raw = root / "data" / "raw" / "mnist"
    raw.mkdir(parents=True)
    found = list((Settings().raw_dir / "mnist").glob("*.idx"))
    if len(found) != 4:
        raise RuntimeError(
            f"{Settings().raw_dir}/mnist: MNIST's files not found; `digits run` downloads them"
        )
    for path in found:
        shutil.copy(path, raw)
    return {
        **os.environ,
        "DIGITS_DATA_DIR": str(root / "data"),
        "DIGITS_ARTIFACTS_DIR": str(root / "artifacts"),
        "PREFECT_HOME": str(root / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(ROOT),
    }


def timed(command: Sequence[str], environment: Mapping[str, str], cwd: Path = ROOT) -> Timed:
    """Run a command. Raises RuntimeError with its error output if it fails."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        begun = time.monotonic()
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0), errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{errors.read()}")
        processor = usage.ru_utime + usage.ru_stime
        return Timed(wall, processor, usage.ru_maxrss / 1024, output.read())
