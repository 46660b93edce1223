import os
import subprocess
import sys
from pathlib import Path

import pytest

from digits.settings import ROOT

# A program like the command line: it separates the streams, then writes past Python.
PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from digits.training.streams import native_errors_in, separate_error_stream

log = Path({log!r})
{start}
try:
    with native_errors_in(log):
        os.write(2, b"native\\n")
        subprocess.run(["sh", "-c", "echo child >&2"])
        print("python", file=sys.stderr)
        {within}
finally:
    os.write(2, b"after\\n")
"""
SEPARATED = "separate_error_stream()"


def run(log: Path, start: str = SEPARATED, within: str = "") -> subprocess.CompletedProcess[str]:
    code = PROGRAM.format(log=str(log), start=start, within=within)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "native.log"


def test_native_output_goes_to_the_file_and_pythons_does_not(log: Path) -> None:
    result = run(log)

    assert result.stderr == "python\nafter\n"
    assert log.read_text() == "native\nchild\n"


def test_the_file_contains_only_the_last_run(log: Path) -> None:
    run(log)
    run(log)

    assert log.read_text() == "native\nchild\n"


def test_nothing_is_redirected_if_python_writes_to_the_same_descriptor(log: Path) -> None:
    result = run(log, start="")

    assert result.stderr.split() == ["native", "child", "python", "after"]
    assert not log.exists()


@pytest.mark.parametrize("start", ["sys.stderr = None", "import io; sys.stderr = io.StringIO()"])
def test_a_program_with_a_replaced_stderr_is_left_alone(start: str, log: Path) -> None:
    result = run(log, start=f"{start}; {SEPARATED}")

    assert result.returncode == 0
    assert result.stderr.split() == ["native", "child", "after"]


def test_a_python_error_is_shown_and_ends_the_redirection(log: Path) -> None:
    result = run(log, within="raise ImportError('libcuda is too old')")

    assert result.stderr.startswith("python\nafter\nTraceback")
    assert result.stderr.endswith("ImportError: libcuda is too old\n")


def test_a_native_crash_shows_the_python_stack(log: Path) -> None:
    result = run(log, within="os.abort()")

    assert result.returncode < 0
    assert result.stderr.startswith("python\nFatal Python error: Aborted")
    assert 'File "<string>", line ' in result.stderr
