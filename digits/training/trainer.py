"""Training one model on prepared arrays: resumable after each epoch, reproducible bit for bit."""

import contextlib
import json
import logging
import math
import time
import zipfile
from pathlib import Path
from typing import Any

import keras

from digits.errors import DigitsError
from digits.models import Builder, TrainingSettings
from digits.progress import Progress
from digits.storage.references import ArraysRef
from digits.training.arrays import StoredArray
from digits.training.checkpoints import Checkpoint, Variables
from digits.training.devices import TRACING
from digits.training.learner import STEPS_PER_EXECUTION, make_learner, make_metrics, outcome
from digits.training.training_data import Minibatches, TestMinibatches, feed

logger = logging.getLogger(__name__)

METRICS = ("accuracy", "loss", "val_accuracy", "val_loss")
TEST_BATCH = 1000


class TestScorer:
    """Scores the model that training would produce now: `plain` with the learner's weights."""

    def __init__(self, plain: keras.Model, test: TestMinibatches) -> None:
        self._plain, self._test, self._is_traced = plain, feed(test), False
        plain.compile(
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=STEPS_PER_EXECUTION,
        )
        make_metrics(plain)

    def score(self, learner: keras.Model) -> dict[str, float]:
        """Return loss and accuracy on the test set, as `val_loss` and `val_accuracy`."""
        self._plain.set_weights(outcome(learner))
        with contextlib.nullcontext() if self._is_traced else TRACING:
            figures = self._plain.evaluate(self._test, return_dict=True, verbose=0)
        self._is_traced = True
        return {f"val_{name}": value for name, value in figures.items()}


class FirstStep(keras.callbacks.Callback):  # type: ignore[misc]
    """Holds the lock on tracing during the first step of a training, which builds its graph."""

    def __init__(self) -> None:
        super().__init__()
        self._held = contextlib.ExitStack()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Wait for other trainings that are being traced."""
        self._held.enter_context(TRACING)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Let others be traced; only the first call has an effect."""
        self.release()

    def release(self) -> None:
        """Release the lock, if it is held."""
        self._held.close()


class Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    """Saves the learning curve and a checkpoint after every epoch, and reports progress."""

    def __init__(
        self,
        scorer: TestScorer,
        checkpoint: Checkpoint,
        progress: Progress,
        history: list[dict[str, Any]],
        seconds: float,
    ) -> None:
        super().__init__()
        self._scorer, self._checkpoint, self._progress = scorer, checkpoint, progress
        self.history = history
        self._started = time.monotonic() - seconds

    @property
    def seconds(self) -> float:
        """Wall time of the training, including the time before an interruption."""
        return time.monotonic() - self._started

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Report progress within the epoch."""
        # Keras counts to the end of an execution even if the epoch ends within it.
        self._progress.advance(len(self.history), min(batch + 1, self.params["steps"]))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save the epoch's figures and the state after it. Raises DigitsError if it diverged."""
        measured = {**(logs or {}), **self._scorer.score(self.model)}
        figures = {name: float(measured[name]) for name in METRICS}
        if not all(map(math.isfinite, figures.values())):
            raise DigitsError(
                f"{self.model.name} diverged in epoch {epoch + 1}: its loss is {figures['loss']} "
                f"(test set: {figures['val_loss']}); try another seed, or lower the learning rate "
                "in its recipe"
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
    """Train to the last epoch, resuming from the checkpoint if there is one.

    Reads x_*.npy and y_*.npy in `arrays`; writes model.keras and history.json into `output`.
    Returns the number of parameters and the training's wall time in seconds. Raises DigitsError if
    it diverges.
    """
    x_train, y_train, x_test, y_test = (
        StoredArray(arrays / f"{name}.npy") for name in ("x_train", "y_train", "x_test", "y_test")
    )

    def build_plain() -> keras.Model:
        image_shape = (*facts.layout.image_shape, 1)
        return build(image_shape, facts.layout.num_classes, settings.dropout, settings.seed)

    num_batches = math.ceil(len(x_train) / settings.batch_size)
    with TRACING:  # Keras traces each layer to know the shape of its output
        scorer = TestScorer(build_plain(), TestMinibatches(x_test, y_test, TEST_BATCH))
        learner = make_learner(build_plain(), settings, num_batches)
    recorder = _resume(learner, scorer, checkpoint, progress)
    epoch = len(recorder.history)
    progress.begin(settings.epochs, num_batches, epoch)
    if epoch < settings.epochs:
        with contextlib.ExitStack() as stack:
            batches = stack.enter_context(
                contextlib.closing(Minibatches(x_train, y_train, settings))
            )
            beginner = keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: batches.begin(epoch + 1)  # noqa: ARG005
            )
            first_step = FirstStep()
            stack.callback(first_step.release)  # a first step that fails
            # Minibatches are already shuffled; Keras would shuffle them again, unseeded.
            learner.fit(
                feed(batches),
                epochs=settings.epochs,
                initial_epoch=epoch,
                shuffle=False,
                callbacks=[beginner, first_step, recorder],
                verbose=0,
            )
    # Without the optimizer, which is only needed for training and is in the checkpoint.
    with TRACING:
        trained = build_plain()
        trained.set_weights(outcome(learner))
    _save(trained, output / "model.keras")
    history = json.dumps({"epochs": recorder.history}, indent=1)
    (output / "history.json").write_text(history, encoding="utf-8")
    return trained.count_params(), recorder.seconds


def _resume(
    learner: keras.Model, scorer: TestScorer, checkpoint: Checkpoint, progress: Progress
) -> Recorder:
    kept = checkpoint.load()
    if kept is None:
        return Recorder(scorer, checkpoint, progress, [], 0.0)
    variables, history, seconds = kept
    _restore(learner, variables)
    logger.info("%s: resuming after epoch %d of an earlier run", learner.name, len(history))
    return Recorder(scorer, checkpoint, progress, history, seconds)


def _variables(model: keras.Model) -> list[Any]:
    # Each layer's weights and random state, and the optimizer's state. Not model.variables, which
    # also contains metrics that are only created when fit begins.
    in_layers = [variable for layer in model.layers for variable in layer.variables]
    return [*in_layers, *model.optimizer.variables]


def _state(model: keras.Model) -> Variables:
    return [keras.ops.convert_to_numpy(variable) for variable in _variables(model)]


def _restore(model: keras.Model, values: Variables) -> None:
    for variable, value in zip(_variables(model), values, strict=True):
        variable.assign(value)


def _timeless(value: Any, numbers: dict[Any, int]) -> Any:
    """Return part of Keras's description without dates and with object ids counted from 0."""
    if isinstance(value, list):
        return [_timeless(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _timeless(item, numbers) for key, item in value.items() if key != "date_saved"}
    if "shared_object_id" in plain:
        # Keras writes memory addresses here.
        plain["shared_object_id"] = numbers.setdefault(plain["shared_object_id"], len(numbers))
    return plain


def _save(model: keras.Model, path: Path) -> None:
    """Save as a .keras archive whose bytes depend only on the model, not on the time of saving."""
    dated = path.with_suffix(".dated.keras")
    model.save(dated)
    with zipfile.ZipFile(dated) as source, zipfile.ZipFile(path, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name.endswith(".json"):
                content = json.dumps(_timeless(json.loads(content), {})).encode()
            target.writestr(zipfile.ZipInfo(name), content)
    dated.unlink()
