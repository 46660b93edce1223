"""Checking all results at a place, and copying them to another."""

import json
from pathlib import Path

import numpy as np
import pytest

from digits.datasets.growth import Growth
from digits.datasets.kept_batches import keep_batch
from digits.datasets.versions import DatasetVersions
from digits.errors import StoreError, UsageError
from digits.registry.ledger import Ledger
from digits.registry.place_check import check
from digits.registry.place_copy import copy
from digits.registry.places import Place, current_place, place
from digits.settings import Settings
from digits.storage.workspace import Workspace
from tests.support.machines_of_a_team import machine, stored
from tests.support.runs import Run, run_once
from tests.support.small_dataset import NAME


@pytest.fixture(autouse=True)
def _without_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


def add_batch(settings: Settings) -> None:
    versions = DatasetVersions(NAME, settings)
    images = np.arange(12 * 64, dtype=np.uint8).reshape(12, 8, 8)
    with versions.changing() as changing:
        batch, manifest = keep_batch(images, np.arange(12) % 10, versions)
        changing.add(batch, manifest=manifest, source="b.npz", files={}, growth=Growth())


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A local workspace with two versions, a worse try, and a batch."""
    run_once(workspace, wrong=30)
    run_once(workspace, code="better", wrong=20)
    run_once(workspace, code="worse", wrong=40)
    add_batch(workspace.settings)
    return workspace


def files_of(settings: Settings) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for folder in (settings.data_dir, settings.artifacts_dir)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def somewhere(place: Place, prefix: str) -> str:
    return next(name for name in place.folders() if name.startswith(prefix))


def test_a_workspace_goes_into_a_store_and_back(
    filled: Workspace, address: str, tmp_path: Path
) -> None:
    before = files_of(filled.settings)
    copied = copy(current_place(filled.settings), place(address, filled.settings))
    assert files_of(filled.settings) == before
    assert copied.damaged == ()
    assert copied.num_lines == 4
    team = machine(tmp_path, "there")
    assert check(current_place(team.settings)).problems == ()
    for code, wrong in (("better", 20), ("worse", 40)):
        run = Run(team, code=code, wrong=wrong)
        run.run()
        assert run.executed == []

    home = Settings(data_dir=tmp_path / "home/data", artifacts_dir=tmp_path / "home/artifacts")
    copy(place(address, team.settings), current_place(home))
    assert check(current_place(home)).problems == ()
    lines = Ledger(NAME, filled.settings).path.read_bytes()
    # The two runs on the other machine have added lines.
    assert Ledger(NAME, home).path.read_bytes().startswith(lines)
    assert DatasetVersions(NAME, home).changes() == DatasetVersions(NAME, filled.settings).changes()
    run = Run(Workspace(home), code="worse", wrong=40)
    run.run()
    assert run.executed == []


def test_what_is_there_and_intact_is_not_copied_again(filled: Workspace, address: str) -> None:
    here, there = current_place(filled.settings), place(address, filled.settings)
    first = copy(here, there)
    damaged = somewhere(there, "models/")
    path = Path(address.removeprefix("file://")) / damaged / "content"
    flip(path)
    again = copy(here, there)
    assert (again.num_folders, again.num_there) == (1, first.num_folders - 1)
    assert (again.num_records, again.num_lines) == (0, 0)
    assert check(there).problems == ()


def test_an_interrupted_copy_names_nothing_that_is_missing(
    filled: Workspace, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = current_place(filled.settings), place(address, filled.settings)
    put = type(there).put
    done: list[str] = []

    def fail(self: Place, name: str, digest: str, folder: Path) -> None:
        if len(done) >= 5:
            raise StoreError("away")
        done.append(name)
        put(self, name, digest, folder)

    with monkeypatch.context() as patched:
        patched.setattr(type(there), "put", fail)
        with pytest.raises(StoreError, match="away"):
            copy(here, there)
    found = check(there)
    assert (found.num_lines, found.num_records, found.problems) == (0, 0, ())
    assert copy(here, there).num_there >= len(done)
    assert check(there).problems == ()


def test_another_history_is_refused_before_anything_is_copied(
    filled: Workspace, address: str, tmp_path: Path
) -> None:
    team = machine(tmp_path, "there")
    Run(team, code="other", wrong=50).run()
    before = set(stored(tmp_path, "").rglob("*"))
    with pytest.raises(UsageError, match=r"has another history than .* differ from line 1"):
        copy(current_place(filled.settings), place(address, filled.settings))
    assert set(stored(tmp_path, "").rglob("*")) == before


def test_what_is_damaged_in_the_source_is_named_and_left(filled: Workspace, address: str) -> None:
    here, there = current_place(filled.settings), place(address, filled.settings)
    damaged = somewhere(here, "models/")
    root = filled.store.root("models")
    flip(root / damaged.rpartition("/")[2] / "content")
    assert copy(here, there).damaged == (damaged,)
    assert damaged not in there.folders()
    assert [problem.name for problem in check(there).problems] == [damaged]


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_check_finds_each_kind_of_damage(
    filled: Workspace, address: str, is_shared: bool, tmp_path: Path
) -> None:
    where = current_place(filled.settings)
    folder, batches = filled.settings.artifacts_dir, filled.settings.data_dir / "batches"
    records, line = folder / "cache/records", folder / f"ledger/{NAME}.jsonl"
    if is_shared:
        where = place(address, filled.settings)
        copy(current_place(filled.settings), where)
        folder, batches = tmp_path / "store", tmp_path / "store/batches"
        records, line = folder / "records", folder / f"ledger/{NAME}/00000001.json"
    assert check(where).problems == ()

    model, report = somewhere(where, "models/"), somewhere(where, "reports/")
    flip(folder / model / "content")
    (folder / report / "manifest.json").unlink()
    batch = somewhere(where, "batches/").rpartition("/")[2]
    (batches / NAME / batch / "images.parquet").unlink()
    record = min(records.glob("*.json"))
    flip(record)
    found = {problem.name: problem.found for problem in check(where).problems}
    assert "is corrupted: its SHA-256" in found[model]
    assert found[report].startswith("missing, but the record of report")
    assert f"batches/{NAME}/{batch}" in found
    assert found[f"records/{record.name}"] == "corrupted; its step runs again"

    line.write_bytes(line.read_bytes().replace(b'"promoted"', b'"Promoted"', 1))
    assert f"ledger/{NAME}" in {problem.name for problem in check(where).problems}


def test_what_nothing_names_is_no_problem(filled: Workspace) -> None:
    Run(filled).store("reports", "of nobody")
    found = check(current_place(filled.settings))
    assert found.problems == ()
    (name,) = found.unreferenced
    assert name.startswith("reports/")
    assert json.loads(found.model_dump_json())["unreferenced"] == [name]
