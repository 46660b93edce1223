import hashlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digits.storage.files import (
    TEMPORARY,
    file_digest,
    make_folder,
    printable,
    read_file,
    write_whole,
)
from tests.support.names import HOSTILE_NAMES, is_inert
from tests.support.processes import result_of, start

WRITER_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from digits.storage.files import write_whole

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    write_whole(Path(sys.argv[1]), b"x" * 1001)
except OSError as error:
    print(error.strerror)
"""

WRITER_THAT_IS_KILLED = """
import os, signal, sys
from pathlib import Path
from digits.storage.files import write_whole

os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_whole(Path(sys.argv[1]), b"a longer content")
"""


def test_the_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"digits" * 100_000)

    assert file_digest(path) == hashlib.sha256(b"digits" * 100_000).hexdigest()


def test_missing_parent_folders_are_created(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"

    write_whole(path, b"one")
    write_whole(path, b"two")

    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_an_open_reader_keeps_reading_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    with path.open("rb") as reader:
        write_whole(path, b"new")

        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.faults
def test_a_full_disk_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    assert result_of(WRITER_ON_A_FULL_DISK, path) == "File too large\n"

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unfinished_file_has_the_temporary_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr("os.fsync", lambda _: seen.extend(path.name for path in tmp_path.iterdir()))

    write_whole(tmp_path / "file", b"content")

    assert seen == [f"{TEMPORARY}file", "file"]


@pytest.mark.faults
def test_the_next_writer_cleans_up_after_a_killed_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    killed = start(WRITER_THAT_IS_KILLED, path)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert [left.read_bytes() for left in tmp_path.iterdir()] == [b"a longer content"]

    write_whole(path, b"content")

    assert path.read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.faults
def test_concurrent_writers_leave_one_complete_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([number]) * 10_000 * number for number in range(1, 9)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_whole, [path] * 80, contents * 10))

    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_new_folders_are_flushed_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr("digits.storage.files.flush", flushed.append)

    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b").is_dir()
    assert flushed == [tmp_path, tmp_path / "a"]


def test_a_file_in_place_of_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")

    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "a")


def test_a_link_in_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"kept")
    (tmp_path / f"{TEMPORARY}file").symlink_to(precious)

    write_whole(tmp_path / "file", b"new")

    assert precious.read_bytes() == b"kept"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").is_symlink()


def test_a_pipe_in_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OSError, match="Not a regular file"):
        read_file(tmp_path / "pipe")


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_from_outside_becomes_one_line_of_printable_text(name: str) -> None:
    assert is_inert(printable(name))
    assert printable(printable(name)) == printable(name)


def test_a_harmless_name_stays_as_it_is() -> None:
    assert printable("März 数字 (1)_a-b.npz") == "März 数字 (1)_a-b.npz"
