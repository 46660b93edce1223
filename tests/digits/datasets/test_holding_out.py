import numpy as np

from digits.datasets.holding_out import hold_out
from digits.storage.references import ArraysRef
from digits.storage.workspace import Workspace
from tests.support.trainings import prepare_arrays


def test_a_sixth_of_the_training_images_takes_the_place_of_the_test_set(
    workspace: Workspace,
) -> None:
    arrays = prepared(workspace)

    parts = hold_out(arrays, workspace.store)

    whole, part = read(workspace, arrays), read(workspace, parts)
    assert (parts.num_train, parts.num_test) == (500, 100)
    assert parts.test_digest != arrays.test_digest
    # Image and label stay together, and each image is in one part.
    rows = [
        (image.tobytes(), int(label))
        for split in ("train", "test")
        for image, label in zip(part[f"x_{split}"], part[f"y_{split}"], strict=True)
    ]
    expected = [
        (image.tobytes(), int(label))
        for image, label in zip(whole["x_train"], whole["y_train"], strict=True)
    ]
    assert sorted(rows) == sorted(expected)
    assert rows[:500] != expected[:500]


def test_the_same_images_are_held_out_each_time(workspace: Workspace) -> None:
    arrays = prepared(workspace)

    assert hold_out(arrays, workspace.store) == hold_out(arrays, workspace.store)


def prepared(workspace: Workspace) -> ArraysRef:
    return prepare_arrays(workspace.settings.data_dir.parent).facts


def read(workspace: Workspace, arrays: ArraysRef) -> dict[str, np.ndarray]:
    folder = workspace.store.folder(arrays)
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}
