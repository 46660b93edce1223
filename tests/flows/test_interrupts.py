"""Ctrl-C and SIGTERM: a command ends soon, with one line and the exit code of the signal."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from digits.registry.ledger import Ledger
from digits.settings import ROOT
from digits.storage.workspace import Workspace
from flows.interrupts import Interrupted, interruptible
from tests.flows.conftest import DATASET
from tests.support import processes
from tests.support.commands import DIGITS, run_digits, start_digits
from tests.support.small_dataset import NAME

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Prints `ready` in an interruptible block, and `ending` after the first signal has ended it.
COMMAND = """
import signal, sys, threading, time
from flows import interrupts
# As in the foreground, wherever these tests run.
signal.signal(signal.SIGINT, signal.default_int_handler)
{before}
try:
    with interrupts.interruptible():
        print("ready", flush=True)
        {inside}
except interrupts.Interrupted as interrupted:
    print("ending", flush=True)
    {after}
    sys.exit(interrupted.code)
"""

FOREGROUND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts COMMAND with lines filled in, and waits for its block."""
    with contextlib.ExitStack() as stack:

        def start(
            before: str = "", inside: str = "time.sleep(100)", after: str = ""
        ) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, "-c", COMMAND.format(before=before, inside=inside, after=after)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            wait_for(process, "ready")
            return process

        yield start


def wait_for(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_ends_the_block_in_one_line(start: Start, number: signal.Signals) -> None:
    process = start()
    process.send_signal(number)
    _, stderr = process.communicate()
    assert process.returncode == 128 + number
    (line,) = stderr.splitlines()
    assert line.startswith(f"{number.name}: stopping; finished steps and epochs are kept")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_another_thread_ends_the_block(start: Start, number: signal.Signals) -> None:
    to_itself = f"lambda: signal.pthread_kill(threading.get_ident(), signal.{number.name})"
    sleep_on = "threading.Event().wait()"
    process = start(
        before=f"thread = threading.Timer(0.1, {to_itself})", inside=f"thread.start(); {sleep_on}"
    )
    process.communicate()
    assert process.returncode == 128 + number


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_signal_ends_the_process_immediately(
    start: Start, number: signal.Signals
) -> None:
    process = start(after="time.sleep(100)")
    process.send_signal(signal.SIGINT)
    wait_for(process, "ending")
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 128 + signal.SIGINT


def test_a_thread_that_does_not_end_in_time_is_abandoned(start: Start) -> None:
    stuck = "threading.Thread(target=time.sleep, args=(100,)).start()"
    process = start(before="interrupts.GRACE_SECONDS = 0.1", after=stuck)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM


def test_an_ignored_signal_stays_ignored(start: Start) -> None:
    process = start(before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGINT" not in stderr


def test_signal_handlers_are_restored_after_the_block() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with interruptible():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_interrupted_is_a_keyboard_interrupt() -> None:
    # Prefect marks the run accordingly, and no `except Exception` swallows it.
    assert isinstance(Interrupted(130), KeyboardInterrupt)


@pytest.mark.slow
@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGKILL])
def test_an_interrupted_run_resumes_from_its_last_epoch(
    finished: Workspace, number: signal.Signals
) -> None:
    request = ("run", *DATASET, "--models", "mlp", "--epochs", "40", "--device", "cpu")
    before = Ledger(NAME, finished.settings).path.read_bytes()
    process = start_digits(finished.settings, *request, code=FOREGROUND + DIGITS)
    lines = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if "train mlp: epoch 3/40" in line:
            process.send_signal(number)
    process.communicate()
    if number is signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + number
        assert f" {number.name}: stopping; " in lines[-1]
        assert sum("Traceback" in line for line in lines) == 0
    assert Ledger(NAME, finished.settings).path.read_bytes() == before
    again = run_digits(finished.settings, *request)
    assert again.returncode == 0, again.stderr
    assert "mlp: resuming after epoch" in again.stderr
    assert "train mlp: epoch 1/40" not in again.stderr
    assert len(Ledger(NAME, finished.settings).entries()) == 2


SIGNALS_AFTER_THE_FIRST = """
import gc, os, signal, time
from flows.interrupts import interruptible

# As in the foreground, wherever these tests run.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
except KeyboardInterrupt:
    gc.collect()
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGURG)
        time.sleep(0.01)
"""


def test_signals_after_the_first_one_leave_no_complaint() -> None:
    process = processes.start(SIGNALS_AFTER_THE_FIRST)

    assert "Exception ignored" not in process.communicate()[1]
    assert process.returncode == 0


def test_no_thread_is_left_after_the_block() -> None:
    before = set(threading.enumerate())
    with interruptible():
        (waking,) = set(threading.enumerate()) - before
    waking.join()


ANSWERED_WITH_AN_ERROR = """
import os, signal, time
import click
from flows import cli
from flows.interrupts import interruptible

@cli.main.command()
def answer():
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
    except KeyboardInterrupt as interrupted:
        raise ValueError("cannot store the state of the run") from interrupted

cli.main(["answer"], prog_name="digits")
"""


def test_an_error_that_a_library_makes_of_a_signal_is_not_reported() -> None:
    process = processes.start(ANSWERED_WITH_AN_ERROR)
    stderr = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM
    (line,) = stderr.splitlines()
    assert "SIGTERM: stopping" in line
