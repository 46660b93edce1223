from pathlib import Path

from digits.intake.refused_copies import copy_refused
from digits.settings import Settings
from tests.support.histories import digest
from tests.support.machines_of_a_team import machine, stored
from tests.support.small_dataset import NAME

FOLDER = f"quarantine/{NAME}/{digest('a batch')}"
FILES = {
    "page.html": b"<!doctype html>",
    "result.json": b"{}",
    "originals/a b.npz": bytes(1000),
    "originals/3/\u0434.png": b"picture",
}


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_refused_batches_go_into_a_store_and_back_once(settings: Settings, tmp_path: Path) -> None:
    for name, content in FILES.items():
        path = settings.data_dir / FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    team = machine(tmp_path, "there").settings
    home = Settings(data_dir=tmp_path / "home", artifacts_dir=tmp_path / "artifacts")

    assert [copy_refused(settings, team) for _ in range(2)] == [1, 0]
    assert [copy_refused(team, home) for _ in range(2)] == [1, 0]

    assert files_in(home.data_dir / FOLDER) == FILES
    stored(tmp_path, f"{FOLDER}/page.html").unlink()  # as if interrupted before the end
    assert copy_refused(settings, team) == 1
