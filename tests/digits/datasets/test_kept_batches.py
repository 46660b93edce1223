import numpy as np
import pytest

from digits.datasets.growth import Growth
from digits.datasets.images import Images, Labels
from digits.datasets.kept_batches import (
    batch_digest,
    canonical_order,
    keep_batch,
    read_batch,
    sweep,
    verify_batch,
)
from digits.datasets.versions import Change, DatasetVersions
from digits.errors import DataError
from digits.settings import Settings
from tests.support.handwriting import make_more
from tests.support.small_dataset import NAME, small_layout


@pytest.fixture
def versions(settings: Settings) -> DatasetVersions:
    return DatasetVersions(NAME, settings)


def rows(seed: int = 0) -> tuple[Images, Labels]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (30, *small_layout().image_shape), np.uint8)
    return images, rng.integers(0, 10, 30).astype(np.uint16)


def kept(versions: DatasetVersions) -> Change:
    images, labels = rows()
    order = canonical_order(images, labels)
    batch, manifest = keep_batch(images[order], labels[order], versions)
    with versions.changing() as changing:
        return changing.add(batch, manifest=manifest, source="a.npz", files={}, growth=Growth())


def test_a_stored_batch_is_read_back(versions: DatasetVersions) -> None:
    images, labels = rows()
    order = canonical_order(images, labels)

    change = kept(versions)

    chunks = list(read_batch(change, versions, small_layout()))
    assert np.array_equal(np.concatenate([chunk[0] for chunk in chunks]), images[order])
    assert np.array_equal(np.concatenate([chunk[1] for chunk in chunks]), labels[order])
    assert change.batch == batch_digest(images[order], labels[order])


def test_the_order_depends_only_on_images_and_labels() -> None:
    images, labels = rows()
    images[7] = images[3]
    labels[3], labels[7] = 5, 2
    ordered = images[canonical_order(images, labels)], labels[canonical_order(images, labels)]
    for seed in range(5):
        mixed = np.random.default_rng(seed).permutation(len(labels))
        again = canonical_order(images[mixed], labels[mixed])
        assert np.array_equal(images[mixed][again], ordered[0])
        assert np.array_equal(labels[mixed][again], ordered[1])


def test_the_order_does_not_group_labels() -> None:
    images, labels = make_more(600, 1)
    by_class = np.argsort(labels, kind="stable")

    ordered = labels[by_class][canonical_order(images[by_class], labels[by_class])]

    # A tenth by chance, within four standard errors; sorted by pixels it would be a third.
    assert abs((ordered[1:] == ordered[:-1]).mean() - 0.1) < 4 * 0.3 / 600**0.5


def test_a_corrupted_batch_is_refused_with_advice(versions: DatasetVersions) -> None:
    change = kept(versions)
    path = versions.folder_of(change.batch) / "images.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)

    with pytest.raises(DataError) as refused:
        verify_batch(change, versions)

    for said in (
        str(path),
        "a.npz",
        "digits dataset add",
        f"remove --dataset {NAME} {change.batch[:12]}",
    ):
        assert said in str(refused.value)
    kept(versions)
    verify_batch(change, versions)


def test_leftovers_of_a_killed_writer_are_removed(versions: DatasetVersions) -> None:
    change = kept(versions)
    (versions.folder / ".tmp-left").mkdir()
    (versions.folder / ".tmp-file").touch()

    sweep(versions)

    assert [path.name for path in versions.folder.iterdir()] == [change.batch]
