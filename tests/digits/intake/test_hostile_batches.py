"""Batches that are made to stop the runs, to read other files, or to be deleted unread."""

import gzip
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from digits.datasets.versions import DatasetVersions
from digits.intake import additions, batch_files, contents
from digits.intake.additions import add_all_incoming, add_batch
from digits.intake.incoming import Addition, describe_versions, incoming_folder
from digits.settings import Settings
from digits.spec import DatasetSpec, load_spec
from digits.storage.workspace import Workspace
from tests.support.handwriting import SHAPE, make_more
from tests.support.layouts import write_folders
from tests.support.names import HOSTILE_NAMES, is_inert
from tests.support.small_dataset import NAME

SECRET = "a-label-of-a-private-file"


@pytest.fixture
def workspace(small_dataset: Settings) -> Workspace:
    return Workspace(small_dataset)


@pytest.fixture
def spec(workspace: Workspace) -> DatasetSpec:
    return load_spec(NAME, workspace.settings)


@pytest.fixture
def incoming(workspace: Workspace) -> Path:
    folder = incoming_folder(NAME, workspace.settings)
    folder.mkdir(parents=True)
    return folder


def save(path: Path, seed: int) -> None:
    images, labels = make_more(60, seed)
    np.savez(path, x_train=images, y_train=labels)


def page_of(addition: Addition) -> str:
    assert addition.page is not None
    return addition.page.read_text(encoding="utf-8")


def add_with_a_good_one(
    incoming: Path, spec: DatasetSpec, workspace: Workspace
) -> tuple[Addition, ...]:
    """Add what is in the incoming folder, and check that a good batch after it is added."""
    save(incoming / "zz-good.npz", 7)
    *others, good = add_all_incoming(spec, workspace)
    assert good.status == "accepted"
    assert not list(incoming.iterdir())
    return tuple(others)


def test_a_batch_that_is_replaced_while_it_is_read_is_added_and_so_is_the_new_one(
    incoming: Path, spec: DatasetSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(incoming / "a.npz", 1)
    read = additions.read_rows

    def replace_and_read(*arguments: object) -> object:
        save(incoming / "a.npz", 2)
        return read(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(additions, "read_rows", replace_and_read)
        (first,) = add_all_incoming(spec, workspace)
    (second,) = add_all_incoming(spec, workspace)

    assert (first.status, second.status) == ("accepted", "accepted")
    assert first.batch != second.batch
    assert first.source == second.source == str(incoming / "a.npz")


def test_a_batch_claimed_by_a_killed_process_waits_visibly_and_is_added_by_the_next(
    incoming: Path, spec: DatasetSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(incoming / "a.npz", 1)
    with monkeypatch.context() as patched:
        # A killed process cleans nothing up.
        patched.setattr("digits.intake.claims.Claim.put_back", lambda _: None)
        patched.setattr(additions, "read_rows", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            list(add_all_incoming(spec, workspace))
    assert not (incoming / "a.npz").exists()
    assert describe_versions(NAME, workspace.settings)["waiting"] == ["a.npz"]

    (added,) = add_all_incoming(spec, workspace)

    assert added.status == "accepted"
    assert not list(incoming.iterdir())


def test_a_batch_that_kills_its_reader_again_and_again_is_refused_unread(
    incoming: Path, spec: DatasetSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(incoming / "a.npz", 1)
    read = additions.read_rows

    def die_of_a(paths: list[Path], *others: object) -> object:
        if paths[0].name == "a.npz":
            raise SystemExit
        return read(paths, *others)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        # A killed process cleans nothing up.
        patched.setattr("digits.intake.claims.Claim.put_back", lambda _: None)
        patched.setattr(additions, "read_rows", die_of_a)
        for _ in range(3):
            with pytest.raises(SystemExit):
                list(add_all_incoming(spec, workspace))

        (bad,) = add_with_a_good_one(incoming, spec, workspace)

    assert bad.status == "quarantined"
    assert "ended the process that read it 3 times" in bad.reasons[0]
    assert bad.page is not None
    assert (bad.page.parent / "originals" / "a.npz").exists()


@pytest.mark.parametrize("error", [MemoryError("8 GB"), RecursionError("deep"), KeyError("x")])
def test_whatever_reading_a_batch_raises_quarantines_it_with_the_reason(
    error: Exception,
    incoming: Path,
    spec: DatasetSpec,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save(incoming / "a.npz", 1)
    read = additions.read_rows

    def fail_on_a(paths: list[Path], *others: object) -> object:
        if paths[0].name == "a.npz":
            raise error
        return read(paths, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(additions, "read_rows", fail_on_a)

    (bad,) = add_with_a_good_one(incoming, spec, workspace)

    assert bad.status == "quarantined"
    assert type(error).__name__ in bad.reasons[0]
    assert bad.page is not None
    assert (bad.page.parent / "originals" / "a.npz").exists()


def test_deeply_nested_folders_are_refused(
    incoming: Path, spec: DatasetSpec, workspace: Workspace
) -> None:
    here = os.open(incoming, os.O_RDONLY)
    for _ in range(1500):  # deeper than Python can recurse, and than a path can be long
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)

    (bad,) = add_with_a_good_one(incoming, spec, workspace)

    assert bad.status == "quarantined"
    assert "nested 9 folders deep" in bad.reasons[0]
    subprocess.run(["rm", "-rf", workspace.settings.data_dir], check=True)  # pytest cannot


def test_more_bytes_than_a_batch_can_have_are_never_read_nor_copied(
    incoming: Path,
    spec: DatasetSpec,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    digest = contents.file_digest
    monkeypatch.setattr(contents, "file_digest", lambda p: opened.append(p.name) or digest(p))
    for folder in (incoming, tmp_path):
        with (folder / "huge.npz").open("wb") as file:
            file.truncate(40 * 10**9)

    (bad,) = add_with_a_good_one(incoming, spec, workspace)
    by_hand = add_batch([tmp_path / "huge.npz"], spec, workspace)

    assert bad.status == by_hand.status == "quarantined"
    assert "40,000,000,000 bytes" in bad.reasons[0]
    assert "huge.npz" not in opened
    assert bad.page is not None
    assert by_hand.page is not None
    assert (bad.page.parent / "originals" / "huge.npz").exists()
    assert not list((by_hand.page.parent / "originals").iterdir())


def test_too_many_files_are_refused(
    incoming: Path, spec: DatasetSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "MAX_FILES", 50)
    write_folders(incoming / "tree", {"train": make_more(60, 1)})

    (bad,) = add_with_a_good_one(incoming, spec, workspace)

    assert "at most 50 files in a batch" in bad.reasons[0]


def test_a_small_file_of_too_many_rows_is_not_read_to_its_end(
    incoming: Path, spec: DatasetSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_files, "MAX_PIXELS", 10**6)
    image = bytes(range(SHAPE[0] * SHAPE[1]))
    column = pa.DictionaryArray.from_arrays(np.zeros(300_000, np.int32), pa.array([image]))
    table = pa.table({"image": column.dictionary_decode(), "label": np.zeros(300_000, np.uint8)})
    pq.write_table(table, incoming / "equal.parquet")
    assert (incoming / "equal.parquet").stat().st_size < 10**5
    taken: list[int] = []
    read = batch_files.read_files

    def counted(*arguments: object) -> object:
        for chunk in read(*arguments):  # type: ignore[arg-type]
            taken.append(len(chunk.images))
            yield chunk

    monkeypatch.setattr(batch_files, "read_files", counted)

    (bad,) = add_with_a_good_one(incoming, spec, workspace)

    assert "(unbounded)" in bad.reasons[0]
    assert "split it into batches" in bad.reasons[0]
    assert sum(taken) < 20_000


@pytest.mark.parametrize("content", [b"\n", b"\0", b"1,2\n"])
def test_a_compressed_file_of_almost_nothing_is_refused(
    content: bytes,
    incoming: Path,
    spec: DatasetSpec,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("digits.datasets.sources.raw_files.SMALL_BYTES", 10**6)
    monkeypatch.setattr("digits.datasets.formats.tables.csv_dialects.MAX_LINES", 10**5)
    with gzip.open(incoming / "bomb.csv.gz", "wb") as file:
        file.write(content * (2 * 10**7 // len(content)))

    (bad,) = add_with_a_good_one(incoming, spec, workspace)

    assert bad.status == "quarantined"


def make_link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def make_folder_with_link(path: Path, target: Path) -> None:
    write_folders(path, {"train": make_more(60, 1)})
    (next(path.glob("*/*")).parent / "zz.png").symlink_to(target)


def make_link_to_folder(path: Path, target: Path) -> None:
    path.symlink_to(target.parent, target_is_directory=True)


@pytest.mark.parametrize("make", [make_link, make_folder_with_link, make_link_to_folder])
def test_a_link_is_refused_and_its_target_never_opened(
    make: Callable[[Path, Path], None],
    incoming: Path,
    spec: DatasetSpec,
    workspace: Workspace,
    tmp_path: Path,
) -> None:
    (tmp_path / "private").mkdir()
    private = tmp_path / "private" / "p.csv"
    pixels = ",".join(["0"] * (SHAPE[0] * SHAPE[1]))
    private.write_text(f"{SECRET},{pixels}\n")
    make(incoming / "a.csv", private)

    (bad,) = add_with_a_good_one(incoming, spec, workspace)

    assert bad.status == "quarantined"
    assert "is a symbolic link" in bad.reasons[0]
    assert SECRET not in page_of(bad) + bad.describe()
    assert private.exists()


def test_links_and_pipes_do_not_share_a_page(
    incoming: Path, spec: DatasetSpec, workspace: Workspace, tmp_path: Path
) -> None:
    for name in ("a.npz", "b.npz"):
        (incoming / name).symlink_to(tmp_path / "nowhere.npz")
    for name in ("c.npz", "d.npz"):
        os.mkfifo(incoming / name)

    refused = add_with_a_good_one(incoming, spec, workspace)

    assert len({addition.page for addition in refused}) == 4
    for name, addition in zip("abcd", refused, strict=True):
        assert f"{name}.npz" in page_of(addition)
        assert addition.page is not None
        (kept,) = (addition.page.parent / "originals").iterdir()
        assert kept.name == f"{name}.npz"
        assert not stat.S_ISREG(kept.lstat().st_mode)


def test_hostile_names_of_batches_are_inert_in_results_and_messages(
    incoming: Path, spec: DatasetSpec, workspace: Workspace
) -> None:
    for name in HOSTILE_NAMES:
        (incoming / f"{name}.npz").write_bytes(b"no archive: " + os.fsencode(name))

    refused = list(add_all_incoming(spec, workspace))

    assert len(refused) == len(HOSTILE_NAMES)
    for addition in refused:
        assert addition.status == "quarantined"
        assert addition.page is not None
        result = (addition.page.parent / "result.json").read_text(encoding="utf-8")
        assert is_inert(addition.describe())
        assert is_inert(json.dumps(json.loads(result), ensure_ascii=False))
        assert is_inert(page_of(addition).replace("\n", ""))


def test_a_batch_with_a_hostile_name_can_be_added_shown_and_removed(
    incoming: Path, spec: DatasetSpec, workspace: Workspace
) -> None:
    name = "".join(HOSTILE_NAMES).replace("\n", "")[:200]
    save(incoming / "a.npz", 1)
    (incoming / "a.npz").rename(incoming / f"{name}.npz")

    (added,) = add_all_incoming(spec, workspace)

    versions = DatasetVersions(NAME, workspace.settings)
    shown = json.dumps(describe_versions(NAME, workspace.settings), ensure_ascii=False)
    assert is_inert(added.describe() + shown)
    assert is_inert(
        versions.folder.with_suffix(".jsonl").read_text(encoding="utf-8").replace("\n", "")
    )
    with versions.changing() as changing:
        changing.remove(added.batch)
    assert versions.current().batches == ()
