"""Garbage collection in a store that several machines share."""

import hashlib
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from digits.errors import StoreError
from digits.registry import shared_garbage
from digits.registry.garbage import Garbage, collect
from digits.registry.ledger import Ledger
from digits.registry.needed import histories, named_bundles
from digits.storage.bundles import MANIFEST, Inspector
from digits.storage.remote import collectors
from digits.storage.remote.collectors import announced
from digits.storage.remote.objects import Objects
from digits.storage.workspace import Workspace
from tests.support.histories import digest
from tests.support.machines_of_a_team import machine, stored
from tests.support.runs import MODELS, Run
from tests.support.small_dataset import NAME

DAYS = 24 * 3600


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr(collectors, "POLL_SECONDS", 0.01)


def gc(workspace: Workspace, **options: Any) -> Garbage:
    """Collect garbage and return what was announced."""
    announced: list[Garbage] = []
    options = {"keep_records": 1, "is_dry_run": False, "announce": announced.append, **options}
    collect(workspace, **options)
    return announced[0] if announced else Garbage(paths=(), num_bytes=0)


def age(folder: Path, days: float = 2) -> None:
    """Make everything in the store look as if it had been written days ago."""
    for path in stored(folder, "").rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - days * DAYS
            os.utime(path, (then, then))


def objects_in(folder: Path) -> set[str]:
    root = stored(folder, "")
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def try_out(workspace: Workspace, code: str) -> Run:
    """Do the steps of a run up to the decision."""
    run = Run(workspace, code=code)
    _, _, arrays = run.prepare()
    for model in MODELS:
        trained = run.train(model, arrays)
        run.evaluate(trained, arrays, 20 - (model == "cnn"))
    return run


def inspect(folder: Path) -> None:
    Inspector().inspect(folder, hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest())


def check_whole(folder: Path, name: str) -> None:
    """Check on another machine that what ledgers name is in the store, every byte of it."""
    fresh = machine(folder, name)
    for version in Ledger(NAME, fresh.settings).versions().values():
        fresh.store.verify(version.model)
        fresh.store.verify(version.evaluation)
    for bundle in named_bundles(histories(fresh.settings)):
        assert f"{bundle}/{MANIFEST}" in objects_in(folder)


def test_old_results_go_and_versions_stay(tmp_path: Path) -> None:
    here = machine(tmp_path, "here")
    for number in range(3):
        Run(here, code=f"code {number}", wrong=30 - number).run()
    for number in range(3):
        Run(here, code=f"worse {number}", wrong=40).run()
    age(tmp_path)
    before = objects_in(tmp_path)

    garbage = gc(here)

    gone = before - objects_in(tmp_path)
    kinds = {name.partition("/")[0] for name in gone}
    assert kinds == {"records", "models", "evaluations", "reports"}
    assert all(name.startswith(f"file://{tmp_path}/store/") for name in garbage.objects)
    check_whole(tmp_path, "fresh")
    again = Run(machine(tmp_path, "there"), code="worse 2", wrong=40)
    again.run()
    assert again.executed == []


def test_what_was_written_in_the_last_day_stays(tmp_path: Path) -> None:
    here = machine(tmp_path, "here")
    for number in range(3):
        try_out(here, f"code {number}")
    before = objects_in(tmp_path)
    assert gc(here).objects == ()
    assert objects_in(tmp_path) == before


def test_the_clock_of_this_machine_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Ahead":
            return super().now(tz) + timedelta(days=30)

    here = machine(tmp_path, "here")
    try_out(here, "first")
    try_out(here, "second")
    monkeypatch.setattr(shared_garbage, "datetime", Ahead)
    assert gc(here, is_dry_run=True).objects != ()
    assert gc(here).objects == ()


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    here = machine(tmp_path, "here")
    try_out(here, "first")
    try_out(here, "second")
    age(tmp_path)
    before = objects_in(tmp_path)
    dry = gc(here, is_dry_run=True)
    assert objects_in(tmp_path) == before
    assert gc(here) == dry
    assert gc(here).objects == ()


def test_what_another_machine_uses_after_the_first_look_stays(tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    try_out(here, "first")
    try_out(here, "second")
    age(tmp_path)
    gc(here, announce=lambda _: Run(there, code="first").run())
    again = Run(machine(tmp_path, "third"), code="first")
    again.run()
    assert again.executed == []
    check_whole(tmp_path, "fourth")


def test_who_uses_a_result_while_it_is_deleted_waits_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    try_out(there, "first")  # a copy is in its cache
    try_out(here, "second")
    age(tmp_path)
    user = threading.Thread(target=Run(there, code="first").run)
    waits = threading.Event()
    wait = collectors._wait

    def observed_wait(*arguments: Any) -> None:
        waits.set()
        wait(*arguments)

    delete = Objects.delete

    def delete_late(objects: Objects, names: Any) -> None:
        # The collector has looked for the last time: it does not see what is used from now on.
        if not user.ident:
            user.start()
            assert waits.wait(30)
        delete(objects, names)

    gone = gc(here, is_dry_run=True).objects
    monkeypatch.setattr(collectors, "_wait", observed_wait)
    plan_of = shared_garbage._delete_some

    def delete_some(*arguments: Any) -> int:
        monkeypatch.setattr(Objects, "delete", delete_late)
        return plan_of(*arguments)

    monkeypatch.setattr(shared_garbage, "_delete_some", delete_some)
    assert gc(here).objects == gone
    user.join(60)
    check_whole(tmp_path, "third")
    again = Run(machine(tmp_path, "fourth"), code="first")
    again.run()
    assert again.executed == []


@pytest.mark.parametrize("after", range(0, 16, 3))
def test_a_killed_collector_does_no_harm(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine(tmp_path, "here")
    Run(here, code="champion", wrong=10).run()
    for number in range(2):
        Run(here, code=f"code {number}", wrong=30).run()
    age(tmp_path)
    deleted: list[str] = []
    delete = Objects.delete

    def deadly(objects: Objects, names: Any) -> None:
        for name in names:
            if len(deleted) == after:
                raise KeyboardInterrupt
            deleted.append(name)
            delete(objects, [name])

    with monkeypatch.context() as patched:
        patched.setattr(Objects, "delete", deadly)
        with pytest.raises(KeyboardInterrupt):
            gc(here)
    third = machine(tmp_path, "third")
    for _, record in third.records.in_store():
        assert record is not None
        third.store.verify(record.reference)  # no record outlives its bundle
    for name in objects_in(tmp_path):
        if name.endswith(f"/{MANIFEST}"):
            inspect(stored(tmp_path, name).parent)  # no manifest outlives a file
    check_whole(tmp_path, "fourth")
    gc(machine(tmp_path, "there"))
    assert gc(here).objects == ()


def test_announcements_of_a_killed_collector_delay_once(tmp_path: Path) -> None:
    here = machine(tmp_path, "here")
    run = try_out(here, "code")
    objects = here.objects
    assert objects is not None
    lasting = announced(objects, [run.made["train cnn"].name], 0.05)
    lasting.__enter__()  # never left
    here.store.secure(run.made["train cnn"])
    assert objects.listed("collecting/") == []


def test_two_collectors_and_a_user_at_once(tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    for number in range(4):
        Run(here, code=f"code {number}", wrong=30 + number).run()
    age(tmp_path)
    user = machine(tmp_path, "user")

    def use() -> None:
        for number in range(4):
            Run(user, code=f"code {number}", wrong=30 + number).run()

    with ThreadPoolExecutor(3) as threads:
        for future in [threads.submit(gc, here), threads.submit(gc, there), threads.submit(use)]:
            future.result()
    check_whole(tmp_path, "third")
    for _, record in machine(tmp_path, "fourth").records.in_store():
        assert record is not None


def test_parts_of_uploads_go_and_foreign_objects_stay(tmp_path: Path) -> None:
    here = machine(tmp_path, "here")
    Run(here).run()
    part = f"models/{digest('part')}/model.keras"
    foreign = ("models/notes.txt", "batches/x/y/images.parquet", "other/z", "records/README.md")
    for name in (part, *foreign):
        stored(tmp_path, name).parent.mkdir(parents=True, exist_ok=True)
        stored(tmp_path, name).write_bytes(b"content")
    age(tmp_path)
    gc(here)
    assert part not in objects_in(tmp_path)
    assert objects_in(tmp_path) >= set(foreign)


def test_checkpoints_go_when_they_are_replaced_or_done(tmp_path: Path) -> None:
    import numpy as np

    from digits.training.checkpoints import Checkpoint

    here = machine(tmp_path, "here")
    key = Run(here).train("cnn", Run(here).prepare()[2]).made_by
    for name in (key, digest("one"), digest("two"), digest("three")):
        folder = tmp_path / "checkpoints" / name
        checkpoint = Checkpoint(folder)
        checkpoint.save([np.zeros(3)], [{"epoch": 1}], 1.0)
        for path in (*folder.iterdir(), folder / "epoch-0000.npz"):
            target = stored(tmp_path, f"checkpoints/{name}/{path.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes() if path.exists() else b"an earlier state")
        age(tmp_path)
    gc(here, keep_records=2)
    left = {name for name in objects_in(tmp_path) if name.startswith("checkpoints/")}
    assert left == {
        f"checkpoints/{digest(name)}/{file}"
        for name in ("two", "three")
        for file in ("checkpoint.json", "epoch-0001.npz")
    }


def test_refused_batches_go_only_when_asked_for(tmp_path: Path) -> None:
    here = machine(tmp_path, "here")
    Run(here).run()
    page = stored(tmp_path, f"quarantine/{NAME}/{digest('refused')}/page.html")
    page.parent.mkdir(parents=True)
    page.write_text("refused")
    age(tmp_path, days=100)
    gc(here)
    assert page.exists()
    gc(here, refused_days=90)
    assert not page.exists()


def test_nothing_is_deleted_if_the_store_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine(tmp_path, "here")
    try_out(here, "first")
    try_out(here, "second")
    age(tmp_path)
    before = objects_in(tmp_path)

    def refuse(*_: Any) -> None:
        raise StoreError("away")

    monkeypatch.setattr(Objects, "read_all", refuse)
    with pytest.raises(StoreError):
        gc(here)
    assert objects_in(tmp_path) == before


def test_a_decision_stores_again_what_was_deleted_since_its_run_looked(tmp_path: Path) -> None:
    here = machine(tmp_path, "here")
    run = try_out(here, "code")
    for path in stored(tmp_path, run.made["train cnn"].name).iterdir():
        path.unlink()
    Run(here, code="code").run()
    check_whole(tmp_path, "there")


def test_a_collector_that_is_held_up_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine(tmp_path, "here")
    for number in range(3):
        try_out(here, f"code {number}")
    age(tmp_path)
    clock = itertools.count(step=shared_garbage.DELETING_SECONDS / 2)
    monkeypatch.setattr(shared_garbage, "_seconds", lambda: next(clock))
    looks: list[int] = []
    find = shared_garbage._Looking.look

    def look(looking: Any) -> Any:
        looks.append(1)
        return find(looking)

    monkeypatch.setattr(shared_garbage._Looking, "look", look)
    units = len(gc(here).objects)
    assert len(looks) == 1 + -(-units // (2 * shared_garbage.NUM_AT_ONCE))
    assert gc(here).objects == ()
    monkeypatch.setattr(shared_garbage, "_seconds", lambda: next(clock) * 10)
    try_out(here, "last")
    age(tmp_path)
    with pytest.raises(StoreError, match="run again where the store is faster"):
        gc(here)
