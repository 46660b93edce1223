import gzip
from hashlib import sha256
from pathlib import Path

import pytest

from digits.datasets.sources.archives import FILE_NAMES
from digits.datasets.sources.raw_files import TEMPORARY, find_raw, keep, sweep
from digits.errors import DataError
from tests.support.permissions import mode
from tests.support.served import FILES

ROLE = "test-labels"
CONTENT = FILES[ROLE]
LIMIT = 1000


def find(*folders: Path) -> tuple[list[Path], list[str]]:
    """Paths of the files that may be ROLE, and the problems of the others."""
    problems: list[str] = []
    found = list(find_raw(ROLE, folders, LIMIT, problems))
    assert {file.sha256 for file in found} <= {sha256(CONTENT).hexdigest()}
    return [file.path for file in found], problems


def test_every_naming_is_found_in_a_fixed_order(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    paths = [
        folder / f"{name}{suffix}"
        for folder in (one, other)
        for name in (f"{ROLE}.idx", FILE_NAMES[ROLE])
        for suffix in ("", ".gz")
    ]
    for path in reversed(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(CONTENT) if path.suffix == ".gz" else CONTENT)

    assert find(one, tmp_path / "gone", other) == (paths, [])


def test_problems_are_reported_and_the_search_continues(tmp_path: Path) -> None:
    (tmp_path / f"{ROLE}.idx").write_bytes(CONTENT[:-1])
    (tmp_path / f"{ROLE}.idx.gz").write_bytes(gzip.compress(CONTENT)[:-1])
    (tmp_path / FILE_NAMES[ROLE]).mkdir()
    whole = tmp_path / f"{FILE_NAMES[ROLE]}.gz"
    whole.write_bytes(gzip.compress(CONTENT))

    found, problems = find(tmp_path)

    assert found == [whole]
    assert [problem.removeprefix(str(tmp_path)) for problem in problems] == [
        f"/{ROLE}.idx is truncated: 207 bytes, expected 208 for 200 values",
        f"/{ROLE}.idx.gz is not an intact .gz file: truncated",
        f"/{FILE_NAMES[ROLE]} is not a regular file",
    ]


def test_a_gz_file_is_bounded_and_a_plain_file_is_not(tmp_path: Path) -> None:
    large = CONTENT[:4] + (2000).to_bytes(4, "big") + bytes(2000)
    path = tmp_path / f"{ROLE}.idx"
    path.write_bytes(large)
    path.with_suffix(".idx.gz").write_bytes(gzip.compress(large))
    problems: list[str] = []

    found = list(find_raw(ROLE, [tmp_path], LIMIT, problems))

    assert [(file.path, file.num_bytes) for file in found] == [(path, len(large))]
    assert len(problems) == 1
    assert ".idx.gz decompresses to more than 1,000 bytes" in problems[0]


def test_a_folder_without_read_permission_is_reported(tmp_path: Path) -> None:
    with (
        mode(tmp_path, 0o000),
        pytest.raises(DataError, match=r"cannot be read: Permission denied"),
    ):
        find(tmp_path)


def test_an_existing_file_is_kept_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "x.idx"
    for content in (b"first", b"second", b"third"):
        assert keep(path, content).sha256 == sha256(content).hexdigest()

    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        "x.idx": b"third",
        "x.idx.damaged-1": b"first",
        "x.idx.damaged-2": b"second",
    }


def test_only_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY}x.idx-0").write_bytes(b"half")
    keep(tmp_path / "x.idx", CONTENT)

    sweep(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["x.idx"]
