"""The virtual environment that the Makefile builds is never mistaken for a complete one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES, PROJECT, DEVELOPMENT = ".venv/.libraries", ".venv/.project", ".venv/.development"

# A fake interpreter of version VERSION: `-m venv` copies it into place, `-m pip` only records its
# arguments, and code is run by the real one.
FAKE_PYTHON = """\
#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
    *'print("%d.%d"'*) echo VERSION ;;
    "-c"*"$LACKING"*) echo "No module named $LACKING" >&2 && exit 1 ;;
    "-c"*) exec "$REAL" "$@" ;;
    "-m venv"*)
        rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python
        echo "version = VERSION.1" > .venv/pyvenv.cfg ;;
    "-m pip"*"$BROKEN") echo "$REASON" && exit 1 ;;
    "-m pip"*)
        env > environment
        while test ! -e "$PIP_ENDS_AT"; do sleep 0.1; done ;;
esac
"""


class Checkout:
    """A bare checkout, with an interpreter that installs nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for path in (ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("requirements*.txt")):
            shutil.copy(path, folder)
        for name, version in {"fake-python": "3.11", "fake-python3.12": "3.12"}.items():
            python = folder / name
            python.write_text(FAKE_PYTHON.replace("VERSION", version))
            python.chmod(0o755)

    def make(
        self, target: str, python: str = "./fake-python", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run make; pip fails to install what BROKEN names, and says REASON."""
        (self.folder / "calls").write_text("")
        process = self.start(target, python, **environment)
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def start(
        self, target: str, python: str = "./fake-python", **environment: str
    ) -> "subprocess.Popen[str]":
        # A minimal environment: under `make test`, ours contains that make's variables.
        defaults = {
            "PATH": os.environ["PATH"],
            "CALLS": str(self.folder / "calls"),
            "REAL": sys.executable,
            "BROKEN": "nothing",
            "REASON": "no such wheel",
            "LACKING": "nothing",
            "PIP_ENDS_AT": "Makefile",
        }
        return subprocess.Popen(
            ["make", f"PYTHON={python}", target],
            cwd=self.folder,
            env=defaults | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def steps(self) -> list[str]:
        """Return what the last make did: `venv`, or what it installed."""
        calls = (self.folder / "calls").read_text().splitlines()
        return [
            "venv" if call.startswith("-m venv") else call.split()[-1]
            for call in calls
            if call.startswith("-m")
        ]

    def touch(self, name: str) -> None:
        """Make a file newer than everything else."""
        for path in (*self.folder.iterdir(), *(self.folder / ".venv").iterdir()):
            os.utime(path, (10**9, 10**9))
        (self.folder / name).touch()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a checkout")


def test_a_run_installs_the_locked_libraries_and_the_project(checkout: Checkout) -> None:
    result = checkout.make(PROJECT)
    assert checkout.steps() == ["venv", "requirements.txt", "."]
    assert len(result.stdout.splitlines()) == 1


def test_the_tests_add_the_development_requirements(checkout: Checkout) -> None:
    checkout.make(PROJECT)
    checkout.make(DEVELOPMENT)
    assert checkout.steps() == ["requirements-dev.txt"]


@pytest.mark.parametrize("target", [PROJECT, DEVELOPMENT])
def test_a_second_call_installs_nothing(checkout: Checkout, target: str) -> None:
    checkout.make(target)
    checkout.make(target)
    assert checkout.steps() == []


def test_a_failed_setup_says_why_and_starts_from_scratch_next_time(checkout: Checkout) -> None:
    result = checkout.make(PROJECT, BROKEN="requirements.txt")
    assert result.returncode != 0
    assert "no such wheel" in result.stderr
    assert ".venv/install.log" in result.stderr
    checkout.make(PROJECT)
    assert checkout.steps() == ["venv", "requirements.txt", "."]


def test_a_failed_addition_starts_from_scratch_but_does_not_affect_runs(checkout: Checkout) -> None:
    checkout.make(PROJECT)
    checkout.make(DEVELOPMENT, BROKEN="requirements-dev.txt")
    checkout.make(PROJECT)
    assert checkout.steps() == []
    checkout.make(DEVELOPMENT)
    assert checkout.steps() == ["venv", "requirements.txt", "requirements-dev.txt"]


@pytest.mark.parametrize(
    ("changed", "steps"),
    [
        ("requirements.txt", ["venv", "requirements.txt", "."]),
        ("requirements-dev.txt", []),
        ("pyproject.toml", ["."]),
    ],
)
def test_a_run_repeats_only_what_a_change_affects(
    checkout: Checkout, changed: str, steps: list[str]
) -> None:
    checkout.make(PROJECT)
    checkout.touch(changed)
    checkout.make(PROJECT)
    assert checkout.steps() == steps


def test_a_moved_environment_is_rebuilt(checkout: Checkout) -> None:
    checkout.make(PROJECT)
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    checkout.make(PROJECT)
    assert checkout.steps() == ["venv", "requirements.txt", "."]


def test_an_environment_without_its_interpreter_is_rebuilt(checkout: Checkout) -> None:
    checkout.make(PROJECT)
    (checkout.folder / ".venv/bin/python").unlink()
    checkout.make(PROJECT)
    assert checkout.steps() == ["venv", "requirements.txt", "."]


def test_an_environment_of_another_python_than_asked_for_is_rebuilt(checkout: Checkout) -> None:
    checkout.make(PROJECT)
    checkout.make(PROJECT, python="./fake-python3.12")
    assert checkout.steps() == ["venv", "requirements.txt", "."]
    checkout.make(PROJECT, python="./fake-python3.12")
    assert checkout.steps() == []


def test_two_makes_at_once_set_up_one_environment(checkout: Checkout) -> None:
    first = checkout.start(PROJECT, PIP_ENDS_AT="the end")
    while not (checkout.folder / "environment").exists():
        assert first.poll() is None
    second = checkout.start(PROJECT)
    assert second.stderr is not None
    assert "Waiting for another make" in second.stderr.readline()
    (checkout.folder / "the end").touch()
    for process in (first, second):
        process.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    assert checkout.steps() == ["venv", "requirements.txt", "."]


def test_settings_for_pip_and_python_do_not_reach_the_environment(checkout: Checkout) -> None:
    outside = dict.fromkeys(("PIP_TARGET", "PIP_PREFIX", "PYTHONPATH"), "/elsewhere")
    result = checkout.make(PROJECT, PIP_USER="1", PIP_INDEX_URL="https://index", **outside)
    assert result.returncode == 0
    seen = (checkout.folder / "environment").read_text().splitlines()
    assert {"PIP_USER=no", "PIP_INDEX_URL=https://index"} <= set(seen)
    assert not [line for line in seen if line.partition("=")[0] in outside]


@pytest.mark.parametrize(
    "reason",
    [
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError()'",
        "ERROR: Could not find a version that satisfies absl-py==2.5.0 (from versions: none)",
        "ERROR: Cannot install absl-py==2.5.0 because these package versions conflict.",
    ],
)
def test_an_index_that_was_not_reached_is_called_that(checkout: Checkout, reason: str) -> None:
    said = f"{reason}\nERROR: ResolutionImpossible: loosen the range of package versions"
    result = checkout.make(PROJECT, BROKEN="requirements.txt", REASON=said)
    assert result.returncode != 0
    assert "No package index was reached" in result.stderr
    assert reason in result.stderr
    assert "loosen" not in result.stderr


def test_a_python_without_venv_is_refused_with_the_name_of_the_package(checkout: Checkout) -> None:
    result = checkout.make(PROJECT, LACKING="ensurepip")
    assert result.returncode != 0
    assert "python3.11-venv" in result.stderr
    assert not (checkout.folder / ".venv").exists()


@pytest.mark.parametrize("python", ["false", "no-such-python"])
def test_an_unsupported_interpreter_is_refused_before_anything_is_built(
    checkout: Checkout, python: str
) -> None:
    result = checkout.make(PROJECT, python=python)
    assert result.returncode != 0
    assert "Python 3.11, 3.12 or 3.13" in result.stderr
    assert not (checkout.folder / ".venv").exists()
