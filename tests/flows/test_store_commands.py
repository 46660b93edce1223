"""What `digits store` prints, and what `digits doctor` says about a store."""

import json
from pathlib import Path

import pytest

from digits.settings import Settings
from digits.storage.workspace import Workspace
from tests.support.careless_store import careless_store
from tests.support.commands import call_digits, read_json
from tests.support.runs import run_once


@pytest.fixture(autouse=True)
def _with_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


def test_results_are_copied_checked_and_found_damaged(
    here: Settings, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_once(Workspace(here))

    copied = call_digits("store", "copy", "local", address)
    again = read_json(call_digits("store", "copy", "local", address, "--json"))
    same = call_digits("store", "copy", address, address)

    assert copied.exit_code == 0
    assert copied.stdout.startswith(f"copied to {address}: ")
    assert copied.stdout.endswith("lines: 1, refused batches: 0; there already: 0 folders\n")
    assert (again["num_folders"], again["num_lines"], again["damaged"]) == (0, 0, [])
    assert same.exit_code == 2

    monkeypatch.setenv("DIGITS_STORE", address)
    checked = call_digits("store", "check")
    assert checked.exit_code == 0
    assert checked.stdout.endswith("problems: 0\n")
    lost = next((tmp_path / "store" / "models").glob("*/manifest.json"))
    lost.unlink()
    checked = call_digits("store", "check")
    assert checked.exit_code == 1
    assert f"models/{lost.parent.name}: missing, but " in checked.stdout
    (problem,) = json.loads(call_digits("store", "check", "--json").stdout)["problems"]
    assert problem["name"] == f"models/{lost.parent.name}"


@pytest.mark.usefixtures("here")
def test_a_store_is_probed_and_the_doctor_says_so(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "DIGITS_STORE is not set" in call_digits("store", "probe").stderr
    monkeypatch.setenv("DIGITS_STORE", address)
    assert f"{address}, not probed yet by this machine" in call_digits("doctor").stdout
    assert call_digits("store", "probe").stdout.startswith(f"{address} heeds conditions")
    assert f"{address}, heeds conditions (probed " in call_digits("doctor").stdout


@pytest.mark.usefixtures("here")
def test_a_store_that_ignores_conditions_fails_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_STORE", "s3://team/x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "digits")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with careless_store() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        probed = call_digits("store", "probe")
    assert probed.exit_code == 1
    assert "s3://team/x ignores conditions: 8 of 8 writers" in probed.stderr
    assert "docs/scale.md" in probed.stderr
