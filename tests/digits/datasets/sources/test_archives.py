import gzip
import tarfile
from pathlib import Path

import pytest

from digits.datasets.sources.archives import FILE_NAMES, decompress, read_package, size_limit
from digits.errors import DataError
from digits.spec import ROLES, Role
from tests.support.archives import idx_files, package, tar
from tests.support.handwriting import SHAPE, make_splits
from tests.support.memory import peak_memory

PACKED = gzip.compress(b"digits" * 9, mtime=0)
FILES: dict[Role, bytes] = {role: role.encode() for role in ROLES}


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def with_size(archive: bytes, size: int) -> bytes:
    """The archive with another size in the header of its first member."""
    header = bytearray(archive[: tarfile.BLOCKSIZE])
    header[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)  # type: ignore[attr-defined]
    checksum, _ = tarfile.calc_chksums(header)  # type: ignore[attr-defined]
    header[148:156] = b"%06o\0 " % checksum
    return bytes(header) + archive[tarfile.BLOCKSIZE :]


def test_a_gz_file_is_decompressed_up_to_its_limit() -> None:
    assert decompress(gzip.compress(b"digits"), limit=6, name="x.gz") == b"digits"


def test_a_decompression_bomb_is_stopped() -> None:
    bomb = gzip.compress(bytes(10_000_000))

    with (
        peak_memory(at_most=2_000_000),
        pytest.raises(DataError, match=r"^x.gz decompresses to more than 500,000 bytes"),
    ):
        decompress(bomb, limit=500_000, name="x.gz")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "truncated"),
        (b"not gzip", "incorrect header"),
        (PACKED[:-9], "truncated"),
        (PACKED[:-1], "truncated"),
        (PACKED[:-8] + bytes(8), "incorrect data check"),
        (PACKED[:-4] + bytes(4), "incorrect length check"),
        (PACKED + b"more", "4 extra bytes at the end"),
    ],
)
def test_a_gz_file_that_is_not_intact_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(DataError, match=rf"^x.gz is not an intact .gz file: .*{problem}"):
        decompress(content, limit=100, name="x.gz")


def test_the_limit_leaves_room_for_a_million_images_and_no_more() -> None:
    assert 784_000_000 < size_limit((28, 28), "train-images") < 785_000_000
    assert 1_000_000 < size_limit((28, 28), "test-labels") < 1_010_000
    assert size_limit((28, 28)) == sum(size_limit((28, 28), role) for role in ROLES)


def test_a_package_gives_the_four_files() -> None:
    files = idx_files(make_splits())

    assert read_package(package(files), "data", SHAPE, "a package") == files


def test_nothing_in_a_package_is_written_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    hostile = [member("../outside"), member(f"{tmp_path}/out"), member("x", tarfile.SYMTYPE, "..")]

    assert read_package(package(FILES, *hostile), "data", SHAPE, "a package") == FILES
    assert list(tmp_path.rglob("*")) == [here]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_a_member_that_is_not_a_regular_file_is_refused(kind: bytes) -> None:
    name = f"package/data/{FILE_NAMES['test-labels']}"
    files = {role: content for role, content in FILES.items() if role != "test-labels"}
    content = package(files, member(name, kind, target=name))

    with pytest.raises(DataError, match=r"has no regular file package/data/t10k-labels-idx1-ubyte"):
        read_package(content, "data", SHAPE, "a package")


def test_a_package_without_a_file_is_refused() -> None:
    with pytest.raises(DataError, match=r"has no regular file package/other/train-images"):
        read_package(package(FILES), "other", SHAPE, "a package")


@pytest.mark.parametrize(
    ("archive", "problem"),
    [
        (tar(FILES)[:518], "'package/data/train-images-idx3-ubyte' has 6 of 12 bytes"),
        (tar(FILES)[:100], "truncated header"),
        (tar(FILES).replace(b"00000000014", b"00000000015", 1), "bad checksum"),
        (with_size(tar(FILES), -512), "has 0 of -512 bytes"),
        (with_size(tar(FILES), 10**15), "of 1,000,000,000,000,000 bytes"),
    ],
)
def test_a_package_that_is_not_intact_is_refused(archive: bytes, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        read_package(gzip.compress(archive), "data", SHAPE, "a package")

    assert str(caught.value).startswith("a package is not an intact .tgz file: ")
    assert problem in str(caught.value)


def test_any_number_of_headers_is_read_one_by_one() -> None:
    longname = member("././@LongLink", tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT)
    hostile = gzip.compress(20_000 * longname + tar(FILES))

    assert read_package(hostile, "data", SHAPE, "a package") == FILES
