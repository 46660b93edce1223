"""A workspace that cannot be written to: a read-only disk, or another user's. Reading works."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from digits.settings import Settings
from tests.flows.conftest import DATASET, REQUEST, FinishedRun
from tests.support.commands import DIGITS, read_json, run_digits
from tests.support.handwriting import make_splits
from tests.support.permissions import read_only
from tests.support.small_dataset import NAME

WITHOUT_PRIVILEGES = (
    f"from tests.support.permissions import give_up_privileges; give_up_privileges(); {DIGITS}"
)


@pytest.fixture
def sealed(first_run: FinishedRun, settings: Settings) -> Iterator[Settings]:
    """The workspace after a run, with locks of the service, which nobody can write to."""
    first_run.copy_to(settings)
    for name in ("service", "runs"):
        (settings.artifacts_dir / "locks" / f"{name}.lock").touch()
    # The service of another user, who keeps its locks to himself.
    (settings.artifacts_dir / "locks" / "server.lock").touch(0o200)
    with read_only(settings.artifacts_dir, settings.data_dir):
        (settings.artifacts_dir / "locks" / "service.lock").chmod(0)
        yield settings


@pytest.mark.parametrize(
    "command",
    [
        ("status", *DATASET),
        ("history", *DATASET),
        ("plan", *REQUEST),
        ("dataset", "show", "--dataset", NAME),
        ("gc", "--dry-run"),
    ],
    ids=lambda command: command[0],
)
def test_commands_that_only_read_work_where_nothing_can_be_written(
    command: tuple[str, ...], sealed: Settings
) -> None:
    shown = run_digits(sealed, *command, "--json", code=WITHOUT_PRIVILEGES)

    assert read_json(shown)
    assert shown.stderr == ""


@pytest.mark.slow
def test_the_champion_of_a_read_only_workspace_can_be_used_and_exported(
    sealed: Settings, tmp_path: Path
) -> None:
    image = tmp_path / "one.png"
    Image.fromarray(make_splits()["test"][0][0]).save(image)
    export = ("export", str(tmp_path / "there"), "--format", "keras", *DATASET, "--json")

    labeled = run_digits(
        sealed, "predict", str(image), "--as-is", *DATASET, "--json", code=WITHOUT_PRIVILEGES
    )
    exported = run_digits(sealed, *export, code=WITHOUT_PRIVILEGES)

    assert "label" in read_json(labeled)
    assert read_json(exported)["formats"].keys() == {"keras"}


@pytest.mark.slow
def test_what_would_write_says_that_it_cannot(sealed: Settings) -> None:
    done = run_digits(sealed, "dataset", "add-incoming", "--dataset", NAME, code=WITHOUT_PRIVILEGES)
    ran = run_digits(sealed, "run", *REQUEST, code=WITHOUT_PRIVILEGES)

    assert done.stdout.startswith("nothing waits in ")
    assert ran.returncode == 1
    assert "is not writable (Permission denied)" in ran.stderr
