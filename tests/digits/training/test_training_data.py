from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.models import TrainingSettings
from digits.recipes import training_settings
from digits.training import training_data as module
from digits.training.arrays import StoredArray
from digits.training.training_data import Minibatches, TestMinibatches, feed

NUM_IMAGES = 70
Epoch = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[StoredArray, StoredArray]:
    """Images whose brightness is their label; a part has two minibatches of eight."""
    monkeypatch.setattr(module, "PART", 16)
    images = np.zeros((NUM_IMAGES, 10, 10, 1), np.float32)
    images[:, 4:6, 4:6, 0] = np.arange(NUM_IMAGES)[:, None, None]
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "y.npy", np.arange(NUM_IMAGES, dtype=np.int32))
    return StoredArray(tmp_path / "x.npy"), StoredArray(tmp_path / "y.npy")


def settings(recipe: str = "reference", **changes: Any) -> TrainingSettings:
    chosen = training_settings(recipe, "mlp").model_dump() | {"batch_size": 8} | changes
    return TrainingSettings.model_validate(chosen)


def epochs(
    arrays: tuple[StoredArray, StoredArray], chosen: TrainingSettings, first: int, last: int
) -> list[Epoch]:
    """Return the minibatches of some epochs, accessed as Keras does."""
    batches = Minibatches(*arrays, chosen)
    _ = batches[0], batches[1]  # Keras looks at the shapes before the first epoch
    found = []
    for epoch in range(first, last + 1):
        batches.begin(epoch)
        found.append([batches[index] for index in range(len(batches))])
    batches.close()
    return found


def same(one: Epoch, other: Epoch) -> bool:
    return all(
        np.array_equal(a, b)
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left, right, strict=True)
    )


def test_an_epoch_contains_every_image_once_with_its_label(
    arrays: tuple[StoredArray, StoredArray],
) -> None:
    (epoch,) = epochs(arrays, settings(), 1, 1)

    assert [len(labels) for _, labels in epoch] == [8] * 8 + [6]
    assert sorted(np.concatenate([labels for _, labels in epoch])) == list(range(NUM_IMAGES))
    for images, labels in epoch:
        assert (images[:, 4, 4, 0] == labels).all()


@pytest.mark.parametrize("recipe", ["reference", "best"])
def test_an_epoch_depends_only_on_its_number_and_the_seed(
    recipe: str, arrays: tuple[StoredArray, StoredArray]
) -> None:
    chosen = settings(recipe)
    straight = epochs(arrays, chosen, 1, 3)

    assert same(epochs(arrays, chosen, 3, 3)[0], straight[2])
    assert not same(straight[0], straight[1])
    assert not same(epochs(arrays, settings(recipe, seed=1), 1, 1)[0], straight[0])


def test_distorted_images_keep_their_labels_and_differ_from_epoch_to_epoch(
    arrays: tuple[StoredArray, StoredArray],
) -> None:
    first, second = epochs(arrays, settings("best"), 1, 2)
    images, labels = (np.concatenate(parts) for parts in zip(*first, strict=True))
    others, other_labels = (np.concatenate(parts) for parts in zip(*second, strict=True))

    assert (images.shape, images.dtype) == ((NUM_IMAGES, 10, 10, 1), np.float32)
    # The four lit pixels move but keep nearly all of their brightness.
    light = images.sum(axis=(1, 2, 3))
    np.testing.assert_allclose(light[np.argsort(labels)], 4 * np.arange(NUM_IMAGES), rtol=0.5)
    order, other = np.argsort(labels), np.argsort(other_labels)
    assert (images[order][1:] != others[other][1:]).any(axis=(1, 2, 3)).all()


def test_test_images_come_unchanged_and_in_order(
    arrays: tuple[StoredArray, StoredArray],
) -> None:
    batches = TestMinibatches(*arrays, 32)

    found = [batches[index] for index in range(len(batches))]

    assert [len(labels) for _, labels in found] == [32, 32, 6]
    assert (np.concatenate([labels for _, labels in found]) == np.arange(NUM_IMAGES)).all()
    assert all((images[:, 4, 4, 0] == labels).all() for images, labels in found)


def test_tensorflow_reads_the_minibatches_of_the_current_epoch(
    arrays: tuple[StoredArray, StoredArray],
) -> None:
    batches = Minibatches(*arrays, settings())
    dataset = feed(batches)
    read = []
    for epoch in (1, 2):
        batches.begin(epoch)
        read.append([(x.numpy(), y.numpy()) for x, y in dataset])
    batches.close()

    expected = epochs(arrays, settings(), 1, 2)
    assert all(same(found, epoch) for found, epoch in zip(read, expected, strict=True))
    assert int(dataset.cardinality()) == len(batches)


def test_tensorflow_autotuning_is_disabled(
    arrays: tuple[StoredArray, StoredArray],
) -> None:
    dataset = feed(TestMinibatches(*arrays, 32))

    assert dataset.options().autotune.enabled is False
