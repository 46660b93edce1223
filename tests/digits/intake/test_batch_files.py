"""All files of a batch are read, or it is refused and what would be left out is named."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from digits.datasets.sources.idx import format_idx
from digits.intake.additions import add_all_incoming
from digits.intake.batch_files import read_rows
from digits.intake.incoming import incoming_folder
from digits.settings import Settings
from digits.spec import load_spec
from digits.storage.workspace import Workspace
from tests.support.handwriting import make_more
from tests.support.layouts import make_spec, png
from tests.support.small_dataset import NAME

IMAGES, LABELS = make_more(60, seed=7)


def idx(folder: Path, name: str, span: slice, *, packed: bool = False) -> None:
    for kind, array in (("images", IMAGES[span]), ("labels", LABELS[span])):
        content = format_idx(array)
        path = folder / f"{name}{kind}.idx{'.gz' * packed}"
        path.write_bytes(gzip.compress(content) if packed else content)


def csv(folder: Path, name: str, span: slice) -> None:
    rows = np.column_stack([LABELS[span], IMAGES[span].reshape(len(LABELS[span]), -1)])
    np.savetxt(folder / name, rows, delimiter=",", fmt="%d")


def tree(folder: Path, span: slice) -> None:
    for row, (image, label) in enumerate(zip(IMAGES[span], LABELS[span], strict=True)):
        path = folder / str(label) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))


def hive(folder: Path) -> None:
    for label in sorted(set(LABELS.tolist())):
        here = folder / f"label={label}" / "part-0.parquet"
        here.parent.mkdir()
        images = [image.tobytes() for image in IMAGES[label == LABELS]]
        pq.write_table(pa.table({"image": pa.array(images, pa.binary())}), here)
    (folder / "_SUCCESS").touch()


def two_pairs(folder: Path) -> None:
    idx(folder, "monday-", slice(20))
    idx(folder, "tuesday-", slice(20, 60), packed=True)


def parts(folder: Path) -> None:
    csv(folder, "one.csv", slice(20))
    (folder / "more").mkdir()
    csv(folder / "more", "one.csv", slice(20, 60))


def split_tree(folder: Path) -> None:
    tree(folder / "train", slice(20))
    tree(folder / "validation", slice(20, 60))


@pytest.mark.parametrize("write", [two_pairs, parts, split_tree, hive])
def test_all_parts_of_a_batch_are_read(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)

    rows, findings = read_rows([tmp_path], make_spec("npz", validation="leave-out"))

    assert rows is not None
    assert findings == []
    assert sorted(rows.labels.tolist()) == sorted(LABELS.tolist())
    names = {rows.name(row) for row in range(len(rows.labels))}
    assert len(names) == 60


def two_images(folder: Path) -> None:
    idx(folder, "", slice(20))
    (folder / "train-images.idx").write_bytes(format_idx(IMAGES[20:]))
    (folder / "images.idx.gz").write_bytes(gzip.compress(format_idx(IMAGES[20:])))


def mixed(folder: Path) -> None:
    idx(folder, "", slice(20))
    csv(folder, "more.csv", slice(20, 60))


def loose(folder: Path) -> None:
    tree(folder, slice(60))
    (folder / "loose.png").write_bytes(png(IMAGES[0]))


def noted(folder: Path) -> None:
    tree(folder, slice(60))
    (folder / "0" / "notes.txt").write_text("by hand")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (two_images, "images.idx.gz has images, but so has "),
        (mixed, "several layouts found (csv, idx)"),
        (loose, "has pictures beside its class folders"),
        (noted, "notes.txt starts with"),
    ],
)
def test_a_batch_with_a_part_that_would_be_left_out_is_kept_whole(
    write: Callable[[Path], None], said: str, small_dataset: Settings
) -> None:
    # With file_type as a warning, a file that is no picture would be skipped, and then deleted.
    path = small_dataset.datasets_dirs[0] / f"{NAME}.toml"
    path.write_text(f'{path.read_text()}\n[thresholds.severity]\nfile_type = "warning"\n')
    batch = incoming_folder(NAME, small_dataset) / "march"
    batch.mkdir(parents=True)
    write(batch)
    before = {path.relative_to(batch): path.read_bytes() for path in batch.rglob("*.*")}

    (addition,) = add_all_incoming(load_spec(NAME, small_dataset), Workspace(small_dataset))

    assert addition.status == "quarantined"
    assert any(said in reason for reason in addition.reasons), addition.reasons
    assert addition.page is not None
    kept = addition.page.parent / "originals" / "march"
    assert {path.relative_to(kept): path.read_bytes() for path in kept.rglob("*.*")} == before
