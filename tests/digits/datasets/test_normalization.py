import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from digits.datasets.images import ROW_GROUP, iter_split, write_split
from digits.datasets.normalization import store_arrays
from digits.errors import DamagedError, DigitsError
from digits.storage.references import ArraysRef, DatasetRef
from digits.storage.store import Store
from digits.storage.workspace import Workspace
from digits.thresholds import SPLITS
from tests.support.disks import full_disk
from tests.support.handwriting import LAYOUT, Splits, make_splits
from tests.support.memory import peak_memory


def stored(splits: Splits, store: Store) -> DatasetRef:
    """A dataset in the store, as written by ingest."""
    with store.create("datasets") as draft:
        for split, (images, labels) in splits.items():
            write_split(draft.path / f"{split}.parquet", images, labels)
    return DatasetRef(
        digest=draft.digest,
        layout=LAYOUT,
        num_train=len(splits["train"][1]),
        num_test=len(splits["test"][1]),
        content_digest="0" * 64,
        test_digest="1" * 64,
    )


def visible(store: Store) -> list[str]:
    """The names of the arrays in the store, and of any leftovers of a writer."""
    root = store.root("arrays")
    return [path.name for path in root.glob("*") if path.suffix != ".lock"]


@pytest.fixture
def store(workspace: Workspace) -> Store:
    return workspace.store


def load(arrays: ArraysRef, name: str, store: Store) -> npt.NDArray[np.generic]:
    """Map an array into memory like training does."""
    path = store.folder(arrays) / f"{name}.npy"
    return np.load(path, mmap_mode="r", allow_pickle=False)


def test_pixels_become_floats_from_0_to_1_and_labels_class_indices(store: Store) -> None:
    splits = make_splits()

    arrays = store_arrays(stored(splits, store), store)

    store.verify(arrays)
    assert (arrays.num_train, arrays.num_test) == (600, 200)
    assert (arrays.layout, arrays.test_digest) == (LAYOUT, "1" * 64)
    for split in SPLITS:
        images, labels = splits[split]
        x, y = load(arrays, f"x_{split}", store), load(arrays, f"y_{split}", store)
        assert (x.dtype, x.shape) == (np.float32, (len(images), 12, 12, 1))
        assert (y.dtype, y.shape) == (np.int32, (len(labels),))
        assert (x.min(), x.max()) == (0, 1)
        np.testing.assert_array_equal(x[..., 0], images.astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(y, labels)


def test_arrays_are_mapped_and_not_copied(store: Store) -> None:
    arrays = store_arrays(stored(make_splits(), store), store)

    for name in ("x_train", "y_train", "x_test", "y_test"):
        array = load(arrays, name, store)
        assert isinstance(array, np.memmap)
        assert array.flags.c_contiguous
        assert array.offset % 64 == 0


def test_all_256_pixel_values_stay_distinct_and_in_order(store: Store) -> None:
    values = np.resize(np.arange(256, dtype=np.uint8), (600, 12, 12))
    splits = make_splits()
    splits["train"] = (values, splits["train"][1])

    x = load(store_arrays(stored(splits, store), store), "x_train", store)

    assert len(np.unique(x)) == 256
    np.testing.assert_array_equal(np.rint(np.asarray(x[..., 0]) * 255), values)


def test_images_beyond_one_row_group_keep_their_order(store: Store) -> None:
    splits = make_splits()
    images, labels = (
        np.resize(array, (ROW_GROUP + 9, *array.shape[1:])) for array in splits["train"]
    )
    splits["train"] = (images, labels)

    arrays = store_arrays(stored(splits, store), store)

    x, y = load(arrays, "x_train", store), load(arrays, "y_train", store)
    np.testing.assert_array_equal(x[..., 0], np.divide(images, 255, dtype=np.float32))
    np.testing.assert_array_equal(y, labels)


def test_memory_is_a_few_row_groups_whatever_the_size_of_the_split(store: Store) -> None:
    splits = make_splits()
    num_groups, shape = 12, splits["train"][0].shape[1:]
    noise = np.random.default_rng(0).integers(256, size=(num_groups * ROW_GROUP, *shape))
    splits["train"] = (noise.astype(np.uint8), np.resize(splits["train"][1], len(noise)))
    dataset = stored(splits, store)
    group_bytes = ROW_GROUP * int(np.prod(shape))
    before = pa.total_allocated_bytes()

    held = [
        pa.total_allocated_bytes() - before
        for _ in iter_split(store.folder(dataset) / "train.parquet", LAYOUT)
    ]
    with peak_memory(at_most=8 * group_bytes):
        store_arrays(dataset, store)

    assert len(held) == num_groups
    assert max(held) < num_groups * group_bytes / 2


def test_equal_datasets_give_one_bundle(store: Store) -> None:
    dataset = stored(make_splits(), store)

    assert store_arrays(dataset, store) == store_arrays(dataset, store)
    assert len(visible(store)) == 1


def test_one_changed_pixel_gives_another_bundle(store: Store) -> None:
    splits = make_splits()
    before = store_arrays(stored(splits, store), store)
    splits["test"][0][7, 5, 5] ^= 1

    assert store_arrays(stored(splits, store), store).digest != before.digest


@pytest.mark.parametrize("damage", ["missing", "truncated", "altered", "other split"])
def test_a_corrupted_dataset_is_refused_and_leaves_nothing(damage: str, store: Store) -> None:
    dataset = stored(make_splits(), store)
    path = store.folder(dataset) / "test.parquet"
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-9])
    elif damage == "altered":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes((store.folder(dataset) / "train.parquet").read_bytes())

    with pytest.raises(DamagedError, match=r"test.parquet"):
        store_arrays(dataset, store)

    assert visible(store) == []


@pytest.mark.parametrize("num_bytes", [100, 2_000, 100_000])
def test_a_full_disk_is_reported_and_leaves_nothing(num_bytes: int, store: Store) -> None:
    dataset = stored(make_splits(), store)

    with full_disk(num_bytes), pytest.raises(DigitsError, match=r"cannot write to .*: File too la"):
        store_arrays(dataset, store)

    assert visible(store) == []
