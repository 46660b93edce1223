"""The real MNIST, ingested and normalized in a workspace, as the benchmarks train on it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.datasets.ingestion import ingest_dataset
from digits.datasets.normalization import store_arrays
from digits.datasets.sources.content import content_of
from digits.spec import load_spec
from digits.storage.references import ArraysRef
from digits.storage.workspace import Workspace

# Images of the training set that recipes are chosen on.
NUM_VALIDATION = 10_000


@dataclass(frozen=True)
class Prepared:
    """Arrays of a dataset: where they lie, and what is known of them."""

    folder: Path
    facts: ArraysRef


def prepare(workspace: Workspace, name: str = "mnist") -> Prepared:
    """Ingest and normalize a dataset, from its files in the raw folder or from its source."""
    spec = load_spec(name, workspace.settings)
    content = content_of(spec, workspace.settings)
    dataset = ingest_dataset(spec.layout, content, spec.read_options, spec, workspace)
    facts = store_arrays(dataset, workspace.store)
    return Prepared(workspace.store.folder(facts), facts)


def held_out(arrays: Prepared, folder: Path) -> Prepared:
    """The training set cut in two, in `folder`: what is trained on, and what stands for a test."""
    folder.mkdir(parents=True, exist_ok=True)
    x, y = (np.load(arrays.folder / f"{name}_train.npy") for name in "xy")
    order = np.random.default_rng(2024).permutation(len(x))
    train, test = order[NUM_VALIDATION:], order[:NUM_VALIDATION]
    for split, rows in (("train", train), ("test", test)):
        np.save(folder / f"x_{split}.npy", x[rows])
        np.save(folder / f"y_{split}.npy", y[rows])
    changes = {"num_train": len(train), "num_test": len(test)}
    return Prepared(folder, arrays.facts.model_copy(update=changes))
