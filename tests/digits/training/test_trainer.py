import json
import logging
import resource
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from digits.errors import DigitsError
from digits.models import MODELS
from digits.settings import Settings
from digits.spec import Layout
from digits.storage.references import ArraysRef
from digits.storage.store import Store
from digits.training.devices import TRACING
from digits.training.learner import OPTIMIZERS, STEPS_PER_EXECUTION
from digits.training.trainer import METRICS
from tests.support.trainings import Arrays, Interrupting, Training, Watched, start_python

RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("mlp", {}),
    "cnn": ("cnn", {}),
    "adam": ("mlp", {"optimizer": "adam"}),
    "fast": ("cnn", {"recipe": "fast"}),
    "best": ("mlp", {"recipe": "best", "averaging": 0.9, "batch_size": 128}),
}


@pytest.fixture(scope="module")
def straight(small_arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Training]:
    """An uninterrupted training for each of RECIPES."""
    folder = tmp_path_factory.mktemp("straight")
    trainings = {
        recipe: Training.of(small_arrays, folder / recipe, model, **changes)
        for recipe, (model, changes) in RECIPES.items()
    }
    for training in trainings.values():
        training.run()
    return trainings


def interrupted_copy(training: Training, folder: Path) -> Training:
    """Return the same training in another folder, as if killed after its last checkpoint."""
    shutil.copytree(training.folder / "checkpoint", folder / "checkpoint")
    return replace(training, folder=folder)


def test_the_recipes_here_use_every_model_and_optimizer(straight: dict[str, Training]) -> None:
    assert {training.model for training in straight.values()} == MODELS.keys()
    assert {training.settings.optimizer for training in straight.values()} == OPTIMIZERS.keys()


@pytest.mark.parametrize(
    ("recipe", "epochs"), [("mlp", 1), ("cnn", 2), ("adam", 1), ("fast", 1), ("best", 2)]
)
def test_an_interrupted_training_produces_the_same_bytes(
    recipe: str,
    epochs: int,
    straight: dict[str, Training],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    training = replace(straight[recipe], folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        training.run(Interrupting(epochs))
    resumed = Watched()

    with caplog.at_level(logging.INFO, "digits"):
        training.run(resumed)

    assert training.output == straight[recipe].output
    assert resumed.begun == (3, 5, epochs)
    assert resumed.epochs == list(range(epochs + 1, 4))
    assert f"resuming after epoch {epochs} of an earlier run" in caplog.text


def test_a_training_killed_after_its_last_epoch_trains_no_further(
    straight: dict[str, Training], tmp_path: Path
) -> None:
    training = interrupted_copy(straight["mlp"], tmp_path)
    resumed = Watched()

    training.run(resumed)

    assert training.output == straight["mlp"].output
    assert resumed.batches == []


def test_the_time_before_an_interruption_counts(
    straight: dict[str, Training], tmp_path: Path
) -> None:
    kept = straight["mlp"].checkpoint.load()
    assert kept is not None
    assert 0 < kept[2] < 300
    training = replace(straight["mlp"], folder=tmp_path)
    training.checkpoint.save(kept[0], kept[1], 1000.0)

    assert 1000 < training.run() < 1300


OTHER_PROCESS = """
import sys
from pathlib import Path
from tests.support.trainings import Hanging, Training, prepare_arrays
root = Path(sys.argv[1])
arrays = prepare_arrays(root)
Training.of(arrays, root / "mlp", "mlp").run()
Training.of(arrays, root / "cnn", "cnn").run(Hanging(2))
"""


def test_another_process_produces_the_same_bytes_and_a_killed_one_is_resumed(
    straight: dict[str, Training], tmp_path: Path
) -> None:
    # The order of string sets differs between the processes.
    with start_python("-c", OTHER_PROCESS, str(tmp_path), PYTHONHASHSEED="5") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hanging\n"
        process.kill()
    resumed = Watched()

    killed = replace(straight["cnn"], folder=tmp_path / "cnn")
    killed.run(resumed)

    assert replace(straight["mlp"], folder=tmp_path / "mlp").output == straight["mlp"].output
    assert killed.output == straight["cnn"].output
    assert resumed.epochs == [3]


def test_concurrent_trainings_produce_the_same_bytes_as_separate_ones(
    straight: dict[str, Training], tmp_path: Path
) -> None:
    models = ("mlp", "cnn")
    trainings = [replace(straight[model], folder=tmp_path / model) for model in models]
    with ThreadPoolExecutor() as pool:
        list(pool.map(Training.run, trainings))

    for model, training in zip(models, trainings, strict=True):
        assert training.output == straight[model].output


def cut_state(folder: Path) -> None:
    (state,) = folder.glob("*.npz")
    state.write_bytes(state.read_bytes()[:-1000])


def alter_state(folder: Path) -> None:
    (state,) = folder.glob("*.npz")
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)


def cut_description(folder: Path) -> None:
    path = folder / "checkpoint.json"
    path.write_bytes(path.read_bytes()[:-10])


def alter_history(folder: Path) -> None:
    path = folder / "checkpoint.json"
    before = path.read_text()
    after = before.replace('"epoch":2', '"epoch":3')
    assert after != before
    path.write_text(after)


def empty_description(folder: Path) -> None:
    (folder / "checkpoint.json").write_bytes(b"")


def foreign_description(folder: Path) -> None:
    (folder / "checkpoint.json").write_bytes(b"[1, 2]")


@pytest.mark.parametrize(
    "damage",
    [
        cut_state,
        alter_state,
        cut_description,
        alter_history,
        empty_description,
        foreign_description,
    ],
)
def test_a_corrupted_checkpoint_is_detected(
    damage: Callable[[Path], None],
    straight: dict[str, Training],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    training = interrupted_copy(straight["mlp"], tmp_path)
    assert training.checkpoint.load() is not None
    damage(tmp_path / "checkpoint")

    assert training.checkpoint.load() is None
    assert "invalid checkpoint" in caplog.text
    assert "training from the start" in caplog.text


def test_a_training_with_a_corrupted_checkpoint_starts_over(
    straight: dict[str, Training], tmp_path: Path
) -> None:
    training = interrupted_copy(straight["mlp"], tmp_path)
    alter_state(tmp_path / "checkpoint")
    begun_again = Watched()

    training.run(begun_again)

    assert begun_again.epochs == [1, 2, 3]
    assert training.output == straight["mlp"].output


def test_the_learning_curve_is_saved(straight: dict[str, Training]) -> None:
    for training in straight.values():
        first, _, last = training.curve
        assert [figures["epoch"] for figures in training.curve] == [1, 2, 3]
        assert first.keys() == last.keys() == {"epoch", *METRICS}
        assert last["loss"] < first["loss"]
        assert last["val_loss"] < first["val_loss"]


def test_the_curve_describes_the_resulting_model(
    straight: dict[str, Training], small_arrays: Arrays
) -> None:
    x_test, y_test = (np.load(small_arrays.folder / f"{name}_test.npy") for name in "xy")
    for training in straight.values():
        model = keras.saving.load_model(training.archive, safe_mode=True)
        predicted = model.predict(x_test, verbose=0).argmax(axis=1)

        assert training.curve[-1]["val_accuracy"] == pytest.approx((predicted == y_test).mean())


class Journal(keras.layers.Layer):  # type: ignore[misc]
    """Records the first pixel of each training image, in order."""

    def build(self, _: Any) -> None:
        self.noted = self.add_weight(shape=(30,), initializer="zeros", trainable=False)

    def call(self, images: Any, *, training: bool = False) -> Any:
        if training:
            older = self.noted[keras.ops.shape(images)[0] :]
            self.noted.assign(keras.ops.concatenate([older, images[:, 0]]))
        return images


def build_journal(shape: Any, num_classes: int, *_: Any) -> keras.Model:
    layers = [
        keras.Input(shape),
        keras.layers.Flatten(),
        Journal(),
        keras.layers.Dense(num_classes, activation="softmax"),
    ]
    return keras.Sequential(layers, name="journal")


@pytest.fixture
def numbered(tmp_path: Path) -> Arrays:
    """Ten images, each with its number as the first pixel."""
    images = np.zeros((10, 8, 8, 1), np.float32)
    images[:, 0, 0, 0] = np.arange(10)
    for split in ("train", "test"):
        np.save(tmp_path / f"x_{split}.npy", images)
        np.save(tmp_path / f"y_{split}.npy", np.arange(10, dtype=np.int32) % 2)
    layout = Layout(name="numbered", image_shape=(8, 8), num_classes=2, class_names=("even", "odd"))
    facts = ArraysRef(
        digest="0" * 64, layout=layout, num_train=10, num_test=10, test_digest="0" * 64
    )
    return Arrays(tmp_path, facts)


def order_of(training: Training) -> list[list[int]]:
    """Return the numbers of the images in training order, epoch by epoch."""
    kept = training.checkpoint.load()
    assert kept is not None
    (noted,) = (variable for variable in kept[0] if variable.shape == (30,))
    return noted.astype(int).reshape(3, 10).tolist()


def test_every_epoch_takes_every_image_once_in_its_own_order(
    numbered: Arrays, tmp_path: Path
) -> None:
    resumed, straight, other = (
        Training.of(numbered, tmp_path / name, "mlp", batch_size=4, seed=seed)
        for name, seed in (("resumed", 0), ("straight", 0), ("other", 1))
    )
    with pytest.raises(KeyboardInterrupt):
        resumed.run(Interrupting(1), build_journal)
    for training in (resumed, straight, other):
        training.run(build=build_journal)

    orders = order_of(straight) + order_of(other)
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert order_of(resumed) == order_of(straight)


def test_the_archive_contains_no_dates_and_no_addresses(straight: dict[str, Training]) -> None:
    for training in straight.values():
        with zipfile.ZipFile(BytesIO(training.output["model.keras"])) as archive:
            members = archive.infolist()
            descriptions = [
                json.loads(archive.read(name)) for name in ("config.json", "metadata.json")
            ]

        assert {member.date_time for member in members} == {(1980, 1, 1, 0, 0, 0)}
        assert list(descriptions[1]) == ["keras_version"]
        # An address is a number with many digits.
        numbers = list(numbers_in(descriptions))
        assert len(numbers) > 20
        assert max(numbers) < 10_000


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(item)
    elif isinstance(value, int | float):
        yield value


def test_the_archive_contains_no_optimizer_and_is_the_only_model_file(
    straight: dict[str, Training],
) -> None:
    # However it was trained, the result has Keras's own layers, in float32.
    for training in straight.values():
        assert list(training.output) == ["history.json", "model.keras"]
        with zipfile.ZipFile(BytesIO(training.output["model.keras"])) as archive:
            assert sorted(archive.namelist()) == [
                "config.json",
                "metadata.json",
                "model.weights.h5",
            ]
        model = keras.saving.load_model(training.archive)
        size = 4 * model.count_params()
        assert size < len(training.output["model.keras"]) < size + 50_000


class WatchingTheLock(Watched):
    """Notes after each minibatch whether others would have to wait to build their graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.locked: set[bool] = set()

    def on_batch(self, epoch: int, batch: int) -> None:  # noqa: ARG002
        self.locked.add(TRACING.locked())


@dataclass
class Observed:
    """A training with 38 minibatches per epoch: its progress, models and number of traces."""

    progress: WatchingTheLock = field(default_factory=WatchingTheLock)
    made: list[keras.Model] = field(default_factory=list)
    traced: Counter[str] = field(default_factory=Counter)
    locked: set[bool] = field(default_factory=set)

    def build(self, *arguments: Any) -> keras.Model:
        model = MODELS["mlp"].build(*arguments)
        for name in ("train_step", "test_step"):
            setattr(model, name, self.counted(name, getattr(model, name)))
        self.made.append(model)
        return model

    def counted(self, name: str, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def counting(data: Any) -> Any:
            self.traced[name] += 1
            self.locked.add(TRACING.locked())
            return step(data)

        return counting


@pytest.fixture(scope="module")
def observed(small_arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    observed, folder = Observed(), tmp_path_factory.mktemp("observed")
    training = Training.of(small_arrays, folder, "mlp", batch_size=16, epochs=2)
    training.run(observed.progress, observed.build)
    return observed


def test_progress_runs_to_the_last_minibatch_of_each_epoch_and_no_further(
    observed: Observed,
) -> None:
    # 38 minibatches do not fill the last execution.
    assert 38 % STEPS_PER_EXECUTION
    progress = observed.progress

    assert progress.begun == (2, 38, 0)
    assert progress.batches == sorted(progress.batches)
    assert [max(batch for e, batch in progress.batches if e == epoch) for epoch in (0, 1)] == [
        38,
        38,
    ]
    assert progress.epochs == [1, 2]


def test_nothing_is_compiled_by_xla(observed: Observed) -> None:
    # On a CPU, XLA makes both models many times slower, and Keras can choose it by default.
    compiled = [model for model in observed.made if model.compiled]

    # The one that is trained and the one that is scored during training.
    assert len(compiled) == 2
    assert not any(model.jit_compile for model in compiled)


def test_each_step_is_traced_once(observed: Observed) -> None:
    assert observed.traced == {"train_step": 1, "test_step": 1}


def test_graphs_are_built_by_one_training_at_a_time_and_run_side_by_side(
    observed: Observed,
) -> None:
    assert observed.locked == {True}
    assert observed.progress.locked == {False}


def test_a_diverging_training_is_an_error_and_keeps_nothing(
    small_arrays: Arrays, tmp_path: Path
) -> None:
    training = Training.of(small_arrays, tmp_path, "mlp", learning_rate=1e30)

    with pytest.raises(DigitsError, match=r"mlp diverged in epoch 1: its loss is (nan|inf).*rate"):
        training.run()

    assert training.output == {}
    assert training.checkpoint.load() is None


def test_a_training_whose_first_step_fails_does_not_keep_others_waiting(
    small_arrays: Arrays, tmp_path: Path
) -> None:
    def build(*arguments: Any) -> keras.Model:
        model = MODELS["mlp"].build(*arguments)
        model.train_step = fail
        return model

    def fail(_: Any) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        Training.of(small_arrays, tmp_path, "mlp").run(Watched(), build)

    assert not TRACING.locked()


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Limit the size of this process's files, to simulate a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("num_bytes", "epochs"),
    [
        pytest.param(1_000_000, 0, id="no room for the first checkpoint"),
        pytest.param(100_000, 3, id="no room for the model"),
    ],
)
def test_a_full_disk_is_a_clear_error_and_loses_no_epoch(
    num_bytes: int, epochs: int, straight: dict[str, Training], tmp_path: Path
) -> None:
    training = replace(straight["mlp"], folder=tmp_path / "training")
    if epochs:
        interrupted_copy(straight["mlp"], training.folder)
    store = Store(Settings(data_dir=tmp_path, artifacts_dir=tmp_path))

    with (
        pytest.raises(DigitsError, match=r"cannot write to .* free some space"),
        largest_file(num_bytes),
        store.create("models"),
    ):
        training.run()

    resumed = Watched()
    training.run(resumed)
    assert resumed.begun == (3, 5, epochs)
    assert training.output == straight["mlp"].output
