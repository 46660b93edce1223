import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from digits.errors import DamagedError, DataError
from digits.thresholds import CheckName, Split, SplitThresholds, Thresholds
from digits.validation.centroids import Images, load_centroids
from digits.validation.dataset_validation import (
    render_page,
    validate_dataset,
    validate_frames,
    write_validation,
)
from digits.validation.findings import Finding, ValidationOutcome
from digits.validation.summary import summarize
from tests.support.handwriting import (
    LAYOUT,
    NUM_CLASSES,
    Splits,
    make_splits,
    make_thresholds,
    write_centroids,
    write_dataset,
)

FIRST_TEN = tuple(range(10))
WHOLE_SPLIT = ()

Damage = Callable[[Splits], None]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with healthy data and its frozen centroids."""
    return write_dataset(make_splits(), tmp_path_factory.mktemp("healthy"))


@pytest.fixture(scope="module")
def thresholds(healthy: Path) -> Thresholds:
    return make_thresholds(write_centroids(make_splits(), healthy))


@pytest.fixture(scope="module")
def centroids(healthy: Path, thresholds: Thresholds) -> Images:
    assert thresholds.centroids
    return load_centroids(thresholds.centroids, [healthy], LAYOUT.image_shape, NUM_CLASSES)


def run_validation(
    splits: Splits, thresholds: Thresholds, centroids: Images | None
) -> ValidationOutcome:
    chunks = {split: [pair] for split, pair in splits.items()}
    return validate_frames(summarize(chunks, centroids), thresholds, NUM_CLASSES)


def unknown_label(splits: Splits) -> None:
    splits["train"][1][[3, 14]] = NUM_CLASSES


def missing_class(splits: Splits) -> None:
    labels = splits["test"][1]
    labels[labels == 7] = 1


def blank_images(splits: Splits) -> None:
    splits["test"][0][[5, 9]] = 0


def gray_images(splits: Splits) -> None:
    for row, gray in ((5, 80), (9, 90)):
        splits["test"][0][row] = gray


def scaled_pixels(splits: Splits) -> None:
    images = splits["train"][0]
    images[:] = images > 0


def inverted_test_images(splits: Splits) -> None:
    images = splits["test"][0]
    images[::20] = 255 - images[::20]


def one_image_with_two_labels(splits: Splits) -> None:
    images, labels = splits["train"]
    images[20], labels[20] = images[3], (labels[3] + 1) % NUM_CLASSES


def inverted_colours(splits: Splits) -> None:
    np.subtract(255, splits["train"][0], out=splits["train"][0])


def gray_background(splits: Splits) -> None:
    images = splits["train"][0]
    images[11] = np.maximum(images[11], 10)


def repeated_image(splits: Splits) -> None:
    for column in splits["train"]:
        column[20] = column[3]


def shared_image(splits: Splits) -> None:
    for test_column, train_column in zip(splits["test"], splits["train"], strict=True):
        test_column[4] = train_column[7]


def retouched_shared_image(splits: Splits) -> None:
    shared_image(splits)
    image = splits["test"][0][4]
    image[image == 255] = 254
    image[0, 1] = 255


def shuffled_labels(splits: Splits) -> None:
    np.random.default_rng(1).shuffle(splits["train"][1])


def some_wrong_labels(splits: Splits) -> None:
    labels = splits["test"][1]
    labels[::8] = np.roll(labels[::8], 1)


def transposed_images(splits: Splits) -> None:
    images = splits["test"][0]
    images[:] = images.transpose(0, 2, 1).copy()


def shifted_images(splits: Splits) -> None:
    images = splits["train"][0]
    images[:] = np.roll(images, 3, axis=2)


def reorder(splits: Splits, split: Split, order: np.ndarray) -> None:
    images, labels = splits[split]
    splits[split] = (images[order], labels[order])


def sorted_by_label(splits: Splits) -> None:
    reorder(splits, "train", np.argsort(splits["train"][1], kind="stable"))


def interleaved_by_label(splits: Splits) -> None:
    by_label = np.argsort(splits["test"][1], kind="stable")
    reorder(splits, "test", by_label.reshape(NUM_CLASSES, -1).T.ravel())


def drifted_labels(splits: Splits) -> None:
    labels = splits["test"][1]
    reorder(splits, "test", np.flatnonzero((labels < 5) | (np.arange(len(labels)) % 4 == 0)))


def lost_image(splits: Splits) -> None:
    reorder(splits, "train", np.arange(len(splits["train"][1]) - 1))


@pytest.mark.parametrize(
    ("damage", "failures"),
    [
        (unknown_label, {("train", "label_unknown"): (3, 14), ("train", "class_size"): (3, 14)}),
        (
            missing_class,
            {
                ("test", "classes_present"): WHOLE_SPLIT,
                ("test", "class_size"): (3, 7, 10, 15, 20, 22, 27, 29, 35, 39),
                ("test", "label_divergence"): WHOLE_SPLIT,
            },
        ),
        (
            blank_images,
            {
                ("test", "pixel_max"): (5, 9),
                ("test", "ink"): (5, 9),
                ("test", "blank_images"): (5, 9),
                ("test", "duplicates"): (9,),
                ("test", "label_conflicts"): (5, 9),
            },
        ),
        (
            inverted_colours,
            {
                ("train", "ink"): FIRST_TEN,
                ("train", "mean_pixel"): WHOLE_SPLIT,
                ("train", "centroid_accuracy"): WHOLE_SPLIT,
                ("test", "inverted_colours"): FIRST_TEN,
            },
        ),
        (gray_background, {("train", "pixel_min"): (11,)}),
        (repeated_image, {("train", "duplicates"): (20,)}),
        (shared_image, {("train", "shared_images"): (7,), ("test", "shared_images"): (4,)}),
        (
            retouched_shared_image,
            {("train", "near_duplicates"): (7,), ("test", "near_duplicates"): (4,)},
        ),
        (shuffled_labels, {("train", "centroid_accuracy"): WHOLE_SPLIT}),
        (some_wrong_labels, {("test", "centroid_accuracy"): WHOLE_SPLIT}),
        (transposed_images, {("test", "centroid_accuracy"): WHOLE_SPLIT}),
        (shifted_images, {("train", "centroid_accuracy"): WHOLE_SPLIT}),
        (sorted_by_label, {("train", "label_repeats"): WHOLE_SPLIT}),
        (interleaved_by_label, {("test", "label_repeats"): WHOLE_SPLIT}),
        (
            drifted_labels,
            {
                ("test", "num_images"): WHOLE_SPLIT,
                ("test", "class_size"): (2, 12, 19, 22, 25, 29, 34, 37, 39, 47),
                ("test", "label_divergence"): WHOLE_SPLIT,
            },
        ),
        (lost_image, {("train", "num_images"): WHOLE_SPLIT}),
    ],
)
def test_each_kind_of_damage_fails_its_own_checks_and_the_rows_are_named(
    damage: Damage,
    failures: dict[tuple[Split, CheckName], tuple[int, ...]],
    thresholds: Thresholds,
    centroids: Images,
) -> None:
    splits = make_splits()
    damage(splits)

    outcome = run_validation(splits, thresholds, centroids)

    assert not outcome.success
    assert {(f.split, f.check): f.rows for f in outcome.failures} == failures


def test_findings_say_what_was_found_and_expected(
    thresholds: Thresholds, centroids: Images
) -> None:
    splits = make_splits()
    for damage in (unknown_label, missing_class, blank_images, lost_image):
        damage(splits)

    failures = {
        (f.split, f.check): f for f in run_validation(splits, thresholds, centroids).failures
    }

    def words(split: Split, check: CheckName) -> tuple[str, str]:
        finding: Finding = failures[split, check]
        return finding.found, finding.expected

    assert words("train", "num_images") == ("599", "600")
    assert words("train", "label_unknown") == ("10", "0 to 9")
    assert words("train", "class_size") == ("2 of class 10", "55 to 65")
    assert words("test", "classes_present") == ("no image of class 7", "all present")
    assert words("test", "class_size") == ("40 of class 1", "15 to 25")
    assert words("test", "pixel_max") == ("0 to 255", "at least 255")
    assert failures["test", "class_size"].num_rows == 40


def test_healthy_data_passes_and_its_result_is_written(
    healthy: Path, thresholds: Thresholds, tmp_path: Path
) -> None:
    outcome = validate_dataset(healthy, LAYOUT, thresholds, tmp_path, [tmp_path, healthy])

    assert [str(finding) for finding in outcome.findings if not finding.success] == []
    assert outcome.success
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["success"] is True
    assert result["num_expectations"] == len(result["findings"]) == outcome.num_expectations
    assert "All 64 expectations hold" in (tmp_path / "page.html").read_text()


def test_shared_test_images_are_counted_even_if_a_bound_allows_them(tmp_path: Path) -> None:
    splits = make_splits()
    images, labels = splits["test"]
    splits["test"] = (np.concatenate([images, splits["train"][0][:3]]), np.append(labels, [0] * 3))
    frames = summarize({split: [splits[split]] for split in splits})
    allowed = SplitThresholds(max_shared_images=3)

    outcome = validate_frames(frames, Thresholds(train=allowed, test=allowed), 10)

    assert "shared_images" not in {finding.check for finding in outcome.failures}
    assert outcome.num_shared_images == 3
    write_validation(outcome, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["num_shared_images"] == 3


def test_without_thresholds_only_the_unconditional_checks_run(
    healthy: Path, tmp_path: Path
) -> None:
    outcome = validate_dataset(healthy, LAYOUT, Thresholds(), tmp_path)

    assert outcome.success
    assert {finding.check for finding in outcome.findings} == {
        "columns",
        "complete",
        "label_unknown",
        "classes_present",
        "blank_images",
        "already_scaled",
        "shared_images",
        "label_conflicts",
        "inverted_colours",
    }


@pytest.mark.parametrize(
    ("damage", "failures"),
    [
        (gray_images, {("test", "blank_images"): (5, 9)}),
        (scaled_pixels, {("train", "already_scaled"): WHOLE_SPLIT}),
        (inverted_test_images, {("test", "inverted_colours"): tuple(range(0, 200, 20))}),
        (
            inverted_colours,
            {("test", "inverted_colours"): FIRST_TEN},
        ),
        (one_image_with_two_labels, {("train", "label_conflicts"): (3, 20)}),
        (shared_image, {("train", "shared_images"): (7,), ("test", "shared_images"): (4,)}),
    ],
)
def test_some_damage_is_noticed_without_any_bound(
    damage: Damage, failures: dict[tuple[Split, CheckName], tuple[int, ...]]
) -> None:
    splits = make_splits()
    damage(splits)

    outcome = run_validation(splits, Thresholds(), None)

    assert {(f.split, f.check): f.rows for f in outcome.failures} == failures


def test_images_on_either_background_pass_if_train_has_both() -> None:
    splits = make_splits()
    for images, _ in splits.values():
        images[::4] = 255 - images[::4]

    assert run_validation(splits, Thresholds(), None).success
    splits["test"][0][::4] = 255 - splits["test"][0][::4]
    (failure,) = run_validation(splits, Thresholds(), None).failures
    assert (failure.check, failure.found, failure.num_rows) == ("inverted_colours", "0", 0)
    assert failure.expected == "26 to 78"


def test_a_failed_result_is_written_as_well(
    thresholds: Thresholds, centroids: Images, tmp_path: Path
) -> None:
    splits = make_splits()
    blank_images(splits)

    page = write_validation(run_validation(splits, thresholds, centroids), tmp_path)

    result = json.loads((tmp_path / "result.json").read_text())
    assert result["success"] is False
    [finding] = [f for f in result["findings"] if f["check"] == "pixel_max" and not f["success"]]
    assert finding["found"] == "0 to 255"
    assert finding["expected"] == "at least 255"
    assert (finding["rows"], finding["num_rows"]) == ([5, 9], 2)
    assert page == tmp_path / "page.html"


def test_equal_data_gives_equal_bytes(
    healthy: Path, thresholds: Thresholds, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        validate_dataset(healthy, LAYOUT, thresholds, tmp_path / name, [healthy])

    for file in ("result.json", "page.html"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_a_check_that_only_warns_does_not_stop_a_run(
    thresholds: Thresholds, centroids: Images
) -> None:
    splits = make_splits()
    gray_background(splits)

    outcome = run_validation(
        splits, thresholds.model_copy(update={"severity": {"pixel_min": "warning"}}), centroids
    )

    assert outcome.success
    assert [(f.split, f.check, f.rows) for f in outcome.warnings] == [("train", "pixel_min", (11,))]


def test_nothing_is_printed_sent_or_written_elsewhere(
    healthy: Path,
    thresholds: Thresholds,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    elsewhere, output = tmp_path / "elsewhere", tmp_path / "output"
    elsewhere.mkdir()
    output.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))

    validate_dataset(healthy, LAYOUT, thresholds, output, [healthy])

    assert list(elsewhere.iterdir()) == []
    assert sorted(path.name for path in output.iterdir()) == ["page.html", "result.json"]
    assert capfd.readouterr() == ("", "")


def test_an_empty_split_is_refused() -> None:
    splits = make_splits()
    reorder(splits, "test", np.arange(0))

    with pytest.raises(DataError, match="test split has no images"):
        run_validation(splits, Thresholds(), None)


def test_images_of_another_shape_are_refused_before_any_check(
    healthy: Path, tmp_path: Path
) -> None:
    layout = LAYOUT.model_copy(update={"image_shape": (28, 28)})

    with pytest.raises(DamagedError, match=r"\[28, 28\]"):
        validate_dataset(healthy, layout, Thresholds(), tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_missing_centroids_are_named(healthy: Path, thresholds: Thresholds, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"handwriting\.centroids\.npy"):
        validate_dataset(healthy, LAYOUT, thresholds, tmp_path, [tmp_path])


def test_the_page_is_self_contained_and_shows_failures_first(
    thresholds: Thresholds, centroids: Images
) -> None:
    splits = make_splits()
    blank_images(splits)
    gray_background(splits)
    warned = thresholds.model_copy(update={"severity": {"pixel_min": "warning"}})

    page = render_page(run_validation(splits, warned, centroids))

    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page
    order = [page.index(f"<h2>{title}") for title in ("Failed", "Warnings", "All checks")]
    assert order == sorted(order)
    assert "5 of 64 expectations failed" in page
    assert "5, 9" in page


def test_the_page_escapes_what_it_shows() -> None:
    finding = Finding(
        split="test",
        check="label_unknown",
        column="label",
        expectation="expect_column_values_to_be_in_set",
        severity="error",
        success=False,
        about="label of each image",
        found="<img src=x>",
        expected="0 to 9",
    )

    assert "<img" not in render_page(ValidationOutcome(findings=(finding,)))
