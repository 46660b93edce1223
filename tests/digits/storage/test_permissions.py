import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from digits.settings import Settings
from digits.storage import permissions
from digits.storage.permissions import as_the_user_asked, write_for_owner


@pytest.fixture(autouse=True)
def umask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A usual umask, as if this process had just started."""
    before = os.umask(0o022)
    monkeypatch.setattr(permissions._Before, "umask", None)
    yield
    os.umask(before)


@pytest.fixture
def workspace(settings: Settings) -> Settings:
    settings.artifacts_dir.mkdir()
    settings.data_dir.mkdir()
    return settings


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def written_mode(path: Path) -> int:
    path.write_text("new")
    return mode_of(path)


def test_what_is_written_is_for_its_owner(workspace: Settings) -> None:
    write_for_owner(workspace)

    assert written_mode(workspace.artifacts_dir / "new") == 0o600
    (workspace.artifacts_dir / "folder").mkdir()
    assert mode_of(workspace.artifacts_dir / "folder") == 0o700


@pytest.mark.parametrize(
    ("artifacts", "data", "expected"),
    [
        (0o2775, 0o2770, 0o660),
        (0o2750, 0o2770, 0o640),
        (0o2777, 0o2777, 0o660),
        (0o775, 0o775, 0o600),
        (0o2775, 0o775, 0o600),
    ],
)
def test_a_team_shares_by_the_group_id_of_both_folders(
    artifacts: int, data: int, expected: int, workspace: Settings
) -> None:
    workspace.artifacts_dir.chmod(artifacts)
    workspace.data_dir.chmod(data)

    write_for_owner(workspace)

    assert written_mode(workspace.artifacts_dir / "new") == expected


def test_secrets_that_are_too_open_are_closed_and_nothing_else_is_changed(
    workspace: Settings, tmp_path: Path
) -> None:
    artifacts, data = workspace.artifacts_dir, workspace.data_dir
    secrets = [artifacts / name for name in ("prefect/prefect.db", "logs/server.log")]
    locks = [artifacts / "locks" / "runs.lock", data / "batches" / "mnist.lock"]
    others = [artifacts / "ledger" / "mnist.jsonl", data / "batches" / "mnist.jsonl"]
    for path in (*secrets, *locks, *others):
        path.parent.mkdir(exist_ok=True)
        path.write_text("old")
        path.chmod(0o644)
    (tmp_path / "elsewhere").write_text("of someone else")
    (tmp_path / "elsewhere").chmod(0o644)
    (artifacts / "logs" / "link").symlink_to(tmp_path / "elsewhere")

    write_for_owner(workspace)

    assert {mode_of(path) for path in (*secrets, *locks)} == {0o600}
    assert {mode_of(path) for path in (*others, tmp_path / "elsewhere")} == {0o644}


def test_what_a_user_asks_for_elsewhere_has_the_permissions_of_the_users_umask(
    workspace: Settings, tmp_path: Path
) -> None:
    with as_the_user_asked():
        assert written_mode(tmp_path / "as a library") == 0o644
    write_for_owner(workspace)
    write_for_owner(workspace)
    with as_the_user_asked():
        assert written_mode(tmp_path / "export") == 0o644
    assert written_mode(tmp_path / "after") == 0o600
