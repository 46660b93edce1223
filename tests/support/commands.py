"""The command line as users run it: in a process of its own, or in this one."""

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from click.testing import CliRunner, Result

from digits.settings import ROOT, Settings

DIGITS = "from flows.cli import main; main(prog_name='digits')"
LOGGERS = ("digits", "tasks", "flows")


def start_digits(
    settings: Settings, *arguments: str, code: str = DIGITS, **environment: str
) -> "subprocess.Popen[str]":
    """Start `digits ARGUMENTS` in a workspace, in a process of its own."""
    folders = {
        "DIGITS_DATA_DIR": str(settings.data_dir),
        "DIGITS_ARTIFACTS_DIR": str(settings.artifacts_dir),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=settings.artifacts_dir.parent,
        env=os.environ | folders | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_digits(
    settings: Settings, *arguments: str, code: str = DIGITS, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run `digits ARGUMENTS` in a workspace, in a process of its own."""
    process = start_digits(settings, *arguments, code=code, **environment)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def call_digits(*arguments: str) -> Result:
    """Run `digits ARGUMENTS` in this process and its workspace (see the fixture `current`)."""
    # On its first import, Prefect closes all log handlers, and absl's, which comes with keras, then
    # closes pytest's own stream if that has been replaced by then.
    import prefect.main  # noqa: F401

    from flows.cli import main

    with _handlers_restored():
        return CliRunner().invoke(main, arguments, prog_name="digits")


def read_json(result: "Result | subprocess.CompletedProcess[str]") -> Any:
    """Parse the JSON output of a command, which must have succeeded and printed nothing else."""
    code = result.exit_code if isinstance(result, Result) else result.returncode
    assert code == 0, result.stderr
    return json.loads(result.stdout)


@contextlib.contextmanager
def _handlers_restored() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    try:
        yield
    finally:
        for logger, handlers, level in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
