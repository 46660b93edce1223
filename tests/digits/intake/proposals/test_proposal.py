"""A spec proposed from files: what it assumes, what it refuses, and that the files pass it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from digits.datasets.defects import Defects
from digits.datasets.formats.readers import read_chunks
from digits.datasets.sources.idx import format_idx
from digits.errors import DataError, UsageError
from digits.intake.proposals.proposal import Proposal, Wishes, propose
from digits.labeling.centering import centered
from digits.layouts import LAYOUTS
from digits.settings import Settings
from digits.spec import load_spec
from digits.thresholds import SPLITS, DefectName
from digits.validation.centroids import compute_centroids
from digits.validation.dataset_validation import validate_dataset
from tests.support.handwriting import Splits, make_splits, write_dataset
from tests.support.layouts import WRITERS, png, write_csv, write_folders, write_npz, write_parquet

SPLITS_OF_BOTH = make_splits()


def look(settings: Settings, place: Path, **wishes: Any) -> Proposal:
    return propose("mine", place, Wishes(**wishes), settings, centered)


def written(layout: str, folder: Path, splits: Splits | None = None) -> Path:
    folder.mkdir(parents=True)
    WRITERS[layout](folder, splits or SPLITS_OF_BOTH)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_contents_of_every_layout_are_detected(
    layout: str, settings: Settings, tmp_path: Path
) -> None:
    place = written(layout, tmp_path / "files")

    proposal = look(settings, place)

    spec = load_spec("mine", settings)
    assert proposal.spec == spec
    assert spec.file_layout == layout
    assert spec.image_shape == (12, 12)
    assert spec.layout.class_names == tuple("0123456789")
    assert spec.pixel_range == (0, 255)
    assert proposal.counts == {"train": 600, "test": 200}
    assert [str(source.path) for source in spec.sources if source.kind == "folder"] == [str(place)]
    assert proposal.facts()["test_share"] is None


@pytest.mark.parametrize("layout", ["npz", "idx"])
def test_the_same_images_pass_the_bounds_and_damaged_ones_do_not(
    layout: str, settings: Settings, tmp_path: Path
) -> None:
    look(settings, written(layout, tmp_path / "files"))
    spec = load_spec("mine", settings)
    splits = make_splits()

    def failures(name: str) -> set[str]:
        folder = write_dataset(splits, tmp_path / name)
        outcome = validate_dataset(
            folder, spec.layout, spec.thresholds, folder, settings.datasets_dirs
        )
        return {finding.check for finding in outcome.failures}

    assert failures("intact") == set()
    images, labels = splits["train"]
    splits["train"] = (255 - images, labels)
    assert {"max_ink", "ink", "mean_pixel"} & failures("inverted")
    splits["train"] = (images, np.roll(labels, 1))
    assert "centroid_accuracy" in failures("shuffled")


def test_files_in_the_raw_folder_need_no_source(settings: Settings) -> None:
    written("npz", settings.raw_dir / "mine")

    assert look(settings, settings.raw_dir / "mine").spec.sources == ()


def test_without_a_test_split_one_is_made_and_reported(settings: Settings, tmp_path: Path) -> None:
    place = written("csv", tmp_path / "files", {"train": SPLITS_OF_BOTH["train"]})

    proposal = look(settings, place, test_share=0.3)

    assert proposal.spec.test_share == 0.3
    assert sum(proposal.counts.values()) == 600
    # Four standard errors of a fair draw.
    assert abs(proposal.counts["test"] - 180) < 4 * np.sqrt(600 * 0.3 * 0.7)
    assert "by a hash of each image's pixels" in proposal.assumptions()["split"]


@pytest.mark.parametrize("layout", ["folder", "csv", "idx", "npz"])
@pytest.mark.parametrize("has_test", [True, False])
def test_validation_data_is_training_data_or_left_out_and_never_test_data(
    layout: str, has_test: bool, settings: Settings, tmp_path: Path
) -> None:
    images, labels = SPLITS_OF_BOTH["train"]
    splits: dict[Any, Any] = {"train": (images[:400], labels[:400])}
    if has_test:
        splits["test"] = SPLITS_OF_BOTH["test"]
    place = written(layout, tmp_path / "files", splits)
    add_validation(layout, place, images[400:], labels[400:])

    kept = propose("kept", place, Wishes(), settings, centered)
    left = propose("left", place, Wishes(validation="leave-out"), settings, centered)

    num = {"train": 400, "test": 200} if has_test else left.counts
    assert sum(left.counts.values()) == 400 + 200 * has_test
    assert left.counts == num
    assert kept.counts == {"train": num["train"] + 200, "test": num["test"]}
    assert ("as in the files" in kept.assumptions()["split"]) == has_test
    assert "validation data (" in kept.assumptions()["split"]
    assert "is left out" in left.assumptions()["split"]
    assert load_spec("left", settings).validation == "leave-out"


def add_validation(layout: str, place: Path, images: Any, labels: Any) -> None:
    """Add a third split under one of its usual names."""
    splits: dict[Any, Any] = {"valid": (images, labels)}
    if layout == "idx":
        (place / "val-images.idx").write_bytes(format_idx(images))
        (place / "val-labels.idx").write_bytes(format_idx(labels))
    elif layout == "npz":
        with np.load(place / "digits.npz") as arrays:
            np.savez(place / "digits.npz", **arrays, x_val=images, y_val=labels)
    else:
        WRITERS[layout](place, splits)


def test_what_is_read_is_what_was_named(settings: Settings, tmp_path: Path) -> None:
    written("npz", settings.raw_dir / "mine")
    others = {
        split: (images, (labels + 1) % 10) for split, (images, labels) in make_splits().items()
    }
    place = written("npz", tmp_path / "files", others)

    with pytest.raises(DataError, match=rf"different files in {settings.raw_dir}/mine and {place}"):
        look(settings, place)
    assert not (settings.datasets_dirs[0] / "mine.toml").exists()

    # Inside the raw folder, too, one of several sets can be named.
    for name in ("usps", "other"):
        folder = written("idx", tmp_path / name)
        for path in folder.iterdir():
            (settings.raw_dir / "sets").mkdir(exist_ok=True)
            path.rename(settings.raw_dir / "sets" / f"{name}-{path.name}")
    named = settings.raw_dir / "sets" / "usps-test-labels.idx"
    assert propose("sets", named, Wishes(), settings, centered).counts == {
        "train": 600,
        "test": 200,
    }
    assert load_spec("sets", settings).sources[0].model_dump()["path"] == named


def test_what_is_beside_the_files_is_mentioned(settings: Settings, tmp_path: Path) -> None:
    place = written("csv", tmp_path / "files")
    (place / "README.md").write_text("About")

    assert look(settings, place).assumptions()["not read"] == str(place / "README.md")
    named = propose("named", place / "train.csv", Wishes(), settings, centered)
    assert named.facts()["not_read"] == [str(place / "test.csv")]
    assert "by a hash" in named.assumptions()["split"]


def test_classes_are_named_after_their_folders(settings: Settings, tmp_path: Path) -> None:
    names = "jihgfedcba"
    (tmp_path / "files").mkdir()
    write_folders(tmp_path / "files", SPLITS_OF_BOTH, names=names)

    assert look(settings, tmp_path / "files").spec.class_names == tuple(sorted(names))


def test_numbers_that_do_not_start_at_0_are_names(settings: Settings, tmp_path: Path) -> None:
    shifted = {split: (images, labels * 3 + 1) for split, (images, labels) in make_splits().items()}
    place = written("npz", tmp_path / "files", shifted)

    assert look(settings, place).spec.class_names == tuple(str(3 * n + 1) for n in range(10))


@pytest.mark.parametrize("place", [0, 144])
def test_the_label_column_of_a_csv_without_a_header_is_found(
    place: int, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    for path in write_csv(tmp_path / "files", SPLITS_OF_BOTH, header=False):
        rows = [line.split(",") for line in path.read_text().splitlines()]
        moved = [[*row[1 : place + 1], row[0], *row[place + 1 :]] for row in rows]
        path.write_text("\n".join(map(",".join, moved)))

    proposal = look(settings, tmp_path / "files")

    assert proposal.spec.label_column == (0 if place == 0 else -1)
    assert proposal.spec.num_classes == 10


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(1 / 255, (0, 1)), (16 / 255, (0, 16)), (1.0, (0, 255)), (257.0, (0, 65535))],
)
def test_the_pixel_range_is_derived_from_the_brightest_pixel(
    scale: float, expected: tuple[int, int], settings: Settings, tmp_path: Path
) -> None:
    scaled = {f"x_{split}": SPLITS_OF_BOTH[split][0].astype(np.float64) * scale for split in SPLITS}
    (tmp_path / "files").mkdir()
    write_npz(tmp_path / "files", SPLITS_OF_BOTH, **scaled)

    assert look(settings, tmp_path / "files").spec.pixel_range == expected


def test_images_that_are_not_square_need_their_size(settings: Settings, tmp_path: Path) -> None:
    rows = {
        split: (images[:, :10].reshape(len(images), -1)[:, :, None], labels)
        for split, (images, labels) in make_splits().items()
    }
    place = written("csv", tmp_path / "files", rows)

    with pytest.raises(DataError, match="120 pixels are not a square; set the size with"):
        look(settings, place)

    assert look(settings, place, image_shape=(10, 12)).spec.image_shape == (10, 12)


@pytest.mark.parametrize("name", ["mnist", "mine"])
def test_an_existing_spec_is_never_overwritten(
    name: str, settings: Settings, tmp_path: Path
) -> None:
    place = written("npz", tmp_path / "files")
    look(settings, place)
    before = (settings.datasets_dirs[0] / "mine.toml").read_bytes()

    message = f"dataset {name} already exists; its spec was not overwritten"
    with pytest.raises(UsageError, match=message):
        propose(name, place, Wishes(), settings, centered)

    assert (settings.datasets_dirs[0] / "mine.toml").read_bytes() == before


REFUSALS = {
    "a wrong name": (lambda _: None, "'../x': invalid dataset name", UsageError),
    "no files": (lambda _: None, "not found; --from must name", UsageError),
    "an empty folder": (lambda place: place.mkdir(), "no supported files found", DataError),
    "one class": (
        lambda place: written("npz", place, only([3])),
        "only one class, 3 (expected two or more)",
        DataError,
    ),
    "a class without a test image": (
        lambda place: written("npz", place, lacking(3)),
        "test split of 180 images: 1 of the 10 classes missing (3); add images of them",
        DataError,
    ),
    "images too small": (
        lambda place: written("npz", place, sized(5)),
        "image size 5 x 5 out of range (expected 8 x 8 to 64 x 64 pixels)",
        DataError,
    ),
    "images too large": (
        lambda place: written("npz", place, sized(65)),
        "x_train has 9 x 65 x 65 values, expected N x 64 x 64 at most",
        DataError,
    ),
}


def only(classes: list[int]) -> Splits:
    return {
        split: (images[np.isin(labels, classes)], labels[np.isin(labels, classes)])
        for split, (images, labels) in make_splits().items()
    }


def lacking(label: int) -> Splits:
    images, labels = make_splits()["test"]
    return make_splits() | {"test": (images[labels != label], labels[labels != label])}


def sized(side: int) -> Splits:
    labels = np.arange(9, dtype=np.uint16)
    return dict.fromkeys(SPLITS, (np.ones((9, side, side), np.uint8), labels))


@pytest.mark.parametrize("case", REFUSALS)
def test_an_invalid_dataset_is_refused_and_leaves_no_spec(
    case: str, settings: Settings, tmp_path: Path
) -> None:
    prepare, message, kind = REFUSALS[case]
    place = tmp_path / "files"
    prepare(place)

    with pytest.raises(kind, match=re.escape(message)):
        propose("../x" if case == "a wrong name" else "mine", place, Wishes(), settings, centered)

    assert not list(settings.datasets_dirs[0].glob("*"))


def test_any_text_is_written_as_valid_toml(settings: Settings, tmp_path: Path) -> None:
    names = ['a"b', "c\\d", "é", "数", "x\x7fy", "#", "a = [", "1e5", "x\ty", "'''"]
    for number, (image, label) in enumerate(zip(*SPLITS_OF_BOTH["train"], strict=True)):
        path = tmp_path / 'fi"les' / names[label] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))

    proposal = look(settings, tmp_path / 'fi"les')

    assert set(proposal.spec.class_names) == {name.strip() for name in names}
    assert len(proposal.spec.sources) == 1


def test_one_idx_pair_with_another_prefix_is_detected(settings: Settings, tmp_path: Path) -> None:
    images, labels = SPLITS_OF_BOTH["train"]
    (tmp_path / "letters-train-images-idx3-ubyte").write_bytes(format_idx(images))
    (tmp_path / "letters-train-labels-idx1-ubyte").write_bytes(format_idx(labels))

    proposal = look(settings, tmp_path)

    assert sum(proposal.counts.values()) == 600
    assert "test_share = " in proposal.path.read_text()


def test_rows_are_left_out_as_the_refusal_advises(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    train = write_csv(tmp_path / "files", SPLITS_OF_BOTH)[0]
    lines = train.read_text().splitlines()
    # Neither a row without a label nor an unreadable one is a class or an image.
    lines[3], lines[7] = "," + lines[3].split(",", 1)[1], lines[7] + ",12"
    train.write_text("\n".join(lines))

    left_out: tuple[DefectName, ...] = ()
    for check in ("image_size", "label_missing"):
        with pytest.raises(DataError, match=f"with --leave-out {check}$"):
            look(settings, tmp_path / "files", left_out=left_out)
        left_out += (check,)
    proposal = look(settings, tmp_path / "files", left_out=left_out)

    assert proposal.counts == {"train": 598, "test": 200}
    assert proposal.spec.layout.class_names == tuple("0123456789")
    assert proposal.spec.thresholds.severity == dict.fromkeys(left_out, "warning")
    left = [remark for remark in proposal.facts()["remarks"] if remark.startswith("left out 1 ")]
    assert [re.search(rf"{train.name}, line (\d+)", remark)[1] for remark in left] == ["8", "4"]


def test_names_are_given_to_labels_that_count_from_1(settings: Settings, tmp_path: Path) -> None:
    place = written("npz", tmp_path / "files", counted_from(1))

    spec = look(settings, place, class_names=tuple("abcdefghij")).spec

    assert (spec.first_label, spec.class_names) == (1, tuple("abcdefghij"))


def test_numbers_are_names_that_can_be_replaced_in_the_spec(
    settings: Settings, tmp_path: Path
) -> None:
    place = written("npz", tmp_path / "files", counted_from(1))
    proposal = look(settings, place)
    names = "class_names = [" + ", ".join(f'"{name}"' for name in "abcdefghij") + "]\n"
    proposal.path.write_text(names + proposal.path.read_text())
    spec = load_spec("mine", settings)

    chunks = read_chunks([place / "digits.npz"], spec, Defects())

    assert proposal.spec.layout.class_names == tuple(map(str, range(1, 11)))
    labels = np.concatenate([chunk.labels for chunk in chunks if chunk.split == "train"])
    np.testing.assert_array_equal(labels, SPLITS_OF_BOTH["train"][1])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("abcdefghijk", "the number of a is not certain; set it with --first-label (0 or 1)"),
        ("abc", "labels 1 to 10 and 3 class names: more numbers than names"),
    ],
)
def test_names_that_do_not_fit_the_labels_are_refused(
    names: str, message: str, settings: Settings, tmp_path: Path
) -> None:
    place = written("npz", tmp_path / "files", counted_from(1))

    with pytest.raises(DataError, match=re.escape(message)):
        look(settings, place, class_names=tuple(names))


def test_transposed_images_are_measured_upright(settings: Settings, tmp_path: Path) -> None:
    turned = {
        split: (np.ascontiguousarray(images[:, :9].swapaxes(1, 2)), labels)
        for split, (images, labels) in make_splits().items()
    }
    place = written("npz", tmp_path / "files", turned)

    proposal = look(settings, place, transposed=True)

    assert (proposal.spec.transposed, proposal.spec.image_shape) == (True, (9, 12))
    upright = compute_centroids(
        [(SPLITS_OF_BOTH["train"][0][:, :9], SPLITS_OF_BOTH["train"][1])], 10
    )
    np.testing.assert_array_equal(proposal.measured.means, upright)


@pytest.mark.parametrize("centered", [True, False])
def test_whether_pictures_are_centered_can_be_said(
    centered: bool, settings: Settings, tmp_path: Path
) -> None:
    place = written("npz", tmp_path / "files")

    assert look(settings, place, centered=centered).spec.centered is centered


def test_a_column_of_images_can_be_chosen(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for path in write_parquet(tmp_path / "files", SPLITS_OF_BOTH):
        pq.write_table(pq.read_table(path).rename_columns(["label", "scan"]), path)

    assert look(settings, tmp_path / "files", image_column="scan").spec.image_column == "scan"


def counted_from(first: int) -> Splits:
    return {split: (images, labels + first) for split, (images, labels) in make_splits().items()}


def test_more_labels_than_a_dataset_may_have_are_refused(
    settings: Settings, tmp_path: Path
) -> None:
    rows = np.column_stack([np.arange(1001), np.ones((1001, 64))]).astype(int)
    text = "\n".join(",".join(map(str, row)) for row in rows)
    (tmp_path / "x.csv").write_text(text)

    message = r"more than 1,000 different labels up to here, such as .* --label-column"
    with pytest.raises(DataError, match=message):
        look(settings, tmp_path)
