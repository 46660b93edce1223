"""Who can read what a run leaves behind."""

import stat

from tests.flows.conftest import FinishedRun


def test_only_the_owner_can_read_what_a_run_writes(first_run: FinishedRun) -> None:
    folders = (first_run.settings.artifacts_dir, first_run.settings.prepared_dir)
    paths = [path for folder in folders for path in (folder, *folder.rglob("*"))]

    too_open = [path for path in paths if stat.S_IMODE(path.lstat().st_mode) & 0o077]

    assert len(paths) > 50
    assert [path for path in too_open if not path.is_symlink()] == []
