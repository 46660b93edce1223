"""Corrupted, hostile and random input to every parser of external data.

Input is either refused with one of the project's own errors or read correctly; no parser exceeds
its memory bound or hangs. For the long form add `-m slow`.
"""

import contextlib
import gzip
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from digits.datasets.defects import Defects
from digits.datasets.formats.readers import read_chunks
from digits.datasets.images import read_split, write_split
from digits.datasets.sources.archives import decompress, read_package
from digits.datasets.sources.content import content_of, opened
from digits.datasets.sources.idx import format_idx, parse_idx
from digits.datasets.sources.npz import read_npz
from digits.errors import DamagedError, DataError, LedgerError, UsageError
from digits.recipes import training_settings
from digits.registry.ledger import Ledger, ModelVersion, Verdict
from digits.settings import Settings
from digits.spec import NAME as NAMES
from digits.spec import ROLES, DatasetSpec, Role, load_spec
from digits.storage.references import EvaluationRef, ModelRef
from tests.support.archives import idx_files, npy, npz, npz_of_members, tar
from tests.support.handwriting import LAYOUT, SHAPE, make_splits
from tests.support.layouts import make_spec, png, write_parquet
from tests.support.memory import peak_memory
from tests.support.small_dataset import NAME, SPEC, write_small_dataset, write_spec

Check = Callable[..., None]
few_or_many = pytest.mark.parametrize(
    "num_examples", [200, pytest.param(3000, marks=pytest.mark.slow, id="many")]
)
pytestmark = [pytest.mark.timeout(900), pytest.mark.hypothesis]

# A parser may use a few times the memory of its input, plus what Python needs anyway.
ROOM = 2_000_000

SPLITS = {split: (images[:20], labels[:20]) for split, (images, labels) in make_splits().items()}
FILES = idx_files(SPLITS)


def explore(check: Check, num_examples: int, **examples: st.SearchStrategy[Any]) -> None:
    """Check the same examples each time, one after the other."""
    profile = hypothesis_settings(max_examples=num_examples)
    profile(given(**examples)(check))()


def one_change(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with one bit flipped, or truncated."""
    flips = st.integers(0, 8 * len(content) - 1).map(lambda bit: flipped(content, bit))
    cuts = st.integers(0, len(content) - 1).map(lambda end: content[:end])
    return flips | cuts


def flipped(content: bytes, bit: int) -> bytes:
    altered = bytearray(content)
    altered[bit // 8] ^= 1 << bit % 8
    return bytes(altered)


def many_changes(content: bytes, *tokens: bytes) -> st.SearchStrategy[bytes]:
    """The content with pieces overwritten, inserted and replaced, partly by `tokens`."""
    places = st.integers(0, len(content))
    numbers = [b"\0" * 4, b"\xff" * 4, b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 11]
    pieces = st.binary(max_size=12) | st.sampled_from([*numbers, *tokens])
    change = st.tuples(places, places, pieces, st.sampled_from(["overwrite", "insert", "replace"]))
    return st.lists(change, min_size=1, max_size=4).map(lambda changes: changed(content, changes))


def changed(content: bytes, changes: list[tuple[int, int, bytes, str]]) -> bytes:
    result = content
    for start, other, piece, how in changes:
        end = {"overwrite": start + len(piece), "insert": start, "replace": other}[how]
        result = result[:start] + piece + result[max(start, end) :]
    return result


def arbitrary(content: bytes, *tokens: bytes) -> st.SearchStrategy[bytes]:
    """Arbitrary bytes, mostly similar to the content."""
    return one_change(content) | many_changes(content, *tokens) | st.binary(max_size=200)


def is_one_line(error: Exception, path: Path | None = None) -> None:
    """Check that an error is a single line and starts with the path, if any."""
    assert str(error).startswith(str(path or ""))
    assert "\n" not in str(error)


@contextlib.contextmanager
def arrow_memory(*, at_most: int) -> Iterator[None]:
    """Check the peak of Arrow's memory pool, unless an earlier test took more.

    Arrow allocates what the header of a page claims, a number of 31 bits, before it reads the page.
    """
    before = pa.default_memory_pool().max_memory()
    yield
    assert pa.default_memory_pool().max_memory() <= max(before, at_most)


@few_or_many
def test_idx_is_read_exactly_or_refused(num_examples: int) -> None:
    def check(content: bytes) -> None:
        with peak_memory(at_most=ROOM), contextlib.suppress(DataError):
            # The array is the content itself, to the last byte: it cannot be misread.
            assert format_idx(parse_idx(content, "a file")) == content

    headers = st.builds(
        lambda kind, sizes: bytes((0, 0, kind, len(sizes))) + np.array(sizes, ">u4").tobytes(),
        st.sampled_from([0x08, 0x08, 0x09, 0x0D]),
        st.lists(st.integers(0, 5) | st.integers(0, 2**32 - 1), max_size=6),
    )
    made_up = st.builds(bytes.__add__, headers, st.binary(max_size=64))
    explore(check, num_examples, content=made_up | arbitrary(FILES["test-images"][:300]))


def read_or_refuse(layout: str, files: Sequence[Path], **changes: Any) -> None:
    """Check that files give images and labels, or are refused by a check with one line."""
    defects = Defects()
    try:
        chunks = list(read_chunks(files, make_spec(layout, **changes), defects))
        defects.enforce()
    except DataError as error:
        is_one_line(error)
        return
    for chunk in chunks:
        assert chunk.images.shape == (len(chunk.labels), *SHAPE)
        assert chunk.images.dtype == np.uint8
        assert chunk.labels.max() < LAYOUT.num_classes
        assert len(list(chunk.names)) == len(chunk.labels)


@few_or_many
@pytest.mark.parametrize("is_packed", [False, True])
def test_idx_files_are_images_and_labels_or_refused(
    is_packed: bool, num_examples: int, tmp_path: Path
) -> None:
    paths = {role: tmp_path / f"{role}.idx{'.gz' * is_packed}" for role in ROLES}
    whole = {role: gzip.compress(FILES[role], 1) if is_packed else FILES[role] for role in ROLES}
    for role, path in paths.items():
        path.write_bytes(whole[role])

    def check(role: Role, content: bytes, is_repacked: bool) -> None:
        packed = gzip.compress(content, 1) if is_packed and is_repacked else content
        paths[role].write_bytes(packed)
        with peak_memory(at_most=ROOM):
            read_or_refuse("idx", list(paths.values()))
        paths[role].write_bytes(whole[role])

    damaged = st.sampled_from(ROLES).flatmap(lambda role: arbitrary(FILES[role]))
    shapes = st.tuples(st.integers(0, 21)) | st.tuples(st.integers(19, 21), *map(st.just, SHAPE))
    others = hnp.arrays(np.uint8, shapes, elements=st.integers(0, 10)).map(format_idx)
    explore(
        check,
        num_examples,
        role=st.sampled_from(ROLES),
        content=others | damaged | arbitrary(whole["test-images"]),
        is_repacked=st.booleans(),
    )


@few_or_many
def test_a_user_npz_is_images_and_labels_or_refused(num_examples: int, tmp_path: Path) -> None:
    path, whole = tmp_path / "x.npz", npz(SPLITS)
    member = npy(SPLITS["train"][0])
    tokens = (b"'descr'", b"'|O'", b"'<f8'", b"(" * 60, b"9" * 20, b"-1", b"{", b"True", b"0, ")

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with warnings.catch_warnings(), peak_memory(at_most=2 * ROOM):
            # numpy warns about headers written by Python 2.
            warnings.simplefilter("ignore", UserWarning)
            read_or_refuse("npz", [path])

    headers = many_changes(member[:128], *tokens).map(
        lambda header: npz_of_members({"x_train": header + member[128:]})
    )
    kinds = st.sampled_from(["<f4", ">f8", "<i2", ">u8", "?", "<c8", "<M8[s]", "<U1", "<f2"])
    values = kinds.flatmap(lambda kind: hnp.arrays(kind, (20, *SHAPE))).map(
        lambda array: npz(SPLITS, x_train=array)
    )
    labels = kinds.flatmap(lambda kind: hnp.arrays(kind, (20,))).map(
        lambda array: npz(SPLITS, y_train=array)
    )
    explore(check, num_examples, content=headers | values | labels | arbitrary(whole))


CELLS = st.one_of(
    st.text(max_size=4),
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from(["", '"', '""', ",", "\r", "NULL", "1e400", "-0", "0x1", "1_0", "\0", "é"]),
)


@few_or_many
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_csv_is_images_and_labels_or_refused(
    is_packed: bool, num_examples: int, tmp_path: Path
) -> None:
    images, labels = SPLITS["train"]
    rows = np.column_stack([labels, images.reshape(len(images), -1)])[:4]
    header = ",".join(["label", *map(str, range(144))])
    whole = "\n".join([header, *(",".join(map(str, row)) for row in rows)]).encode()
    path = tmp_path / f"x.csv{'.gz' * is_packed}"

    def check(content: bytes, is_repacked: bool, column: int | str | None) -> None:
        path.write_bytes(gzip.compress(content, 1) if is_packed and is_repacked else content)
        with peak_memory(at_most=2 * ROOM):
            read_or_refuse("csv", [path], label_column=column)

    def replaced(changes: list[tuple[int, str]]) -> bytes:
        cells = whole.decode().split(",")
        for place, text in changes:
            cells[place % len(cells)] = text
        return ",".join(cells).encode("utf-8", "surrogatepass")

    # Memory that pyarrow takes on its first call does not count.
    path.write_bytes(whole)
    read_or_refuse("csv", [path])
    edits = st.lists(st.tuples(st.integers(0, 9999), CELLS), max_size=4).map(replaced)
    packed = arbitrary(gzip.compress(whole, 1)) if is_packed else edits
    explore(
        check,
        num_examples,
        content=edits | packed | arbitrary(whole, b",", b"\n", b'"', b"label", b"\xff"),
        is_repacked=st.just(True) | st.booleans(),
        column=st.sampled_from([None, None, 0, -1, 9999, "label", "x"]),
    )


@few_or_many
def test_a_png_is_an_image_or_refused(num_examples: int, tmp_path: Path) -> None:
    whole = png(SPLITS["train"][0][0])
    path = tmp_path / "3" / "x.png"
    path.parent.mkdir()

    def check(content: bytes, is_mended: bool) -> None:
        path.write_bytes(with_checksums(content) if is_mended else content)
        with peak_memory(at_most=2 * ROOM):
            read_or_refuse("folder", [tmp_path])

    tokens = (b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"zTXt", b"iCCP", b"acTL", b"IEND", b"\0" * 9)
    explore(check, num_examples, content=arbitrary(whole, *tokens), is_mended=st.booleans())


def with_checksums(content: bytes) -> bytes:
    """Recompute the checksums of the chunks of a PNG, as far as it has chunks."""
    place, mended = 8, content[:8]
    while place + 8 <= len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        chunk = content[place + 4 : place + 8 + size]
        mended += content[place : place + 4] + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        place += 12 + size
    return mended


@few_or_many
@pytest.mark.parametrize("form", ["bytes", "fixed list", "tensor", "png and path"])
def test_user_parquet_is_images_and_labels_or_refused(
    form: str, num_examples: int, tmp_path: Path
) -> None:
    (path, _) = write_parquet(tmp_path, SPLITS, form)
    whole = path.read_bytes()

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with peak_memory(at_most=2 * ROOM):
            read_or_refuse("parquet", [path])

    with arrow_memory(at_most=2**31 + 100 * ROOM):
        content = arbitrary(whole, b"PAR1", b"image", b"\x15\x00", b"list")
        explore(check, num_examples // 2, content=content)


@few_or_many
def test_a_gz_file_with_one_change_is_refused_or_decompresses_to_the_same(
    num_examples: int,
) -> None:
    plain = FILES["test-labels"]

    def check(content: bytes) -> None:
        with contextlib.suppress(DataError):
            assert decompress(content, ROOM, "a file") == plain

    explore(check, num_examples, content=one_change(gzip.compress(plain, mtime=0)))


@few_or_many
def test_a_gz_file_is_decompressed_within_its_bound_or_refused(num_examples: int) -> None:
    def check(content: bytes, limit: int) -> None:
        with peak_memory(at_most=ROOM), contextlib.suppress(DataError):
            assert len(decompress(content, limit, "a file")) <= limit

    bomb = gzip.compress(bytes(10 * ROOM), mtime=0)
    explore(
        check,
        num_examples,
        content=arbitrary(bomb) | arbitrary(gzip.compress(FILES["test-images"], mtime=0)),
        limit=st.integers(0, 100_000),
    )


@few_or_many
def test_an_npz_with_one_change_is_refused_or_means_the_same(num_examples: int) -> None:
    def check(content: bytes) -> None:
        with contextlib.suppress(DataError):
            assert read_npz(content, SHAPE, "a file") == FILES

    explore(check, num_examples, content=one_change(npz(SPLITS)))


@few_or_many
def test_an_npz_is_four_arrays_or_refused(num_examples: int) -> None:
    member, whole = npy(SPLITS["train"][0]), npz(SPLITS)
    tokens = (b"'descr'", b"'|O'", b"(" * 60, b"9" * 20, b"-1", b"L", b"{", b"\n", b"True", b"0, ")

    def check(content: bytes) -> None:
        with warnings.catch_warnings(), peak_memory(at_most=2 * ROOM):
            # numpy warns about headers written by Python 2.
            warnings.simplefilter("ignore", UserWarning)
            try:
                files = read_npz(content, SHAPE, "a file")
            except DataError:
                return
        for role in ROLES:
            with contextlib.suppress(DataError):
                assert format_idx(parse_idx(files[role], role)) == files[role]

    headers = many_changes(member[:128], *tokens).map(
        lambda header: npz_of_members({"x_train": header + member[128:]})
    )
    directory = b"PK\x01\x02" + bytes(42)
    explore(check, num_examples, content=headers | arbitrary(whole, b"PK\x05\x06", directory * 50))


@few_or_many
def test_a_package_with_one_change_is_refused_or_means_the_same(num_examples: int) -> None:
    def check(content: bytes) -> None:
        with contextlib.suppress(DataError):
            assert read_package(content, "data", SHAPE, "a package") == FILES

    explore(check, num_examples, content=one_change(gzip.compress(tar(FILES), mtime=0)))


@few_or_many
def test_a_package_is_four_files_or_refused(num_examples: int) -> None:
    archive = tar(FILES)
    longname = b"././@LongLink".ljust(100, b"\0")
    tokens = (archive[:512], bytes(512), longname, b"00000000000\0", b"77777777777\0", b"L", b"x")

    def check(content: bytes) -> None:
        with peak_memory(at_most=2 * ROOM):
            try:
                files = read_package(gzip.compress(content, 1), "data", SHAPE, "a package")
            except DataError:
                return
        assert files.keys() == set(ROLES)
        assert sum(map(len, files.values())) <= len(content)

    explore(check, num_examples, content=arbitrary(archive, *tokens))


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parquet") / "train.parquet"
    write_split(path, *SPLITS["train"])
    return path


@few_or_many
def test_parquet_with_one_change_is_refused_or_means_the_same(
    num_examples: int, parquet: Path
) -> None:
    images, labels = SPLITS["train"]
    damaged = parquet.with_name("damaged.parquet")

    def check(content: bytes) -> None:
        damaged.write_bytes(content)
        try:
            read_images, read_labels = read_split(damaged, LAYOUT)
        except DamagedError:
            return
        np.testing.assert_array_equal(read_images, images)
        np.testing.assert_array_equal(read_labels, labels)

    explore(check, num_examples, content=one_change(parquet.read_bytes()))


@few_or_many
def test_parquet_is_images_and_labels_or_refused(num_examples: int, parquet: Path) -> None:
    whole, damaged = parquet.read_bytes(), parquet.with_name("damaged.parquet")

    def check(content: bytes) -> None:
        damaged.write_bytes(content)
        with contextlib.suppress(DamagedError):
            images, labels = read_split(damaged, LAYOUT)
            assert images.shape == (len(labels), *SHAPE)

    with arrow_memory(at_most=2**31 + 100 * ROOM):
        explore(check, num_examples, content=arbitrary(whole, b"PAR1", b"image", b"\x15\x00"))


CONTENT = "[content]\n" + "".join(f'{role} = "{"0" * 64}"\n' for role in ROLES)
SOURCES = """
[[sources]]
kind = "folder"
path = "../elsewhere"
[[sources]]
kind = "npm"
package = "p"
version = "1.0.0"
folder = "data"
[[sources]]
kind = "idx"
url = "http://127.0.0.1/idx"
"""
VALUES = (
    st.text(max_size=5).map(lambda text: "'''" + text.replace("'", "") + "'''")
    | st.floats().map(str)
    | st.integers().map(str)
    | st.sampled_from(["[]", "{}", "{a=1}", "[[1]]", "true", "1979-05-27", "inf", "nan", "1e400"])
    | st.sampled_from(['"\\u0000"', '"~nobody/x"', '"../.."', '"/dev"', "[" * 3000, "9" * 5000])
)


def specs() -> st.SearchStrategy[bytes]:
    """Dataset specs with values of other types or corrupted text."""
    lines = (SPEC + CONTENT + SOURCES).split("\n")

    def replaced(edits: list[tuple[int, str]]) -> bytes:
        text = [*lines]
        for place, value in edits:
            text[place] = f"{text[place].partition('=')[0]}= {value}"
        return "\n".join(text).encode("utf-8", "surrogatepass")

    edits = st.lists(st.tuples(st.integers(0, len(lines) - 1), VALUES), max_size=4)
    return edits.map(replaced) | arbitrary(
        "\n".join(lines).encode(), b"\n", b'"', b"[", b"=", b"\\u"
    )


@few_or_many
def test_a_dataset_spec_is_usable_or_refused(num_examples: int, settings: Settings) -> None:
    write_small_dataset(settings)
    path = write_spec(settings, "")

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            spec = load_spec(NAME, settings)
        except UsageError as error:
            is_one_line(error, path)
            return
        assert DatasetSpec.model_validate_json(spec.model_dump_json()) == spec
        assert NAMES.fullmatch(spec.name)
        local = tuple(source for source in spec.sources if source.kind == "folder")
        spec = spec.model_copy(update={"sources": local})
        with contextlib.suppress(DataError):
            content = content_of(spec, settings)
            with opened(spec, content, settings) as files:
                list(read_chunks(files, spec, Defects()))

    explore(check, num_examples, content=specs())


def write_ledger(settings: Settings) -> Ledger:
    """A ledger of three decisions: first champion, champion kept, second champion."""
    ledger = Ledger(NAME, settings)
    for before, after in ((None, 1), (1, 1), (1, 2)):
        verdict = Verdict(
            outcome="kept" if before == after else "promoted",
            reason="it is more accurate",
            rule="higher accuracy",
            candidate="mlp",
            candidate_digest=f"{after}" * 64,
            candidate_accuracy=0.9,
            champion_before=before,
            champion_after=after,
        )
        version = None if before == after else make_version(after)
        with ledger.deciding() as deciding:
            deciding.append(verdict, run="a run", data_digest="0" * 64, version=version)
    return ledger


def make_version(number: int) -> ModelVersion:
    digest = f"{number}" * 64
    model = ModelRef(
        digest=digest,
        model="mlp",
        num_parameters=9,
        settings=training_settings("reference", "mlp"),
        device="cpu",
        seconds=1.5,
    )
    evaluation = EvaluationRef(
        digest="a" * 64,
        model="mlp",
        model_digest=digest,
        test_digest="b" * 64,
        num_parameters=9,
        num_images=10,
        num_correct=9,
        accuracy=0.9,
        interval=(0.6, 1.0),
        loss=0.3,
    )
    return ModelVersion(number=number, model=model, evaluation=evaluation, lineage="c" * 64)


@few_or_many
@pytest.mark.parametrize("damage", ["one change", "lines", "arbitrary"])
def test_a_ledger_is_read_as_written_or_refused(
    damage: str, num_examples: int, settings: Settings
) -> None:
    ledger = write_ledger(settings)
    written, whole = ledger.entries(), ledger.path.read_bytes()
    lines = whole.splitlines(keepends=True)

    def check(content: bytes) -> None:
        ledger.path.write_bytes(content)
        try:
            entries = ledger.entries()
        except LedgerError as error:
            is_one_line(error, ledger.path)
            return
        # An incomplete last line was never in force.
        assert entries == written[: len(entries)]
        champion = ledger.champion()
        assert (champion is None) == (not entries)
        assert ledger.versions().keys() <= {1, 2}

    tokens = (b'"format":1', b'"format":3', b"NaN", b"null", b"[" * 3000, b"9" * 5000, *lines)
    strategies = {
        "one change": one_change(whole),
        "lines": st.lists(st.sampled_from(lines), max_size=5).map(b"".join),
        "arbitrary": arbitrary(whole, *tokens),
    }
    explore(check, num_examples, content=strategies[damage])
