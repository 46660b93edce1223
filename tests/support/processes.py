"""Python in a process of its own, to be killed or deprived of resources."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start code in a process, with `arguments` in sys.argv[1:]."""
    return subprocess.Popen(
        [sys.executable, "-c", dedent(code), *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: "subprocess.Popen[str]", word: str) -> None:
    """Wait until the process prints `word` on a line of its own."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    raise AssertionError(f"process ended without printing {word!r}: {process.communicate()[1]}")


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill the process with SIGKILL and wait for its end."""
    process.kill()
    process.communicate()


def result_of(code: str, *arguments: object) -> str:
    """Run code, which must succeed, and return its output."""
    process = start(code, *arguments)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output
