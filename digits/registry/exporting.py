"""Export the champion to other formats, publishing only exports that give the same labels."""

import importlib.util
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from digits.datasets.images import iter_split
from digits.errors import UsageError
from digits.registry.champion import KerasChampion, dataset_folder
from digits.registry.export_formats import FORMATS
from digits.registry.label_checks import Array, check_labels
from digits.registry.onnx_files import INPUT, OUTPUT
from digits.settings import IS_INSTALLED
from digits.spec import Layout
from digits.storage.files import TEMPORARY, file_digest, flush
from digits.storage.workspace import Workspace
from digits.training.devices import backend

BATCH_SIZE = 1000
FACTS, CARD = "export.json", "README.md"


def export_champion(
    champion: KerasChampion,
    folder: Path,
    formats: Sequence[str],
    workspace: Workspace,
    *,
    card: str | None = None,
) -> dict[str, Any]:
    """Export the champion to a new folder in each format, and return the facts in export.json.

    `card` is a model card in Markdown, which becomes README.md. Each exported model is loaded again
    and must give the champion's label for every test image. The folder is created atomically.
    Raises UsageError if a format is unknown, its packages are missing or the folder already exists,
    and DigitsError if an exported model gives other labels.
    """
    _check_request(folder, formats)
    data = dataset_folder(champion.version, workspace) / "test.parquet"
    name = f"{champion.layout.name}-v{champion.version.number}"
    draft = folder.with_name(f"{TEMPORARY}{folder.name}-{uuid.uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        paths = {form: draft / f"{name}{FORMATS[form].suffix}" for form in formats}
        for form, path in paths.items():
            FORMATS[form].write(champion, path)
        others = {form: FORMATS[form].read(path) for form, path in paths.items()}
        labels = check_labels(champion.model, others, _parts(data, champion.layout))
        facts = _facts(champion, paths, len(labels))
        (draft / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        if card is not None:
            (draft / CARD).write_text(card, encoding="utf-8")
        for path in (*draft.rglob("*"), draft):
            flush(path)
        draft.rename(folder)
        flush(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return facts


def _check_request(folder: Path, formats: Sequence[str]) -> None:
    unknown = [form for form in formats if form not in FORMATS]
    if unknown or not formats:
        raise UsageError(
            f"unknown format {', '.join(unknown) or '(none given)'}: choose from "
            f"{', '.join(FORMATS)}"
        )
    missing = {form: lacking for form in formats if (lacking := ", ".join(_missing_packages(form)))}
    if missing:
        needs = "; ".join(f"{form} needs {packages}" for form, packages in missing.items())
        advice = (
            "install them with pip install 'digits[export]'"
            if IS_INSTALLED
            else "install them from the lock with `make export ARGS=FOLDER`"
        )
        rest = ",".join(form for form in FORMATS if not _missing_packages(form))
        raise UsageError(f"missing packages: {needs}; {advice}, or use --format {rest}")
    if backend() != "tensorflow" and any(FORMATS[form].needs_tensorflow for form in formats):
        raise UsageError(
            f"KERAS_BACKEND={backend()} can only export keras; unset it for the other formats"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} already exists; choose a new folder, or delete it first")


def _missing_packages(form: str) -> list[str]:
    packages = FORMATS[form].packages
    return [packages[module] for module in packages if importlib.util.find_spec(module) is None]


def _parts(data: Path, layout: Layout) -> Iterator[Array]:
    """Yield the images of a split as models read them: float32 (n, H, W, 1) in 0..1."""
    for images, _ in iter_split(data, layout):
        for start in range(0, len(images), BATCH_SIZE):
            part = images[start : start + BATCH_SIZE, ..., np.newaxis]
            yield np.divide(part, np.float32(255))


def _facts(champion: KerasChampion, paths: Mapping[str, Path], num_images: int) -> dict[str, Any]:
    packages = {name for form in paths for name in FORMATS[form].packages.values()}
    return {
        "dataset": champion.layout.name,
        "version": champion.version.number,
        "model": champion.version.model.model,
        "digest": champion.version.model.digest,
        "accuracy": champion.version.evaluation.accuracy,
        "num_images_with_the_same_label": num_images,
        "input": f"float32 (N, {', '.join(map(str, champion.layout.image_shape))}, 1) in 0..1",
        "output": f"float32 (N, {champion.layout.num_classes}), class probabilities",
        "class_names": champion.layout.class_names,
        "names": {"input": INPUT, "output": OUTPUT},
        "readable_by": {form: FORMATS[form].oldest_readers for form in paths},
        "formats": {form: path.name for form, path in paths.items()},
        "sha256": {
            str(path.relative_to(exported.parent)): file_digest(path)
            for exported in paths.values()
            for path in (sorted(exported.rglob("*")) if exported.is_dir() else [exported])
            if path.is_file()
        },
        "libraries": {name: version(name) for name in sorted(packages | {"keras", backend()})},
    }
