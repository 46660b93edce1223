"""The real MNIST, ingested and normalized in a workspace for the benchmarks to train on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits.datasets.ingestion import ingest_dataset
from digits.datasets.normalization import store_arrays
from digits.datasets.sources.content import content_of
from digits.spec import load_spec
from digits.storage.references import ArraysRef
from digits.storage.workspace import Workspace


@dataclass(frozen=True)
class Prepared:
    """A dataset's arrays: their folder and their reference."""

    folder: Path
    facts: ArraysRef


def prepare(workspace: Workspace, name: str = "mnist") -> Prepared:
    """Ingest and normalize a dataset from its files in the raw folder or from its source."""
    spec = load_spec(name, workspace.settings)
    content = content_of(spec, workspace.settings)
    dataset = ingest_dataset(spec.layout, content, spec.read_options, spec, workspace)
    facts = store_arrays(dataset, workspace.store)
    return Prepared(workspace.store.folder(facts), facts)


def first_images(arrays: Prepared, number: int, folder: Path) -> Prepared:
    """Copy the first images of both splits into `folder`, to try a benchmark on."""
    for split in ("train", "test"):
        for name in "xy":
            rows = np.load(arrays.folder / f"{name}_{split}.npy", mmap_mode="r")[:number]
            np.save(folder / f"{name}_{split}.npy", rows)
    changes = {
        f"num_{split}": min(number, getattr(arrays.facts, f"num_{split}"))
        for split in ("train", "test")
    }
    return Prepared(folder, arrays.facts.model_copy(update=changes))
