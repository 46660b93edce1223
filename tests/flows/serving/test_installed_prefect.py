"""What is found of the installed Prefect, and what it needs to show its dashboard."""

import os
from pathlib import Path

import pytest

from flows.serving import installed_prefect
from flows.serving.installed_prefect import DASHBOARD_SETTINGS, provide_dashboard_folder


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DASHBOARD_SETTINGS:
        monkeypatch.setenv(name, "")  # so that it is restored afterwards


def belongs_to_another_user(path: Path, mode: int) -> bool:
    return not (mode == os.W_OK and "prefect" in path.parts)


def test_an_installation_of_another_user_gets_an_empty_folder_for_the_dashboard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installed_prefect.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "access", belongs_to_another_user)
    provide_dashboard_folder()
    folder = Path(os.environ[DASHBOARD_SETTINGS[0]])
    assert folder.parent == tmp_path
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_own_installation_and_a_named_folder_are_used_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provide_dashboard_folder()
    assert not os.environ[DASHBOARD_SETTINGS[0]]
    monkeypatch.setattr(os, "access", belongs_to_another_user)
    monkeypatch.setenv(DASHBOARD_SETTINGS[1], "/ours")
    provide_dashboard_folder()
    assert not os.environ[DASHBOARD_SETTINGS[0]]
