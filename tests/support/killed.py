"""Kills a function just before one of the changes that it makes on disk."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.preludes import Changes

# Forked from a process without threads, unlike that of the tests.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["pytest", "numpy", "digits.intake.corrected_batches"])


def call_killed(function: Callable[..., Any], *arguments: Any, folder: Path, kill_at: int) -> int:
    """Call a function of a module, and kill it before change number `kill_at` below a folder.

    Returns the exit code: negative for the signal that killed it.
    """
    process = _SERVER.Process(
        target=_call, args=(Changes(folder, kill_at=kill_at), function, *arguments)
    )
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _call(prelude: Changes, function: Callable[..., Any], *arguments: Any) -> None:
    prelude()
    function(*arguments)
