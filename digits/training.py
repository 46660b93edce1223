"""Training one model on prepared arrays, resumable after each epoch and reproducible to the bit."""

import json
import logging
import math
import time
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from digits.checkpoints import Checkpoint, Variables
from digits.errors import DigitsError
from digits.models import Builder
from digits.progress import Progress
from digits.recipes import TrainingSettings
from digits.references import ArraysRef

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
OPTIMIZERS = {
    "adamax": keras.optimizers.Adamax,
    "adadelta": keras.optimizers.Adadelta,
    "adam": keras.optimizers.Adam,
}
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
# Batches that are trained on without a return to Python, where the backend can: that takes a sixth
# of the MLP's time. The numbers are the same.
STEPS_PER_EXECUTION = 1 if keras.config.backend() == "torch" else 20


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches straight from memory-mapped arrays, after `epoch` whole epochs.

    The order of epoch n, counted from 1, follows from the seed and n alone, so that a resumed
    training sees the same data in the same order.
    """

    def __init__(self, x: Array, y: Array, settings: TrainingSettings, epoch: int) -> None:
        super().__init__()
        self._x, self._y = x, y
        self._settings = settings
        self._epoch = epoch
        # Keras looks at the shapes of two batches before the first epoch begins.
        self._order = np.arange(len(x))

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return math.ceil(len(self._x) / self._settings.batch_size)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        start = index * self._settings.batch_size
        rows = self._order[start : start + self._settings.batch_size]
        return self._x[rows], self._y[rows]

    def on_epoch_begin(self) -> None:
        """Go on to the order of the next epoch."""
        self._epoch += 1
        generator = np.random.default_rng((self._settings.seed, self._epoch))
        self._order = generator.permutation(len(self._x))


class Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the learning curve and a checkpoint after every epoch, and shows how far it is."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        progress: Progress,
        history: list[dict[str, Any]],
        seconds: float,
    ) -> None:
        super().__init__()
        self._checkpoint, self._progress = checkpoint, progress
        self.history = history
        self._started = time.monotonic() - seconds

    @property
    def seconds(self) -> float:
        """Wall time of the training, that before an interruption included."""
        return time.monotonic() - self._started

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Show how far the epoch is."""
        # Keras counts on to the end of an execution that the epoch only filled in part.
        self._progress.advance(len(self.history), min(batch + 1, self.params["steps"]))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keep the epoch's figures and the state after it. Raises DigitsError if it diverged."""
        figures = {name: float(value) for name, value in (logs or {}).items() if name in METRICS}
        if not all(map(math.isfinite, figures.values())):
            raise DigitsError(
                f"{self.model.name} diverged in epoch {epoch + 1}: its loss is {figures['loss']}, "
                f"on the test set {figures['val_loss']}; try another seed, or lower the learning "
                "rate in its recipe"
            )
        self.history.append({"epoch": epoch + 1, **figures})
        self._checkpoint.save(_state(self.model), self.history, self.seconds)
        self._progress.finish_epoch(self.history[-1])


def train_model(
    arrays: Path,
    facts: ArraysRef,
    build: Builder,
    settings: TrainingSettings,
    *,
    checkpoint: Checkpoint,
    progress: Progress,
    output: Path,
) -> tuple[int, float]:
    """Train to the last epoch, from the checkpoint if there is one.

    Reads x_*.npy and y_*.npy in `arrays`, writes model.keras and history.json into `output`.
    Returns the number of parameters and the wall seconds of the training. Raises DigitsError when
    it diverges.
    """
    x_train, y_train, x_test, y_test = (
        np.load(arrays / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in ("x_train", "y_train", "x_test", "y_test")
    )
    image_shape = (*facts.layout.image_shape, 1)
    model = build(image_shape, facts.layout.num_classes, settings.dropout, settings.seed)
    model.compile(
        optimizer=OPTIMIZERS[settings.optimizer](settings.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    model.optimizer.build(model.trainable_variables)
    recorder = _resume(model, checkpoint, progress)
    epoch = len(recorder.history)
    batches = Batches(x_train, y_train, settings, epoch)
    progress.begin(settings.epochs, len(batches), epoch)
    if epoch < settings.epochs:
        model.fit(
            batches,
            epochs=settings.epochs,
            initial_epoch=epoch,
            # The order is ours; Keras would shuffle the batches once more, unseeded.
            shuffle=False,
            validation_data=(x_test, y_test),
            validation_batch_size=1000,
            callbacks=[recorder],
            verbose=0,
        )
    # Without the optimizer: what predicts is kept, what training needs lies in the checkpoint.
    trained = build(image_shape, facts.layout.num_classes, settings.dropout, settings.seed)
    trained.set_weights(model.get_weights())
    _save(trained, output / "model.keras")
    history = json.dumps({"epochs": recorder.history}, indent=1)
    (output / "history.json").write_text(history, encoding="utf-8")
    return model.count_params(), recorder.seconds


def _resume(model: keras.Model, checkpoint: Checkpoint, progress: Progress) -> Recorder:
    kept = checkpoint.load()
    if kept is None:
        return Recorder(checkpoint, progress, [], 0.0)
    variables, history, seconds = kept
    _restore(model, variables)
    logger.info("%s goes on after epoch %d, where an earlier run ended", model.name, len(history))
    return Recorder(checkpoint, progress, history, seconds)


def _variables(model: keras.Model) -> list[Any]:
    # Weights and the state of the random numbers of each layer, and the optimizer's memory. Not
    # model.variables: that also holds metrics, which are only made when fit begins.
    in_layers = [variable for layer in model.layers for variable in layer.variables]
    return [*in_layers, *model.optimizer.variables]


def _state(model: keras.Model) -> Variables:
    return [keras.ops.convert_to_numpy(variable) for variable in _variables(model)]


def _restore(model: keras.Model, values: Variables) -> None:
    for variable, value in zip(_variables(model), values, strict=True):
        variable.assign(value)


def _timeless(value: Any, numbers: dict[Any, int]) -> Any:
    """A part of Keras's description without dates, and with object ids counted from 0."""
    if isinstance(value, list):
        return [_timeless(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _timeless(item, numbers) for key, item in value.items() if key != "date_saved"}
    if "shared_object_id" in plain:
        # Keras writes addresses in memory here.
        plain["shared_object_id"] = numbers.setdefault(plain["shared_object_id"], len(numbers))
    return plain


def _save(model: keras.Model, path: Path) -> None:
    """Save as a .keras archive whose bytes depend on the model alone, not on the moment."""
    dated = path.with_suffix(".dated.keras")
    model.save(dated)
    with zipfile.ZipFile(dated) as source, zipfile.ZipFile(path, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name.endswith(".json"):
                content = json.dumps(_timeless(json.loads(content), {})).encode()
            target.writestr(zipfile.ZipInfo(name), content)
    dated.unlink()
