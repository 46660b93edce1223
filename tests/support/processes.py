"""Python in a process of its own, to be killed or starved."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Run code, which finds `arguments` in sys.argv[1:]."""
    return subprocess.Popen(
        [sys.executable, "-c", dedent(code), *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: "subprocess.Popen[str]", word: str) -> None:
    """Wait until the process says `word` on a line of its own."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    raise AssertionError(f"it ended without {word!r}: {process.communicate()[1]}")


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill -9, and wait until it is gone."""
    process.kill()
    process.communicate()


def result_of(code: str, *arguments: object) -> str:
    """What code prints; it must end well."""
    process = start(code, *arguments)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output
