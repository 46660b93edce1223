import contextlib
import os
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import get_args

import pytest

from digits.errors import LedgerError
from digits.registry import garbage
from digits.registry.champion import dataset_folder
from digits.registry.garbage import Garbage, collect, running, runs_lock
from digits.registry.history import roll_back
from digits.registry.ledger import Ledger, ModelVersion, forms_of
from digits.settings import Settings
from digits.storage.lineage import read_lineage
from digits.storage.locks import hold
from digits.storage.records import Record
from digits.storage.references import Kind, ReportRef
from digits.storage.sharing import data_lock
from digits.storage.store import PREPARED_KINDS
from digits.storage.workspace import Workspace
from tests.support.histories import digest
from tests.support.permissions import mode
from tests.support.processes import kill, start, wait_for
from tests.support.runs import Run, leave_remains, run_once
from tests.support.small_dataset import NAME

KINDS = get_args(Kind)

SHARER = """
import sys
from pathlib import Path
from digits.storage.locks import acquire

acquire(Path(sys.argv[1]), shared=True)
print("running", flush=True)
sys.stdin.read()
"""

COLLECTOR = """
import sys
from pathlib import Path
from digits.settings import Settings
from digits.settings import Settings
from digits.storage.sharing import data_lock
from digits.storage.store import PREPARED_KINDS
from digits.storage.workspace import Workspace
from tests.digits.registry.test_garbage import gc

folder = Path(sys.argv[1])
workspace = Workspace(
    Settings(data_dir=folder / "data", artifacts_dir=folder / "artifacts")
)
print("waiting", flush=True)
print(len(gc(workspace).paths), flush=True)
"""


@pytest.fixture(autouse=True)
def _without_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    # Durability is not tested here, and flushing takes most of the time.
    monkeypatch.setattr("os.fsync", lambda _: None)


def gc(
    workspace: Workspace,
    keep: int = 1,
    *,
    refused_days: int | None = None,
    is_dry_run: bool = False,
) -> Garbage:
    """Collect garbage and return what was announced."""
    announced: list[Garbage] = []
    collect(
        workspace,
        keep_records=keep,
        refused_days=refused_days,
        is_dry_run=is_dry_run,
        announce=announced.append,
    )
    (garbage,) = announced
    return garbage


def bundles(workspace: Workspace) -> set[Path]:
    return {path for kind in KINDS for path in workspace.store.contents(kind)}


def all_files(workspace: Workspace) -> dict[Path, bytes]:
    """All files in the run-time folders except locks, which are permanent."""
    folders = (workspace.settings.artifacts_dir, workspace.settings.data_dir)
    return {
        path: path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def versions(workspace: Workspace) -> dict[int, ModelVersion]:
    return Ledger(NAME, workspace.settings).versions()


def age(workspace: Workspace, record: Record, seconds: int) -> None:
    """Move the last use of a record into the past."""
    path = workspace.records.path(record.key.digest)
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_nothing_is_garbage_in_an_empty_workspace(workspace: Workspace) -> None:
    assert gc(workspace) == Garbage(paths=(), num_bytes=0)


def test_only_the_checkpoints_of_the_last_run_are_garbage(workspace: Workspace) -> None:
    run_once(workspace)
    before = all_files(workspace)

    garbage = gc(workspace)

    assert {path.parent.name for path in garbage.paths} == {"checkpoints"}
    after = all_files(workspace)
    assert before.items() - after.items() == {
        item for item in before.items() if "checkpoints" in item[0].parts
    }
    assert after.items() <= before.items()


def test_an_unchanged_run_after_garbage_collection_executes_nothing(workspace: Workspace) -> None:
    run_once(workspace)
    gc(workspace)

    again = Run(workspace)
    again.run()

    assert again.executed == []


def test_a_dry_run_announces_garbage_and_deletes_nothing(workspace: Workspace) -> None:
    for number in range(3):
        run_once(workspace, code=f"code {number}")
    leave_remains(workspace, 1)
    before = all_files(workspace)

    dry = gc(workspace, is_dry_run=True)

    assert all_files(workspace) == before
    assert gc(workspace) == dry
    assert dry.num_bytes > 0
    assert not any(path.exists() for path in dry.paths)
    assert gc(workspace) == Garbage(paths=(), num_bytes=0)


def test_the_announced_bytes_are_those_freed(workspace: Workspace) -> None:
    for number in range(3):
        run_once(workspace, code=f"code {number}")
    garbage = gc(workspace, is_dry_run=True)

    listed = [file for path in garbage.paths for file in (path, *path.rglob("*"))]

    assert garbage.num_bytes == sum(file.stat().st_size for file in listed)


@pytest.mark.faults
def test_every_version_stays_intact_and_can_be_restored(workspace: Workspace) -> None:
    for number in range(6):
        run_once(workspace, code=f"code {number}", wrong=50 - number)
    roll_back(NAME, 3, "by hand", workspace)
    for number in range(3):
        run_once(workspace, code=f"worse {number}", wrong=90)

    gc(workspace)

    assert list(versions(workspace)) == [1, 2, 3, 4, 5, 6]
    for version in versions(workspace).values():
        workspace.store.verify(version.model)
        workspace.store.verify(version.evaluation)
        assert read_lineage(version.lineage, workspace.store)
    for number in (6, 1, 4):
        roll_back(NAME, number, "by hand", workspace)


def test_the_versions_of_all_datasets_are_kept(workspace: Workspace) -> None:
    run_once(workspace)
    here, there = Ledger(NAME, workspace.settings), Ledger("other", workspace.settings)
    # As if the other dataset had also been retrained here.
    content = here.path.read_bytes()
    model = versions(workspace)[1].model
    run_once(workspace, code="newer", wrong=10)
    there.path.write_bytes(content)
    here.path.unlink()
    here.path.with_suffix(".head").unlink()

    with pytest.raises(LedgerError, match=rf"line 1 belongs to {NAME} \(expected other\)"):
        gc(workspace)

    workspace.store.verify(model)


@pytest.mark.faults
@pytest.mark.parametrize("is_lost", [True, False])
def test_nothing_is_deleted_while_a_ledger_is_damaged(workspace: Workspace, is_lost: bool) -> None:
    for number in range(3):
        run_once(workspace, code=f"code {number}", wrong=50 - number)
    path = Ledger(NAME, workspace.settings).path
    path.unlink() if is_lost else path.write_bytes(path.read_bytes().replace(b"a run", b"no run"))
    before = all_files(workspace)

    with pytest.raises(LedgerError):
        gc(workspace)

    assert all_files(workspace) == before


def test_the_report_pages_of_promotions_are_kept(workspace: Workspace) -> None:
    pages = {}
    for number in range(3):
        run = Run(workspace, code=f"code {number}", wrong=50 - number)
        run.run()
        pages[number] = run.made["report"]
    for number in range(3):
        run_once(workspace, code=f"worse {number}", wrong=90)

    gc(workspace)

    assert all(workspace.store.is_whole(page) for page in pages.values())
    # Plus the most recent page.
    assert len(workspace.store.contents("reports")) == len(pages) + 1


def test_the_last_used_records_of_each_step_and_model_are_kept(workspace: Workspace) -> None:
    for number in range(5):
        run_once(workspace, data=f"data {number}", code=f"code {number}", wrong=50 + number)

    gc(workspace, keep=2)

    kept = Counter(record.label for record in workspace.records.all())
    # The first CNN is the champion: the records that made it are kept, and its promotion's page.
    assert kept == {
        "ingest": 2,
        "validate": 2,
        "normalize": 2,
        "train mlp": 2,
        "train cnn": 3,
        "evaluate mlp": 2,
        "evaluate cnn": kept["evaluate cnn"],
        # Those of the first version, the only one.
        "convert mlp": 1,
        "convert cnn": 1,
        "report": 3,
    }
    newest = Run(workspace, data="data 4", code="code 4", wrong=54)
    newest.run()
    assert newest.executed == []


def test_records_in_use_are_kept_even_if_others_are_newer(workspace: Workspace) -> None:
    run_once(workspace, code="in use")
    for number in range(3):
        run_once(workspace, code=f"tried {number}", wrong=90)
    for record in workspace.records.all():
        age(workspace, record, 1000)
    in_use = Run(workspace, code="in use")
    in_use.run()

    gc(workspace)

    again = Run(workspace, code="in use")
    again.run()
    assert again.executed == []


def test_unreadable_records_and_orphaned_values_are_deleted(workspace: Workspace) -> None:
    run_once(workspace)
    damaged = next(workspace.records.all())
    path = workspace.records.path(damaged.key.digest)
    path.write_bytes(path.read_bytes().replace(b"a run", b"no run"))
    (workspace.records.values / digest("none")).write_text("{}")

    paths = gc(workspace).paths

    assert path in paths
    assert workspace.records.values / digest("none") in paths
    assert workspace.records.values / damaged.key.digest in paths


def test_checkpoints_of_finished_trainings_are_deleted(workspace: Workspace) -> None:
    for number in range(3):
        run_once(workspace, code=f"code {number}")
    checkpoints = workspace.settings.artifacts_dir / "checkpoints"
    assert len(list(checkpoints.iterdir())) == 6

    gc(workspace)

    assert list(checkpoints.iterdir()) == []


def test_the_last_interrupted_trainings_can_still_resume(workspace: Workspace) -> None:
    run_once(workspace)
    folders = []
    for number in range(4):
        folders.append(Run(workspace).checkpoint(digest(f"interrupted {number}")))
        os.utime(folders[-1], (10**9 + number, 10**9 + number))

    gc(workspace, keep=2)

    checkpoints = workspace.settings.artifacts_dir / "checkpoints"
    assert sorted(checkpoints.iterdir()) == sorted(folders[2:])


def test_the_last_failed_validations_can_still_be_read(workspace: Workspace) -> None:
    run = Run(workspace)
    run.run()
    failed = []
    for number in range(4):
        failed.append(workspace.store.root("validations") / run.store("validations", f"{number}"))
        os.utime(failed[-1], (10**9 + number, 10**9 + number))
    (workspace.store.root("validations") / ".tmp-0").mkdir()

    gc(workspace, keep=2)

    passed = workspace.store.folder(run.made["validate"])
    assert workspace.store.contents("validations") == sorted([passed, *failed[2:]])


@pytest.mark.faults
def test_leftovers_of_killed_runs_are_deleted(workspace: Workspace) -> None:
    run_once(workspace)
    gc(workspace)
    before = all_files(workspace)
    for number in range(4):
        leave_remains(workspace, number)

    gc(workspace, keep=1)

    after = all_files(workspace)
    # The last interrupted training can still resume.
    assert {path.name for path in after.keys() - before.keys()} == {"epoch-0001.npz"}
    locks = {path.name for path in (workspace.settings.artifacts_dir / "locks").iterdir()}
    assert locks == {"runs.lock", f"ledger-{NAME}.lock"}


@pytest.mark.faults
def test_it_waits_for_active_runs(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "digits")
    for number in range(3):
        run_once(workspace, code=f"code {number}")
    run = start(SHARER, runs_lock(workspace))
    wait_for(run, "running")
    waiting = start(COLLECTOR, workspace.settings.artifacts_dir.parent)
    wait_for(waiting, "waiting")
    would_go = gc(workspace, is_dry_run=True).paths
    assert all(path.exists() for path in would_go)
    assert caplog.messages == ["runs are in progress; their results so far are listed as well"]
    assert waiting.poll() is None

    kill(run)
    output, errors = waiting.communicate()

    assert output == f"{len(would_go)}\n", errors
    assert not any(path.exists() for path in would_go)


@pytest.fixture
def neighbor(workspace: Workspace) -> Workspace:
    """Another workspace on the same data, which has made runs."""
    there = workspace.settings.artifacts_dir.with_name("neighbor")
    return Workspace(workspace.settings.model_copy(update={"artifacts_dir": there}))


def prepared(workspace: Workspace) -> set[Path]:
    return {path for kind in PREPARED_KINDS for path in workspace.store.contents(kind)}


def test_the_data_of_a_champion_is_kept_however_old_it_is(workspace: Workspace) -> None:
    first = Run(workspace, data="week 1")
    first.run()
    for week in range(2, 5):
        run_once(workspace, data=f"week {week}", wrong=90)

    gc(workspace, keep=1)

    champion = Ledger(NAME, workspace.settings).champion()
    assert champion is not None
    assert dataset_folder(champion, workspace).name == first.made["ingest"].digest
    assert workspace.store.is_whole(first.made["normalize"])
    assert len(prepared(workspace)) == 4


def test_prepared_data_that_another_workspace_uses_is_kept(
    workspace: Workspace, neighbor: Workspace
) -> None:
    with running(neighbor):
        run_once(neighbor, data="theirs")
    theirs = prepared(neighbor)
    with running(workspace):
        run_once(workspace, data="mine")
        run_once(workspace, data="mine, newer", wrong=90)
        run_once(workspace, data="mine, newest", wrong=90)

    garbage = gc(workspace, keep=1)

    assert theirs <= prepared(workspace)
    again = Run(neighbor, data="theirs")
    again.run()
    assert again.executed == []
    assert any(path.is_relative_to(workspace.settings.prepared_dir) for path in garbage.paths)


@pytest.mark.parametrize("how", ["gone", "unreadable", "damaged"])
def test_all_prepared_data_is_kept_if_another_workspace_cannot_be_read(
    how: str, workspace: Workspace, neighbor: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    with running(neighbor):
        run_once(neighbor, data="theirs")
    run_once(workspace, data="mine")
    before = prepared(workspace)
    there = neighbor.settings.artifacts_dir
    if how == "gone":
        there.rename(there.with_name("elsewhere"))
    if how == "damaged":
        ledger = Ledger(NAME, neighbor.settings).path
        ledger.write_bytes(b"no ledger\n")
    limits = mode(there / "ledger", 0) if how == "unreadable" else contextlib.nullcontext()

    with limits:
        gc(workspace)

    assert prepared(workspace) == before
    assert "so all of it is kept" in caplog.text
    assert str(workspace.settings.prepared_dir / "users") in caplog.text


def test_workspaces_that_are_moved_together_still_know_each_other(
    workspace: Workspace, neighbor: Workspace
) -> None:
    with running(neighbor):
        run_once(neighbor)
    root = workspace.settings.artifacts_dir.parent
    root.rename(root.with_name("moved"))
    moved = Workspace(
        Settings(
            data_dir=root.with_name("moved") / "data",
            artifacts_dir=root.with_name("moved") / "artifacts",
        )
    )
    before = prepared(moved)

    gc(moved)

    assert before
    assert prepared(moved) == before


def test_prepared_data_of_a_workspace_that_had_this_path_is_kept(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    # As in containers that share only the data: each has its artifacts at the same path.
    run_once(workspace, data="theirs")
    theirs = prepared(workspace)
    artifacts = workspace.settings.artifacts_dir
    artifacts.rename(artifacts.with_name("theirs"))
    mine = Workspace(workspace.settings)
    for number in range(3):
        run_once(mine, data=f"mine {number}", wrong=90)

    gc(mine)

    assert theirs <= prepared(mine)
    assert "so all of it is kept" in caplog.text
    for mark in (workspace.settings.prepared_dir / "users").glob("*.id"):
        if str(mark) in caplog.text:  # as the warning advises
            mark.unlink()
    gc(mine)
    assert not theirs & prepared(mine)


def test_prepared_data_from_before_users_were_listed_is_kept(
    workspace: Workspace, neighbor: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "digits")
    Run(neighbor, data="theirs").run()
    theirs = prepared(neighbor)
    for path in theirs:
        os.utime(path, (10**9, 10**9))
    for number in range(3):
        run_once(workspace, data=f"mine {number}", wrong=90)
    all_of_it = prepared(workspace)

    gc(workspace)

    assert theirs <= prepared(workspace) < all_of_it
    assert "2 folders of prepared data are older than the list of their users" in caplog.text


@pytest.mark.faults
def test_it_waits_for_the_runs_of_other_workspaces_on_the_same_data(
    workspace: Workspace, neighbor: Workspace
) -> None:
    run = start(SHARER, data_lock(neighbor.settings))
    wait_for(run, "running")
    waiting = start(COLLECTOR, workspace.settings.artifacts_dir.parent)
    wait_for(waiting, "waiting")
    assert waiting.poll() is None
    with running(neighbor):
        run_once(neighbor)

    kill(run)

    _, errors = waiting.communicate()
    assert waiting.returncode == 0, errors
    again = Run(neighbor)
    again.run()
    assert again.executed == []


def test_what_cannot_be_deleted_is_left_and_the_rest_deleted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        run_once(workspace, code=f"code {number}")
    dry = gc(workspace, is_dry_run=True).paths
    foreign = dry[len(dry) // 2]
    delete = garbage.discard

    def refuse(path: Path) -> None:
        if path == foreign:
            raise PermissionError(1, "Operation not permitted", str(path))
        delete(path)

    monkeypatch.setattr(garbage, "discard", refuse)

    gc(workspace)

    assert [path for path in dry if path.exists()] == [foreign]
    assert f"{foreign} cannot be deleted: Operation not permitted" in caplog.text


def test_refused_batches_are_deleted_only_when_asked_for_and_by_age(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "digits")
    folder = workspace.settings.data_dir / "quarantine" / NAME
    for name, days in (("old", 100), ("new", 10)):
        (folder / name / "originals").mkdir(parents=True)
        (folder / name / "originals" / "a.npz").write_bytes(bytes(1000))
        then = time.time() - days * 24 * 60 * 60
        os.utime(folder / name, (then, then))

    assert gc(workspace).paths == ()
    garbage = gc(workspace, refused_days=90)

    assert garbage.paths == (folder / "old",)
    assert garbage.num_bytes > 1000
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert "2 refused batches are kept in quarantine" in caplog.text


def test_a_dry_run_works_where_nothing_can_be_written(workspace: Workspace) -> None:
    for number in range(3):
        run_once(workspace, code=f"code {number}")
    dry = gc(workspace, is_dry_run=True)
    (workspace.settings.artifacts_dir / "locks" / "runs.lock").unlink(missing_ok=True)

    with mode(workspace.settings.artifacts_dir / "locks", 0o500):
        assert gc(workspace, is_dry_run=True) == dry


def test_a_run_cannot_start_during_garbage_collection(workspace: Workspace) -> None:
    run_once(workspace)

    def begin(_: Garbage) -> None:
        from digits.storage.locks import is_free

        assert not is_free(runs_lock(workspace))

    collect(workspace, keep_records=1, is_dry_run=False, announce=begin)
    with hold(runs_lock(workspace), shared=True):
        pass


def test_a_link_is_deleted_and_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    run_once(workspace)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    links = [
        workspace.store.root("models") / "link",
        workspace.records.values / "link",
    ]
    for link in links:
        link.symlink_to(outside)

    gc(workspace)

    assert (outside / "precious").read_text() == "kept"
    assert not any(link.is_symlink() for link in links)


@pytest.mark.slow
@pytest.mark.faults
def test_two_hundred_scheduled_runs_leave_only_what_is_kept(workspace: Workspace) -> None:
    """New data each week, new code every few days, a run killed now and then."""
    keep, better = 2, count(40, -1)
    for day in range(200):
        run = Run(workspace, data=f"week {day // 7}", code=f"code {day // 3}", wrong=60)
        if day % 20 == 0:
            run.code, run.wrong = f"better {day}", next(better)
        with running(workspace):
            run.run()
        if day % 5 == 0:
            leave_remains(workspace, day)
        if day % 4 == 0:
            gc(workspace, keep)
    gc(workspace, keep)

    num_versions = len(versions(workspace))
    assert num_versions == 10
    numbers = {kind: len(workspace.store.contents(kind)) for kind in KINDS}
    # Each run trains two models, and no validation fails.
    most = {"datasets": keep, "arrays": keep, "validations": 2 * keep, "lineages": num_versions}
    # The champion's data may be older.
    most |= {"datasets": keep + 1, "arrays": keep + 1}
    most |= {"models": 2 * keep + num_versions, "evaluations": 2 * keep + num_versions}
    most |= {"reports": keep + num_versions, "onnx": 2 * num_versions}
    assert all(numbers[kind] <= most[kind] for kind in KINDS), numbers
    labels = Counter(record.label for record in workspace.records.all())
    assert all(number <= keep + num_versions for number in labels.values()), labels
    artifacts = workspace.settings.artifacts_dir
    assert len(list((artifacts / "checkpoints").iterdir())) == keep
    assert len(list(workspace.records.values.iterdir())) == labels.total()
    assert len(list(workspace.records.root.iterdir())) == labels.total()
    assert len(list((artifacts / "locks").iterdir())) == 2
    assert not [path for path in all_files(workspace) if ".tmp-" in str(path)]
    entries = Ledger(NAME, workspace.settings).entries()
    for version in versions(workspace).values():
        workspace.store.verify(version.model)
        for form in forms_of(entries, version.number):
            workspace.store.verify(form)


def test_one_page_is_kept_for_each_version(workspace: Workspace) -> None:
    run = Run(workspace)
    run.run()
    for number in range(4):
        key = Run(workspace, code=f"another look {number}")
        verdict = Ledger(NAME, run.workspace.settings).entries()[0].verdict.model_dump(mode="json")
        key.step(
            "report",
            {"verdict": verdict},
            lambda text=f"{number}": ReportRef(digest=run.store("reports", text)),
        )

    gc(workspace, keep=2)

    assert len(workspace.store.contents("reports")) == 2


def test_the_trainings_of_the_latest_sweep_are_kept(workspace: Workspace) -> None:
    for number in range(2):
        run = Run(workspace, code=f"{number}")
        _, _, arrays = run.prepare()
        scored = []
        for seed in range(3):
            model = Run(workspace, code=f"{number} seed {seed}").train("mlp", arrays)
            scored.append((model, run.evaluate(model, arrays, 10)))
        run.compare(scored)

    gc(workspace, keep=1)

    kept = {record.reference.digest for record in workspace.records.all()}
    assert {one.digest for pair in scored for one in pair} <= kept
    # The trainings of the sweep before that are gone.
    assert sum(record.key.step == "train" for record in workspace.records.all()) == 3
    for pair in scored:
        for one in pair:
            workspace.store.verify(one)
