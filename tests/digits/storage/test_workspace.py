from pathlib import Path

import pytest

from digits.registry.ledger import Ledger
from digits.settings import Settings
from digits.storage.workspace import Workspace, current_workspace


def test_a_workspace_is_stored_in_the_folders_of_its_settings(settings: Settings) -> None:
    workspace = Workspace(settings)

    assert workspace.store.root("models").parent == settings.artifacts_dir
    assert workspace.records.root.is_relative_to(settings.artifacts_dir)
    assert Ledger("mnist", workspace.settings).path.is_relative_to(settings.artifacts_dir)


def test_a_process_has_one_workspace_per_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITS_ARTIFACTS_DIR", str(tmp_path / "one"))
    one = current_workspace()
    assert current_workspace() is one

    monkeypatch.setenv("DIGITS_ARTIFACTS_DIR", str(tmp_path / "other"))
    other = current_workspace()
    assert other is not one
    assert other.settings.artifacts_dir == tmp_path / "other"
