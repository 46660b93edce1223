"""A spec for a dataset that has none yet, made by looking at its files."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digits.datasets.defects import Defects
from digits.datasets.formats.readers import read_chunks
from digits.datasets.images import iter_split
from digits.datasets.ingestion import write_splits
from digits.datasets.sources.content import content_of, opened
from digits.datasets.sources.file_layouts import detect_layout
from digits.errors import DataError, UsageError
from digits.intake.measured_bounds import Bounds, measure_bounds
from digits.intake.spec_text import spec_text
from digits.intake.survey import MAX_CLASSES, Survey, survey
from digits.settings import Settings
from digits.spec import (
    MAX_SIDE,
    NAME,
    Column,
    DatasetSpec,
    FolderSource,
    ImageShape,
    available_datasets,
    load_spec,
)
from digits.storage.files import make_folder, write_whole
from digits.thresholds import SPLITS, CentroidFile, Split
from digits.validation.centroids import compute_centroids, freeze_centroids
from digits.validation.summary import summarize


@dataclass(frozen=True)
class Wishes:
    """What a user says of the files; the rest is told by looking at them."""

    file_layout: str | None = None
    image_shape: ImageShape | None = None
    label_column: Column | None = None
    test_share: float = 1 / 7


@dataclass(frozen=True)
class Proposal:
    """A spec that was written, and what it was made of."""

    path: Path
    spec: DatasetSpec
    survey: Survey
    counts: dict[Split, int]
    bounds: Bounds

    def facts(self) -> dict[str, Any]:
        """What was found and assumed, for machines."""
        return {
            "path": str(self.path),
            "layout": self.spec.file_layout,
            "image_shape": list(self.spec.image_shape),
            "classes": list(self.spec.layout.class_names),
            "pixel_range": list(self.spec.pixel_range),
            "label_column": self.spec.label_column,
            "test_share": None if self.survey.is_split else self.spec.test_share,
            "num_images": dict(self.counts),
            "floor": self.spec.floor,
        }

    def assumptions(self) -> dict[str, str]:
        """The same in a few lines."""
        spec, seen, names = self.spec, self.survey, self.spec.layout.class_names
        low, high = spec.pixel_range
        column = spec.label_column
        label = {None: "", 0: ", the label first", -1: ", the label last"}.get(
            column if isinstance(column, int) else None, f", the label in column {column}"
        )
        classes = (
            ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:3])} ... {names[-1]}"
        )
        train, test = self.counts["train"], self.counts["test"]
        given = "as the files say" if seen.is_split else "by each image's own content"
        return {
            "layout": f"{spec.file_layout}{label}",
            "images": f"{seen.num_images:,} of {spec.image_shape[0]} x {spec.image_shape[1]}"
            + (", taken for squares" if seen.is_square_assumed else ""),
            "pixels": f"{low:g} to {high:g}; found {seen.lowest:g} to {seen.highest:g}",
            "classes": f"{len(names):,}: {classes}",
            "split": f"{train:,} for training, {test:,} for testing, {given}",
            "floor": f"{spec.floor:.0%} accuracy for a champion; the nearest mean image has "
            f"{self.bounds.centroid_accuracy:.1%}",
            "bounds": "as measured on these images, with some room",
        }


def propose(name: str, place: Path, wishes: Wishes, settings: Settings) -> Proposal:
    """Write the spec of a new dataset, and its class centroids beside it.

    Raises UsageError for a name that cannot be one or is taken, DataError for what the files at
    `place` lack.
    """
    folder = settings.datasets_dirs[0]
    _check_name(name, settings)
    place = place.expanduser().absolute()
    if not place.exists():
        raise UsageError(f"{place} is not there: --from names the files, or the folder of them")
    layout = wishes.file_layout or detect_layout([place])
    source = () if place == settings.raw_dir / name else (FolderSource(kind="folder", path=place),)
    spec = _draft(name, layout, wishes, source)
    with opened(spec, content_of(spec, settings), settings) as files:
        seen = survey(files, layout, wishes.image_shape, wishes.label_column)
        spec = _fitted(spec, seen)
        with tempfile.TemporaryDirectory(prefix="digits-") as scratch:
            defects = Defects()
            batches = read_chunks(files, spec, defects)
            counts = write_splits(batches, spec.layout, spec.test_share, Path(scratch))
            defects.enforce()
            make_folder(folder)
            bounds, centroids = _measure(Path(scratch), spec, folder, is_split=seen.is_split)
    path = folder / f"{name}.toml"
    write_whole(path, spec_text(spec, seen, bounds, centroids).encode())
    return Proposal(path, load_spec(name, settings), seen, counts, bounds)


def _check_name(name: str, settings: Settings) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a dataset's name: expected a-z, 0-9, - and _")
    if name in available_datasets(settings):
        raise UsageError(
            f"there is a dataset {name} already, and its spec is not written over: choose another "
            "name, or remove the spec by hand"
        )


def _draft(name: str, layout: str, wishes: Wishes, source: tuple[FolderSource, ...]) -> DatasetSpec:
    """A spec as wide as one can be, to find the files by."""
    return DatasetSpec(
        name=name,
        title=name,
        layout=layout,
        image_shape=wishes.image_shape or (MAX_SIDE, MAX_SIDE),
        num_classes=MAX_CLASSES,
        floor=0,
        label_column=wishes.label_column,
        test_share=wishes.test_share,
        sources=source,
    )


def _fitted(spec: DatasetSpec, seen: Survey) -> DatasetSpec:
    names = seen.class_names
    changes = {
        "image_shape": seen.image_shape,
        "num_classes": len(names),
        # Classes that are called by their number need no names.
        "class_names": () if names == tuple(map(str, range(len(names)))) else names,
        "pixel_range": seen.pixel_range,
        "label_column": seen.label_column,
    }
    return spec.model_copy(update=changes)


def _measure(
    scratch: Path, spec: DatasetSpec, folder: Path, *, is_split: bool
) -> tuple[Bounds, CentroidFile]:
    layout = spec.layout
    paths = {split: scratch / f"{split}.parquet" for split in SPLITS}
    means = compute_centroids(iter_split(paths["train"], layout), layout.num_classes)
    frames = summarize({split: iter_split(paths[split], layout) for split in SPLITS}, means)
    for split, frame in frames.items():
        missing = set(range(layout.num_classes)) - set(frame["label"])
        if missing:
            names = ", ".join(layout.class_names[label] for label in sorted(missing)[:5])
            advice = "add images of it" + ("" if is_split else ", or a larger --test-share")
            raise DataError(
                f"the {len(frame):,} images for {split} lack {len(missing):,} of the "
                f"{layout.num_classes:,} classes, as {names}: {advice}"
            )
    bounds = measure_bounds(frames, layout.num_classes, is_split=is_split)
    return bounds, freeze_centroids(means, folder / f"{spec.name}.centroids.npy")
