import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from digits.errors import DamagedError
from digits.storage.bundles import MANIFEST, Inspector, seal_folder
from tests.support.bytes import each_damage

FILES = {"model.keras": b"weights", "history.json": b'{"epochs": []}'}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    for name, content in FILES.items():
        (path / name).write_bytes(content)
    return path


@pytest.fixture
def digest(folder: Path) -> str:
    return seal_folder(folder)


def assert_damaged(folder: Path, digest: str, match: str = "") -> None:
    with pytest.raises(DamagedError, match=match):
        Inspector().inspect(folder, digest)


def write_manifest(folder: Path, content: bytes) -> str:
    (folder / MANIFEST).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def facts_of(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def test_a_bundle_as_it_was_written_is_whole(folder: Path, digest: str) -> None:
    assert Inspector().inspect(folder, digest) == []


def test_the_digest_follows_from_names_and_bytes_alone(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    for name, content in reversed(FILES.items()):
        (other / name).write_bytes(content)
    os.utime(other / "model.keras", (0, 0))

    assert seal_folder(other) == seal_folder(folder)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.faults
def test_every_altered_bit_and_every_cut_is_noticed(folder: Path, digest: str, name: str) -> None:
    for _ in each_damage(folder / name):
        assert_damaged(folder, digest, name)
    Inspector().inspect(folder, digest)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_file_that_is_gone_is_noticed(folder: Path, digest: str, name: str) -> None:
    (folder / name).unlink()

    assert_damaged(folder, digest, f"{name} cannot be read: No such file")


def test_a_bundle_that_is_gone_is_noticed(folder: Path, digest: str) -> None:
    assert_damaged(folder.with_name("none"), digest, "No such file")


@pytest.mark.parametrize("name", ["extra.json", ".hidden", "folder"])
def test_what_does_not_belong_to_it_is_noticed(folder: Path, digest: str, name: str) -> None:
    path = folder / name
    path.mkdir() if name == "folder" else path.write_text("")

    assert_damaged(folder, digest, f"{name} is not in the bundle's manifest")


@pytest.mark.parametrize("name", ["model.keras", MANIFEST])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_only_plain_files_are_opened(folder: Path, digest: str, name: str, kind: str) -> None:
    path, aside = folder / name, folder.with_name("aside")
    path.rename(aside)
    if kind == "link":
        path.symlink_to(aside)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)

    assert_damaged(folder, digest, f"{name} is not a plain file")


NAMES = ["../aside", "/etc/hostname", "..", ".", "", "sub/file", "a\0b", ".hidden", "a\n", "é"]


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_cannot_name_a_file_elsewhere(folder: Path, name: str) -> None:
    # It would be believed if it were looked at.
    content = (folder.parent / "aside").write_bytes(b"aside") and b"aside"
    files = {path.name: facts_of(path.read_bytes()) for path in folder.iterdir()}
    manifest = json.dumps({"files": files | {name: facts_of(content)}}).encode()

    assert_damaged(folder, write_manifest(folder, manifest), "is not the manifest of a bundle")


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"files": []}',
        b'{"files": {"model.keras": 3}}',
        b'{"files": {"model.keras": {"sha256": "no digest", "bytes": 7}}}',
        b'{"files": {"model.keras": {"sha256": "' + b"0" * 64 + b'", "bytes": -1}}}',
        b'{"files": {"model.keras": {"sha256": "' + b"0" * 64 + b'", "bytes": 1e999}}}',
        b'{"files": {}, "more": 1}',
        b'{"files": ' + b'{"a": ' * 100_000,
        b"[" * 1_000_000,
        b'"\xff\xfe"',
        b"9" * 100_000,
    ],
)
def test_a_manifest_of_another_form_is_damage_and_no_crash(folder: Path, manifest: bytes) -> None:
    assert_damaged(folder, write_manifest(folder, manifest), "is not the manifest of a bundle")


def test_files_above_a_limit_are_measured(folder: Path, digest: str) -> None:
    (folder / "history.json").write_bytes(b"x" * len(FILES["history.json"]))

    assert Inspector().inspect(folder, digest, limit=10) == ["history.json"]
    with pytest.raises(DamagedError, match="was altered"):
        Inspector().inspect(folder, digest, limit=14)
    (folder / "history.json").write_bytes(b"cut")
    with pytest.raises(DamagedError, match="has 3 bytes, not 14 as written"):
        Inspector().inspect(folder, digest, limit=10)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some hours on: what is on the disk has not been touched for long."""
    now = time.time_ns
    monkeypatch.setattr("digits.storage.bundles.time.time_ns", lambda: now() + 10**13)


def wait_for_tick(path: Path) -> None:
    """Wait until a file that changes now gets another change time than `path` has."""
    scratch = path.parent.with_name("scratch")
    scratch.touch()
    while scratch.stat().st_ctime_ns == path.stat().st_ctime_ns:
        scratch.touch()


@pytest.mark.usefixtures("later")
def test_what_nobody_touched_is_not_read_again(
    folder: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector = Inspector()
    inspector.inspect(folder, digest)
    reads: list[Path] = []
    monkeypatch.setattr("digits.storage.bundles.file_digest", reads.append)

    inspector.inspect(folder, digest)

    assert reads == []


@pytest.mark.usefixtures("later")
def test_an_edit_that_hides_its_time_is_noticed(folder: Path, digest: str) -> None:
    inspector, path = Inspector(), folder / "model.keras"
    inspector.inspect(folder, digest)
    before = path.stat()
    wait_for_tick(path)

    path.write_bytes(b"Weights")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    )
    with pytest.raises(DamagedError, match=r"model\.keras was altered"):
        inspector.inspect(folder, digest)


def test_what_was_just_written_is_read_again(
    folder: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Within one tick of the clock an edit may leave the very same times.
    frozen = (folder / "model.keras").stat().st_ctime_ns + 10**6
    monkeypatch.setattr("digits.storage.bundles.time.time_ns", lambda: frozen)
    inspector = Inspector()
    inspector.inspect(folder, digest)
    reads: list[str] = []
    monkeypatch.setattr(
        "digits.storage.bundles.file_digest",
        lambda path: reads.append(path.name) or hashlib.sha256(path.read_bytes()).hexdigest(),
    )

    inspector.inspect(folder, digest)

    assert sorted(reads) == sorted(FILES)
