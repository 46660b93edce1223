"""Keeps a share of the pictures that were labeled, for people to check.

They are PNG files as the model saw them, in folders named after the label that it gave:
`artifacts/feedback/DATASET/samples/LABEL/v2-0.9731-....png`. Move the wrong ones to the folder of
the right label; then `digits dataset add artifacts/feedback/DATASET/samples` takes them all.
"""

import io
import logging
import random
import threading
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, NamedTuple

from PIL import Image

from digits.inference.loaded_versions import LoadedVersion
from digits.intake.corrections import class_folders, feedback_folder
from digits.labeling.image_files import Grey
from digits.server.batching import Probabilities
from digits.settings import Settings
from digits.spec import Layout

logger = logging.getLogger(__name__)

# A picture of 28x28 takes one block of the disk: 40 MB a dataset.
MAX_PICTURES = 10_000
# Pictures that wait to be written.
MAX_WAITING = 1000


class Sample(NamedTuple):
    """A picture uint8 (H, W) as a version saw it, and its answer: a class index."""

    layout: Layout
    version: int
    seen: Grey
    label: int
    probability: float


class Sampler:
    """Writes a `share` of the pictures, in a thread; `lose` is told of those it could not write."""

    def __init__(self, share: float, settings: Settings, lose: Callable[[int], Any]) -> None:
        self._share = share
        self._settings = settings
        self._lose = lose
        self._queue: Queue[Sample] = Queue(MAX_WAITING)
        self._counts: dict[Path, int] = {}
        self._is_failing = False
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._write_forever, name="samples", daemon=True)
        if share > 0:
            self._thread.start()

    @property
    def draws(self) -> bool:
        """Draw whether the next request is in the sample."""
        return self._share > 0 and random.random() < self._share  # noqa: S311

    def keep(self, version: LoadedVersion, seen: Iterable[Grey], scores: Probabilities) -> None:
        """Write the pictures of a request soon; `scores` float32 (n, K) are the answers."""
        for picture, row in zip(seen, scores, strict=True):
            label = int(row.argmax())
            sample = Sample(version.layout, version.number, picture, label, float(row[label]))
            try:
                self._queue.put_nowait(sample)
            except Full:
                self._lose(1)

    def close(self) -> None:
        """Write what waits, for up to a second, and end."""
        self._is_closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def _write_forever(self) -> None:
        while not (self._is_closed.is_set() and self._queue.empty()):
            try:
                sample = self._queue.get(timeout=0.2)
            except Empty:
                continue
            try:
                self._write(sample)
                self._is_failing = False
            except OSError as error:
                self._lose(1)
                if not self._is_failing:
                    logger.warning("cannot write samples: %s", error)
                self._is_failing = True

    def _write(self, sample: Sample) -> None:
        root = samples_folder(sample.layout.name, self._settings)
        if root not in self._counts:
            self._counts[root] = sum(1 for _ in root.rglob("*.png"))
        if self._counts[root] >= MAX_PICTURES:
            self._lose(1)
            return
        content = io.BytesIO()
        Image.fromarray(sample.seen).save(content, "PNG")
        folder = root / class_folders(sample.layout)[sample.label]
        folder.mkdir(parents=True, exist_ok=True)
        name = f"v{sample.version}-{sample.probability:.4f}-{uuid.uuid4().hex}"
        draft = folder / f".{name}.tmp"
        try:
            draft.write_bytes(content.getvalue())
            draft.rename(folder / f"{name}.png")
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        self._counts[root] += 1


def samples_folder(dataset: str, settings: Settings) -> Path:
    """Return the folder of a dataset's samples, a folder per label below it."""
    return feedback_folder(dataset, settings) / "samples"
