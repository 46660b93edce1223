import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digits.errors import DamagedError, UsageError
from digits.settings import Settings
from digits.storage.references import ReportRef
from digits.storage.remote.addresses import objects_of
from digits.storage.remote.folders import IN_USE_SECONDS
from digits.storage.remote.objects import Objects
from digits.storage.workspace import Workspace
from tests.support.machines_of_a_team import machine, stored

FILES = {"report.html": b"<!doctype html>" * 20, "more.json": b"{}"}


def write(workspace: Workspace, text: bytes = b"") -> ReportRef:
    with workspace.store.create("reports") as draft:
        for name, content in FILES.items():
            (draft.path / name).write_bytes(content + text)
    return ReportRef(digest=draft.digest)


def age(workspace: Workspace, reference: ReportRef) -> None:
    """Make a bundle in the cache look as if no step had used it for long."""
    long_ago = time.time() - 2 * IN_USE_SECONDS
    os.utime(workspace.store.place(reference), (long_ago, long_ago))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def test_what_one_machine_stored_another_has_byte_for_byte(tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    reference = write(here)
    there.store.verify(reference)
    folder = there.store.folder(reference)
    assert folder.is_relative_to(there.settings.cache_dir)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert there.store.read(reference, "more.json") == FILES["more.json"]


def test_a_workspace_without_a_store_is_not_changed(tmp_path: Path) -> None:
    alone = Workspace(Settings(data_dir=tmp_path / "data", artifacts_dir=tmp_path / "artifacts"))
    assert alone.store.folder(write(alone)).parent == tmp_path / "artifacts" / "reports"


def test_a_bundle_without_its_manifest_is_not_there(tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    reference = write(here)
    stored(tmp_path, f"reports/{reference.digest}/manifest.json").unlink()
    with pytest.raises(DamagedError, match=r"manifest\.json is missing"):
        there.store.verify(reference)
    assert not there.store.place(reference).exists()


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_flipped_bit_in_the_store_is_noticed_and_healed(name: str, tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    reference = write(here)
    flip(stored(tmp_path, f"reports/{reference.digest}/{name}"))
    with pytest.raises(DamagedError, match=f"{name} is corrupted: its SHA-256 is"):
        there.store.verify(reference)
    assert write(there) == reference  # the step runs again
    third = machine(tmp_path, "third")
    third.store.verify(reference)


@pytest.mark.parametrize("size", [0, 5])
def test_a_truncated_object_is_noticed(size: int, tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    reference = write(here)
    os.truncate(stored(tmp_path, f"reports/{reference.digest}/report.html"), size)
    with pytest.raises(DamagedError, match=rf"has {size} bytes \(expected 300\)"):
        there.store.glance(reference)
    with pytest.raises(DamagedError, match=rf"has {size} bytes \(expected 300\)"):
        there.store.verify(reference)


def test_what_the_store_has_lost_is_uploaded_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference = write(machine(tmp_path, "here"))
    for name in ("report.html", "manifest.json"):
        stored(tmp_path, f"reports/{reference.digest}/{name}").unlink()
    with caplog.at_level(logging.WARNING):
        machine(tmp_path, "here").store.verify(reference)  # another process
    assert f"uploaded again what was missing of reports/{reference.digest}" in caplog.text
    machine(tmp_path, "there").store.verify(reference)


def test_a_folder_that_was_just_downloaded_is_not_looked_for_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = write(machine(tmp_path, "here"))
    monkeypatch.setattr(Objects, "listed", lambda *_: pytest.fail("the store was asked"))
    there = machine(tmp_path, "there").store
    there.verify(reference)
    there.verify(reference)


def test_a_corrupted_copy_is_downloaded_again(tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    reference = write(here)
    there.store.verify(reference)
    flip(there.store.place(reference) / "report.html")
    there = machine(tmp_path, "there")
    there.store.verify(reference)
    assert there.store.read(reference, "report.html") == FILES["report.html"]


def test_steps_that_need_a_bundle_at_once_do_not_take_it_from_each_other(tmp_path: Path) -> None:
    reference = write(machine(tmp_path, "here"))

    def use(_: int) -> int:
        there = machine(tmp_path, "there")
        there.store.verify(reference)
        return (there.store.folder(reference) / "report.html").stat().st_ino

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(use, range(16)))) == 1  # downloaded once


def test_a_plan_looks_at_sizes_and_downloads_nothing(tmp_path: Path) -> None:
    reference = write(machine(tmp_path, "here"))
    there = machine(tmp_path, "there")
    assert sorted(there.store.glance(reference)) == sorted(FILES)
    assert not there.store.place(reference).exists()


def test_the_cache_is_bounded_and_keeps_what_is_in_use(tmp_path: Path) -> None:
    here = machine(tmp_path, "here", cache_gb=2e-6)  # about five bundles
    references = [write(here, f"{number}".encode()) for number in range(9)]
    assert all(here.store.place(reference).exists() for reference in references)
    for reference in references[:7]:
        age(here, reference)
    here.store.verify(references[0])  # used again
    last = write(here, b"last")
    left = [reference for reference in references if here.store.place(reference).exists()]
    assert set(left) >= {references[0], references[7], references[8]}
    assert references[1] not in left
    assert here.store.place(last).exists()
    here.store.verify(references[1])  # from the store


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://somewhere/x", "unknown address"),
        ("bucket/prefix", "unknown address"),
        ("s3://key:secret@bucket/x", "contains credentials"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_without_its_password(
    address: str, message: str, tmp_path: Path
) -> None:
    settings = Settings(store=address, cache_dir=tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        objects_of(settings)
    assert "secret" not in str(caught.value)
