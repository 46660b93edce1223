"""The virtual environment that the Makefile builds is never mistaken for a complete one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES, PROJECT, DEVELOPMENT = ".venv/.libraries", ".venv/.project", ".venv/.development"

# A fake interpreter: `-m venv` copies it into place, `-m pip` only records its arguments.
FAKE_PYTHON = """\
#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
    "-m venv"*) rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip"*"$BROKEN") echo "no such wheel" && exit 1 ;;
esac
"""


class Checkout:
    """A bare checkout, with an interpreter that installs nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for path in (ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("requirements*.txt")):
            shutil.copy(path, folder)
        python = folder / "fake-python"
        python.write_text(FAKE_PYTHON)
        python.chmod(0o755)

    def make(
        self, target: str, broken: str = "nothing", python: str = "./fake-python"
    ) -> subprocess.CompletedProcess[str]:
        """Run make; pip fails to install what `broken` names."""
        calls = self.folder / "calls"
        calls.write_text("")
        # A minimal environment: under `make test`, ours contains that make's variables.
        environment = {"PATH": os.environ["PATH"], "CALLS": str(calls), "BROKEN": broken}
        return subprocess.run(
            ["make", f"PYTHON={python}", target],
            cwd=self.folder,
            env=environment,
            capture_output=True,
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
    result = checkout.make(PROJECT, broken="requirements.txt")
    assert result.returncode != 0
    assert "no such wheel" in result.stderr
    assert ".venv/install.log" in result.stderr
    checkout.make(PROJECT)
    assert checkout.steps() == ["venv", "requirements.txt", "."]


def test_a_failed_addition_starts_from_scratch_but_does_not_affect_runs(checkout: Checkout) -> None:
    checkout.make(PROJECT)
    checkout.make(DEVELOPMENT, broken="requirements-dev.txt")
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


@pytest.mark.parametrize("python", ["false", "no-such-python"])
def test_an_unsupported_interpreter_is_refused_before_anything_is_built(
    checkout: Checkout, python: str
) -> None:
    result = checkout.make(PROJECT, python=python)
    assert result.returncode != 0
    assert "Python 3.11, 3.12 or 3.13" in result.stderr
    assert not (checkout.folder / ".venv").exists()
