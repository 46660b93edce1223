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


def test_an_unchanged_bundle_is_intact(folder: Path, digest: str) -> None:
    assert Inspector().inspect(folder, digest) == []


def test_the_digest_depends_only_on_names_and_bytes(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    for name, content in reversed(FILES.items()):
        (other / name).write_bytes(content)
    os.utime(other / "model.keras", (0, 0))

    assert seal_folder(other) == seal_folder(folder)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.faults
def test_every_flipped_bit_and_every_truncation_is_detected(
    folder: Path, digest: str, name: str
) -> None:
    for _ in each_damage(folder / name):
        assert_damaged(folder, digest, name)
    Inspector().inspect(folder, digest)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_detected(folder: Path, digest: str, name: str) -> None:
    (folder / name).unlink()

    assert_damaged(folder, digest, f"{name} cannot be read: No such file")


def test_a_missing_bundle_is_detected(folder: Path, digest: str) -> None:
    assert_damaged(folder.with_name("none"), digest, "No such file")


@pytest.mark.parametrize("name", ["extra.json", ".hidden", "folder"])
def test_an_unlisted_entry_is_detected(folder: Path, digest: str, name: str) -> None:
    path = folder / name
    path.mkdir() if name == "folder" else path.write_text("")

    assert_damaged(folder, digest, f"{name} is not listed in the bundle's manifest")


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

    assert_damaged(folder, digest, f"{name} is not a regular file")


NAMES = ["../aside", "/etc/hostname", "..", ".", "", "sub/file", "a\0b", ".hidden", "a\n", "é"]


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_cannot_name_a_file_elsewhere(folder: Path, name: str) -> None:
    # For `../aside` the content matches, so only the name is wrong.
    content = (folder.parent / "aside").write_bytes(b"aside") and b"aside"
    files = {path.name: facts_of(path.read_bytes()) for path in folder.iterdir()}
    manifest = json.dumps({"files": files | {name: facts_of(content)}}).encode()

    assert_damaged(folder, write_manifest(folder, manifest), "is not a valid bundle manifest")


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
def test_a_malformed_manifest_is_reported_as_damage(folder: Path, manifest: bytes) -> None:
    assert_damaged(folder, write_manifest(folder, manifest), "is not a valid bundle manifest")


def test_only_the_size_of_files_above_a_limit_is_checked(folder: Path, digest: str) -> None:
    (folder / "history.json").write_bytes(b"x" * len(FILES["history.json"]))

    assert Inspector().inspect(folder, digest, limit=10) == ["history.json"]
    with pytest.raises(DamagedError, match="is corrupted"):
        Inspector().inspect(folder, digest, limit=14)
    (folder / "history.json").write_bytes(b"cut")
    with pytest.raises(DamagedError, match=r"has 3 bytes \(expected 14\)"):
        Inspector().inspect(folder, digest, limit=10)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the clock forward by hours, so that no file on disk was touched recently."""
    now = time.time_ns
    monkeypatch.setattr("digits.storage.bundles.time.time_ns", lambda: now() + 10**13)


def wait_for_tick(path: Path) -> None:
    """Wait until a file that changes now gets a different change time from that of `path`."""
    scratch = path.parent.with_name("scratch")
    scratch.touch()
    while scratch.stat().st_ctime_ns == path.stat().st_ctime_ns:
        scratch.touch()


@pytest.mark.usefixtures("later")
def test_untouched_files_are_not_read_again(
    folder: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector = Inspector()
    inspector.inspect(folder, digest)
    reads: list[Path] = []
    monkeypatch.setattr("digits.storage.bundles.file_digest", reads.append)

    inspector.inspect(folder, digest)

    assert reads == []


@pytest.mark.usefixtures("later")
def test_an_edit_that_restores_the_modification_time_is_detected(folder: Path, digest: str) -> None:
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
    with pytest.raises(DamagedError, match=r"model\.keras is corrupted"):
        inspector.inspect(folder, digest)


def test_recently_written_files_are_read_again(
    folder: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Within one clock tick, an edit may leave the timestamps unchanged.
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
