"""`digits doctor`: what is wrong is found, said with what to do, and nothing is touched."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from digits.registry.ledger import Ledger
from digits.settings import Settings
from digits.storage.workspace import Workspace
from flows import doctor
from flows.doctor import Finding, diagnose
from tests.flows.conftest import FinishedRun
from tests.support.commands import call_digits, read_json
from tests.support.small_dataset import NAME


@pytest.fixture(autouse=True)
def sound_machine() -> Iterator[None]:
    """No proxies, no server, and ports that nobody uses, whatever runs on this machine."""
    with patch.dict(os.environ, {"PREFECT_SERVER_API_PORT": str(free_port())}):
        os.environ.pop("PREFECT_API_URL", None)
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            del os.environ[name]
        yield


def free_port() -> int:
    """Return a port that is free together with the next one."""
    while True:
        with socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                next_one.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def wrong(settings: Settings) -> list[Finding]:
    return [finding for finding in diagnose(settings) if finding.state == "wrong"]


def test_a_sound_workspace_has_nothing_wrong_and_is_left_alone(
    first_run: FinishedRun, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_run.copy_to(settings)
    monkeypatch.setenv("DIGITS_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("DIGITS_ARTIFACTS_DIR", str(settings.artifacts_dir))
    folders = (settings.data_dir, settings.artifacts_dir)
    before = {path: path.stat().st_mtime_ns for one in folders for path in one.rglob("*")}

    result = call_digits("doctor")

    assert result.stdout.splitlines()[-1] == "nothing is wrong"
    assert result.exit_code == 0
    assert f"champion  {NAME}: version 1, mlp" in result.stdout
    assert before == {path: path.stat().st_mtime_ns for one in folders for path in one.rglob("*")}


def test_what_is_wrong_is_counted_and_fails_the_command(here: Settings) -> None:
    os.environ["PREFECT_SERVER_API_PORT"] = "abc"
    result = call_digits("doctor")
    assert result.exit_code == 1
    assert "PREFECT_SERVER_API_PORT=abc" in result.stdout
    assert "-> set it to a number from 1 to 65533, or unset it" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 wrong"
    assert not here.artifacts_dir.exists()


def test_a_taken_port_is_named(settings: Settings) -> None:
    port = int(os.environ["PREFECT_SERVER_API_PORT"])
    with socket.create_server(("127.0.0.1", port + 1)):
        (finding,) = wrong(settings)
    assert finding.found.startswith(f"{port + 1}, for the reports")
    assert "PREFECT_SERVER_API_PORT" in finding.advice


def test_a_server_that_does_not_answer_is_wrong(settings: Settings) -> None:
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{free_port()}/api"
    (finding,) = wrong(settings)
    assert (finding.subject, finding.state) == ("server", "wrong")
    assert "unset PREFECT_API_URL" in finding.advice


def test_a_proxy_is_shown_without_its_password(settings: Settings) -> None:
    os.environ["HTTPS_PROXY"] = "http://me:secret@proxy:3128"
    shown = [finding.found for finding in diagnose(settings) if finding.subject == "proxies"]
    assert shown == ["HTTPS_PROXY=http://proxy:3128, used for downloads"]


def test_a_proxy_that_cannot_be_used_is_wrong(settings: Settings) -> None:
    os.environ["ALL_PROXY"] = "socks5://127.0.0.1:1080"
    (finding,) = wrong(settings)
    assert finding.subject == "proxies"
    assert "HTTP proxy" in finding.advice


def test_a_missing_library_is_wrong(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda _: ["no-such-library>=2", "gpus; extra == 'x'"])
    (finding,) = wrong(settings)
    assert finding.found == "missing: no-such-library>=2"


def test_a_module_that_hides_ours_is_wrong(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    findings = wrong(settings)
    assert len(findings) == len(doctor.PACKAGES)
    assert "unset PYTHONPATH" in findings[0].advice


def test_a_folder_where_a_file_lies_is_wrong(settings: Settings) -> None:
    settings.artifacts_dir.parent.mkdir(exist_ok=True)
    settings.artifacts_dir.write_text("")
    finding = next(finding for finding in wrong(settings) if finding.subject == "disk")
    assert finding.found == f"{settings.artifacts_dir} cannot be written"
    assert "DIGITS_ARTIFACTS_DIR" in finding.advice


def test_a_full_disk_is_wrong(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED_GB", 10.0**9)
    assert [finding.subject for finding in wrong(settings)] == ["disk", "disk"]


def test_a_damaged_champion_is_wrong(first_run: FinishedRun, settings: Settings) -> None:
    first_run.copy_to(settings)
    champion = Ledger(NAME, settings).champion()
    assert champion is not None
    model = Workspace(settings).store.folder(champion.model) / "model.keras"
    model.chmod(0o600)
    model.write_bytes(model.read_bytes()[:-1])
    (finding,) = wrong(settings)
    assert finding.subject == "champion"
    assert "model.keras" in finding.found
    assert f"digits run --dataset {NAME}" in finding.advice


def test_json_has_every_finding(here: Settings) -> None:
    findings = read_json(call_digits("doctor", "--json"))
    assert {"python", "disk", "ports", "champion"} <= {finding["subject"] for finding in findings}
    assert all(set(finding) == {"state", "subject", "found", "advice"} for finding in findings)
    assert not here.artifacts_dir.exists()
