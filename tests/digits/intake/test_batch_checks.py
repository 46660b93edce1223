"""The bounds for a batch depend on its size, so that honest batches pass and bad ones fail."""

from collections.abc import Callable

import numpy as np
import pytest

from digits.datasets.defects import Defects
from digits.datasets.formats.chunks import RawChunk
from digits.datasets.formats.cleaning import clean
from digits.datasets.images import Images
from digits.datasets.ingestion import read_source
from digits.datasets.sources.content import content_of
from digits.datasets.splits import is_test
from digits.errors import DataError
from digits.intake.baseline import Baseline
from digits.intake.batch_checks import GROUND_ROOM, batch_checks
from digits.intake.proposals.pixel_ranges import CONVENTIONS
from digits.settings import Settings
from digits.spec import PixelRange, load_spec
from digits.storage.workspace import Workspace
from digits.thresholds import CheckName, Thresholds
from digits.validation.centroids import load_centroids
from digits.validation.findings import Finding
from digits.validation.suite import evaluate
from digits.validation.summary import measure
from tests.support.handwriting import LAYOUT, NUM_CLASSES, Pair, make_more, make_splits

SHARE = 0.25


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    splits = make_splits()
    return Baseline.of(
        lambda: [(split, *pair) for split, pair in splits.items()], NUM_CLASSES, None
    )


def failures(
    batch: Pair, baseline: Baseline, thresholds: Thresholds | None = None
) -> list[Finding]:
    thresholds = thresholds or Thresholds()
    frame = baseline.frame(measure([batch], baseline.centroids), is_test(batch[0], SHARE))
    checks = batch_checks(frame, baseline, thresholds, NUM_CLASSES)
    return [f for f in evaluate("batch", frame, checks, thresholds) if not f.success]


def checks_failed(batch: Pair, baseline: Baseline) -> set[CheckName]:
    return {finding.check for finding in failures(batch, baseline)}


@pytest.mark.parametrize("num_images", [1, 3, 10, 40, 150, 600])
def test_honest_batches_of_any_size_pass(num_images: int, baseline: Baseline) -> None:
    for seed in range(3):
        assert failures(make_more(num_images, 100 + seed), baseline) == []


def test_a_class_may_be_missing_from_a_small_batch_but_not_from_a_large_one(
    baseline: Baseline,
) -> None:
    def without_class_7(num_images: int) -> Pair:
        images, labels = make_more(num_images, 5)
        return images[labels != 7], labels[labels != 7]

    assert checks_failed(without_class_7(40), baseline) == set()
    found = {finding.check: finding for finding in failures(without_class_7(150), baseline)}
    missing = found["classes_present"]
    assert (missing.found, missing.expected) == (
        "no image of class 7",
        "images of class 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    )


def test_findings_name_classes_by_their_names(baseline: Baseline) -> None:
    images, labels = make_more(150, 5)
    batch = images[labels != 7], labels[labels != 7]
    frame = baseline.frame(measure([batch], baseline.centroids), is_test(batch[0], SHARE))
    names = tuple("abcdefghij")

    checks = batch_checks(frame, baseline, Thresholds(), NUM_CLASSES, names)
    found = {finding.check: finding for finding in evaluate("batch", frame, checks, Thresholds())}

    assert found["classes_present"].found == "no image of class h"
    assert found["classes_present"].expected.startswith("images of class a, b, c")


RANGES = {(one.low, one.high) for one in CONVENTIONS if one.high != 16}
"""All usual ranges, without one that differs from 0..15 by less than rounding."""


@pytest.mark.parametrize(
    "change", [lambda images: images // 2, lambda images: images // 2 + 128], ids=["dark", "light"]
)
def test_a_batch_that_uses_half_of_the_range_is_refused(
    change: Callable[[Images], Images], baseline: Baseline
) -> None:
    images, labels = make_more(60, 9)

    assert checks_failed((change(images), labels), baseline) & {"already_scaled", "pixel_range"}


@pytest.mark.parametrize("expected", sorted(RANGES))
def test_a_batch_of_another_range_is_refused(expected: PixelRange, baseline: Baseline) -> None:
    images, labels = make_more(60, 9)
    train = baseline.frames()["train"]
    lowest, highest = int(train["pixel_min"].max()), int(train["pixel_max"].max())

    def is_refused(low: float, high: float) -> bool:
        values = (images / 255 * (high - low) + low).astype(np.float32)
        values = np.rint(values) if high >= 15 else values
        chunk = RawChunk(values, labels, None, [str(row) for row in range(60)])
        defects = Defects()
        try:
            (clean_chunk,) = clean([chunk], LAYOUT, expected, defects)
            defects.enforce()
        except (DataError, ValueError):
            return True
        frame = measure([(clean_chunk.images, labels)], baseline.centroids)
        return bool(
            frame["pixel_min"].min() > lowest + GROUND_ROOM
            or frame["pixel_max"].max() <= highest // 2
        )

    assert [one for one in RANGES if not is_refused(*one)] == [expected]


@pytest.mark.parametrize(("num_images", "is_noticed"), [(20, False), (400, True)])
def test_drift_is_distinguished_from_chance(
    num_images: int, is_noticed: bool, baseline: Baseline
) -> None:
    images, labels = make_more(num_images, 6)
    is_kept = (labels < 5) | (np.arange(num_images) % 4 == 0)

    assert checks_failed((images[is_kept], labels[is_kept]), baseline) == (
        {"label_divergence"} if is_noticed else set()
    )


def inverted(batch: Pair) -> Pair:
    return 255 - batch[0], batch[1]


def transposed(batch: Pair) -> Pair:
    return batch[0].transpose(0, 2, 1).copy(), batch[1]


def shuffled(batch: Pair) -> Pair:
    return batch[0], np.roll(batch[1], 1)


@pytest.mark.parametrize(
    ("damage", "checks"),
    [
        (inverted, {"inverted_colours", "centroid_accuracy"}),
        (transposed, {"centroid_accuracy"}),
        (shuffled, {"centroid_accuracy"}),
    ],
)
def test_damage_to_all_of_a_small_batch_is_noticed_without_any_bound(
    damage: Callable[[Pair], Pair], checks: set[CheckName], baseline: Baseline
) -> None:
    assert checks_failed(damage(make_more(25, 8)), baseline) == checks


def test_images_that_the_dataset_already_has_are_named(baseline: Baseline) -> None:
    images, labels = make_more(30, 9)
    train = make_splits()["train"]
    goes_to_test = is_test(train[0], SHARE)
    stays, moves = np.flatnonzero(~goes_to_test)[0], np.flatnonzero(goes_to_test)[0]
    images[3], labels[3] = train[0][stays], train[1][stays]
    images[5], labels[5] = train[0][moves], train[1][moves]
    images[8], labels[8] = train[0][stays], train[1][stays] + 1

    found = {finding.check: finding.rows for finding in failures((images, labels), baseline)}

    assert found == {
        "known_images": (3, 8),
        "shared_images": (5,),
        "label_conflicts": (3, 8),
    }


def mirrored(batch: Pair) -> Pair:
    return np.ascontiguousarray(batch[0][:, :, ::-1]), batch[1]


def shifted(batch: Pair) -> Pair:
    return np.roll(batch[0], 4, axis=2), batch[1]


def faded(batch: Pair) -> Pair:
    return batch[0] // 3, batch[1]


@pytest.mark.mnist
def test_honest_batches_of_mnist_pass_and_small_damaged_ones_do_not() -> None:
    settings = Settings()
    spec = load_spec("mnist", settings)
    content = content_of(spec, settings)
    parts = list(read_source(spec.layout, content, spec.read_options, spec, Workspace(settings)))
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    chance = np.random.default_rng(0)
    new, train, test = np.split(chance.permutation(len(labels)), [15_000, 60_000])
    assert spec.thresholds.centroids is not None
    centroids = load_centroids(
        spec.thresholds.centroids, settings.datasets_dirs, spec.image_shape, spec.num_classes
    )
    rows = [("train", images[train], labels[train]), ("test", images[test], labels[test])]
    baseline = Baseline.of(lambda: rows, spec.num_classes, centroids)

    def sample(num_images: int) -> Pair:
        chosen = chance.choice(new, num_images, replace=False)
        return images[chosen], labels[chosen]

    for num_images in (10, 100, 1000):
        for _ in range(10):
            assert failures(sample(num_images), baseline, spec.thresholds) == []
    for damage in (inverted, transposed, mirrored, shifted, shuffled, faded):
        assert failures(damage(sample(30)), baseline, spec.thresholds) != [], damage
