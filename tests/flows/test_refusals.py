"""Refusals and failures: one clear line, the right exit code, and nothing is lost."""

import json
import os
import re
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import Result

from digits.datasets.sources import downloads
from digits.datasets.sources.idx import format_idx
from digits.settings import Settings
from digits.storage.workspace import Workspace
from digits.training import devices
from tests.flows.conftest import DATASET, REQUEST
from tests.support.commands import call_digits, run_digits
from tests.support.handwriting import make_splits
from tests.support.small_dataset import NAME, SPEC, write_raw, write_spec

PROGRESS = re.compile(r"\d\d:\d\d:\d\d ")


def said(result: Result, code: int) -> str:
    """Return the only line that a command printed when it failed with `code`."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    # click prints the usage first.
    lines = re.sub(
        r"^(Usage: .*|Try 'digits .*|)\n", "", result.stderr, flags=re.MULTILINE
    ).splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    return lines[0].removeprefix("Error: ")


def failure(result: "Result | subprocess.CompletedProcess[str]") -> str:
    """Return what a failed run printed, without the progress lines."""
    code = result.exit_code if isinstance(result, Result) else result.returncode
    assert code == 1, result.stderr
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not PROGRESS.match(line)]
    assert lines[0].startswith("Error: "), result.stderr
    return "\n".join(lines).removeprefix("Error: ")


def refused(workspace: Workspace) -> str:
    """Return the one line of a run that failed and left the champion unchanged."""
    ledger = ledger_file(workspace.settings)
    before = ledger.read_bytes()
    line = failure(call_digits("run", *REQUEST))
    assert "\n" not in line
    assert ledger.read_bytes() == before
    return line


def ledger_file(settings: Settings) -> Path:
    return settings.artifacts_dir / "ledger" / f"{NAME}.jsonl"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("explode",), "No such command 'explode'"),
        (("status", "--verbose"), "No such option"),
        (("run", "--dataset", "mnits"), "unknown dataset 'mnits' (datasets: handwriting, mnist)"),
        (("plan", "--dataset", "../mnist"), "unknown dataset '../mnist'"),
        (("status", "--dataset", "mnits"), "unknown dataset 'mnits'"),
        (("history", "--dataset", "mnits"), "unknown dataset 'mnits'"),
        (("rollback", "--dataset", "mnits"), "unknown dataset 'mnits'"),
        (("reproduce", "1", "--dataset", "mnits"), "unknown dataset 'mnits'"),
        (
            ("run", *DATASET, "--models", "mlp,rnn"),
            "unknown model 'rnn' (expected one of mlp, cnn)",
        ),
        (("plan", *DATASET, "--models", "rnn"), "unknown model 'rnn'"),
        (("run", *DATASET, "--models", " ,"), "no model to train"),
        (("plan", *DATASET, "--models", ""), "no model to train"),
        (("run", *DATASET, "--models", "mlp,mlp"), "--models has a duplicate: mlp,mlp"),
        (("run", *DATASET, "--recipe", "odd"), "'odd' is not one of 'reference', 'fast'"),
        (("plan", *DATASET, "--recipe", "odd"), "'odd' is not one of"),
        (("run", *DATASET, "--epochs", "-3"), "-3 is not in the range x>=1"),
        (("run", *DATASET, "--epochs", "0"), "0 is not in the range"),
        (("run", *DATASET, "--epochs", "many"), "'many' is not a valid integer"),
        (("run", *DATASET, "--seed", "-1"), "-1 is not in the range"),
        (("plan", *DATASET, "--seed", str(2**31)), "is not in the range"),
        (("run", *DATASET, "--device", "tpu"), "'tpu' is not one of 'auto', 'cpu', 'gpu'"),
        (("rollback", "0", *DATASET), "0 is not in the range"),
        (("rollback", *DATASET), "has no champion yet: nothing to roll back"),
        (("reproduce", *DATASET), "Missing argument 'VERSION'"),
        (("reproduce", "7", *DATASET), "has no version 7 (versions: none yet)"),
        (("gc", "--keep", "0"), "0 is not in the range"),
    ],
)
def test_an_invalid_call_is_refused(
    here: Settings, arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in said(call_digits(*arguments), 2)
    assert not ledger_file(here).exists()


def test_a_missing_gpu_is_refused(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "first_gpu", lambda: None)
    for command in ("run", "plan"):
        line = said(call_digits(command, *DATASET, "--device", "gpu"), 2)
        assert "no NVIDIA GPU was found" in line
        assert "use --device cpu or --device auto" in line
    assert not here.artifacts_dir.exists()


def test_an_invalid_spec_is_named_with_the_key_at_fault(here: Settings) -> None:
    path = write_spec(here, SPEC.replace("floor = 0.2", "floor = 2"))
    assert said(call_digits("run", *DATASET), 2).startswith(
        f"{path}: floor: must be less than or equal to 1 (found 2)"
    )


@pytest.mark.parametrize(
    ("variable", "folder"), [("DIGITS_ARTIFACTS_DIR", "locks"), ("DIGITS_DATA_DIR", "prepared")]
)
def test_a_file_where_a_folder_is_needed_is_named(
    here: Settings, variable: str, folder: str
) -> None:
    path = Path(os.environ[variable]) / folder
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    line = said(call_digits("run", *DATASET), 1)
    assert line.startswith(f"{path} is not writable (File exists)")
    assert variable in line
    assert not ledger_file(here).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_a_folder_without_permission_is_named(here: Settings) -> None:
    here.artifacts_dir.mkdir()
    here.artifacts_dir.chmod(stat.S_IRUSR | stat.S_IXUSR)
    line = said(call_digits("run", *DATASET), 1)
    assert line.startswith(f"{here.artifacts_dir}/prefect is not writable (Permission denied)")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a read-only file system")
def test_a_read_only_file_system_is_named(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_ARTIFACTS_DIR", "/proc/digits")
    line = said(call_digits("run", *DATASET), 1)
    assert line.startswith("/proc/digits/prefect is not writable (")
    assert not here.artifacts_dir.exists()


@pytest.mark.parametrize("command", ["status", "history", "plan", "run", "rollback"])
def test_a_corrupted_ledger_is_named_with_its_line(here: Settings, command: str) -> None:
    ledger_file(here).parent.mkdir(parents=True)
    ledger_file(here).write_text("no ledger\n")
    line = said(call_digits(command, *DATASET), 1)
    assert line.startswith(f"{ledger_file(here)} line 1 is corrupted: ")
    assert "restore the file from a backup" in line
    assert ledger_file(here).read_text() == "no ledger\n"


def test_an_edited_history_is_noticed_by_every_command(finished: Workspace) -> None:
    path = ledger_file(finished.settings)
    path.write_text(path.read_text().replace('"promoted"', '"kept"'))
    for command in ("status", "history", "plan", "rollback", "run"):
        assert "line 1 is corrupted" in said(call_digits(command, *DATASET), 1)


def test_a_traceback_is_shown_only_when_asked_for(here: Settings) -> None:
    ledger_file(here).parent.mkdir(parents=True)
    ledger_file(here).write_text("no ledger\n")
    silent = run_digits(here, "status", *DATASET)
    loud = run_digits(here, "--traceback", "status", *DATASET)
    assert (silent.returncode, loud.returncode) == (1, 1)
    assert silent.stdout == loud.stdout == ""
    assert "Traceback" not in silent.stderr
    assert loud.stderr.startswith("Traceback (most recent call last):")
    assert loud.stderr.splitlines()[-1].startswith("digits.errors.LedgerError: ")


@pytest.mark.usefixtures("here")
def test_an_unexpected_error_says_how_to_get_details(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr("digits.registry.history.status", fail)
    assert said(call_digits("status", *DATASET), 1) == (
        "unexpected ZeroDivisionError: by chance (run `digits --traceback ...` for details)"
    )


def test_a_rollback_without_another_champion_is_refused(finished: Workspace) -> None:
    before = ledger_file(finished.settings).read_bytes()
    for arguments, expected in [
        ((), "version 1 of handwriting is the first champion; there is no earlier one"),
        (("1",), "version 1 of handwriting is already the champion"),
        (("7",), "handwriting has no version 7 (versions: 1)"),
    ]:
        assert expected in said(call_digits("rollback", *arguments, *DATASET), 2)
    assert ledger_file(finished.settings).read_bytes() == before


def test_a_truncated_file_is_named(finished: Workspace) -> None:
    path = finished.settings.raw_dir / NAME / "train-images.idx"
    path.write_bytes(path.read_bytes()[:1000])
    assert f"{path} is truncated: 1,000 bytes, expected 86,416" in refused(finished)


def test_a_file_of_another_kind_is_named(finished: Workspace) -> None:
    path = write_raw(finished.settings, "test-labels", b"<html>not found</html>")
    assert str(path) in refused(finished)


def test_swapped_files_are_named(finished: Workspace) -> None:
    images, labels = (
        finished.settings.raw_dir / NAME / f"train-{kind}.idx" for kind in ("images", "labels")
    )
    content = images.read_bytes()
    shutil.copy(labels, images)
    labels.write_bytes(content)
    assert str(images) in refused(finished)


def test_missing_files_are_named(finished: Workspace) -> None:
    shutil.rmtree(finished.settings.raw_dir)
    line = refused(finished)
    assert "cannot get the files of handwriting: train-images not found" in line
    assert str(finished.settings.raw_dir / NAME) in line


def test_each_unreachable_source_is_named(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "PAUSES", ())
    shutil.rmtree(finished.settings.raw_dir)
    roles = [f"{split}-{kind}" for split in ("train", "test") for kind in ("images", "labels")]
    content = "".join(f'{role} = "{"0" * 64}"\n' for role in roles)
    urls = [f"http://127.0.0.1:{closed_port()}/{kind}" for kind in ("npz", "idx")]
    sources = "".join(f'[[sources]]\nkind = "{url[-3:]}"\nurl = "{url}"\n' for url in urls)
    write_spec(finished.settings, f"{SPEC}\n[content]\n{content}{sources}")
    line = refused(finished)
    assert all(url in line for url in urls)
    assert not list(finished.settings.raw_dir.rglob("*.idx"))


def test_a_full_disk_leaves_nothing_partial(finished: Workspace) -> None:
    resource = pytest.importorskip("resource")
    for kind, array in zip(("images", "labels"), make_splits()["train"], strict=True):
        write_raw(finished.settings, f"train-{kind}", format_idx(array[::-1]))
    arrays = finished.store.root("arrays")
    before = set(arrays.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The arrays need 345,600 bytes, so this limit acts like a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        line = refused(finished)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"cannot write to {arrays}: File too large" in line
    assert "free some space or fix the permissions" in line
    assert set(arrays.iterdir()) == before


def test_a_failed_validation_reports_its_findings_and_keeps_page_and_result(
    finished: Workspace, prefect_api: str
) -> None:
    write_spec(finished.settings, SPEC + "max_ink = 0.2\n")
    ledger = ledger_file(finished.settings)
    before = ledger.read_bytes()
    # In a separate process, where Prefect and Great Expectations could print as well.
    result = run_digits(finished.settings, "run", *REQUEST, PREFECT_API_URL=prefect_api)
    failed, finding, where = failure(result).splitlines()
    assert re.fullmatch(r"1 of \d+ expectations of the data failed; nothing was trained:", failed)
    assert re.fullmatch(
        r"  train, .*: found [\d.]+ to [\d.]+, expected at most 0.2; \d+ rows: \d+, .*", finding
    )
    match = re.match(r"See (\S+) for all findings\. ", where)
    assert match is not None
    page = Path(match[1])
    assert "<html" in page.read_text()
    assert json.loads((page.parent / "result.json").read_text())["success"] is False
    assert ledger.read_bytes() == before


def test_a_server_that_does_not_answer_is_named(here: Settings) -> None:
    url = f"http://127.0.0.1:{closed_port()}/api"
    line = failure(run_digits(here, "run", *REQUEST, PREFECT_API_URL=url))
    assert line.startswith(f"no Prefect server answers at PREFECT_API_URL={url} (")
    assert "unset the variable" in line


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
