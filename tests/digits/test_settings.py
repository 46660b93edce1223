from pathlib import Path

import pytest
from pydantic import ValidationError

from digits.settings import ROOT, Settings


def test_folders_default_to_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIGITS_DATA_DIR", raising=False)
    monkeypatch.delenv("DIGITS_ARTIFACTS_DIR", raising=False)

    settings = Settings(_env_file=None)

    assert (settings.data_dir, settings.artifacts_dir) == (ROOT / "data", ROOT / "artifacts")


def test_one_variable_moves_a_folder_and_its_subfolders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITS_DATA_DIR", str(tmp_path))

    settings = Settings()

    assert settings.raw_dir == tmp_path / "raw"
    assert settings.prepared_dir == tmp_path / "prepared"
    assert settings.datasets_dirs == (tmp_path / "datasets", ROOT / "data" / "datasets")


def test_an_env_file_moves_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIGITS_ARTIFACTS_DIR", raising=False)
    (tmp_path / ".env").write_text(f"DIGITS_ARTIFACTS_DIR={tmp_path}\nANOTHER=1\n")

    assert Settings(_env_file=tmp_path / ".env").artifacts_dir == tmp_path


def test_relative_folders_do_not_depend_on_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITS_DATA_DIR", "elsewhere")
    monkeypatch.chdir(tmp_path)

    assert Settings().data_dir == ROOT / "elsewhere"


def test_a_tilde_means_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_DATA_DIR", "~/digits")

    assert Settings().data_dir == Path.home() / "digits"


def test_an_empty_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_DATA_DIR", "")

    assert Settings(_env_file=None).data_dir == ROOT / "data"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().data_dir = Path("/elsewhere")
