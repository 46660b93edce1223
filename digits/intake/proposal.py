"""Proposes a spec for a new dataset by examining its files."""

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
    PixelRange,
    available_datasets,
    load_spec,
)
from digits.storage.files import make_folder, write_whole
from digits.thresholds import SPLITS, CentroidFile, Split
from digits.validation.centroids import compute_centroids, freeze_centroids
from digits.validation.summary import summarize


@dataclass(frozen=True)
class Wishes:
    """What the user specifies about the files; the rest is detected."""

    file_layout: str | None = None
    image_shape: ImageShape | None = None
    label_column: Column | None = None
    test_share: float = 1 / 7
    pixel_range: PixelRange | None = None


@dataclass(frozen=True)
class Proposal:
    """A spec that was written, and what it is based on."""

    path: Path
    spec: DatasetSpec
    survey: Survey
    counts: dict[Split, int]
    bounds: Bounds

    def facts(self) -> dict[str, Any]:
        """What was detected and assumed, as JSON values."""
        return {
            "path": str(self.path),
            "layout": self.spec.file_layout,
            "image_shape": list(self.spec.image_shape),
            "classes": list(self.spec.layout.class_names),
            "pixel_range": list(self.spec.pixel_range),
            "pixel_convention": self.survey.pixel_convention,
            "notes": list(self.survey.notes),
            "label_column": self.spec.label_column,
            "test_share": None if self.survey.is_split else self.spec.test_share,
            "num_images": dict(self.counts),
            "floor": self.spec.floor,
        }

    def assumptions(self) -> dict[str, str]:
        """What was detected and assumed, as a few lines of text."""
        spec, seen, names = self.spec, self.survey, self.spec.layout.class_names
        low, high = spec.pixel_range
        column = spec.label_column
        label = {None: "", 0: ", label in the first column", -1: ", label in the last column"}.get(
            column if isinstance(column, int) else None, f", label in column {column}"
        )
        classes = (
            ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:3])} ... {names[-1]}"
        )
        train, test = self.counts["train"], self.counts["test"]
        given = "as in the files" if seen.is_split else "by a hash of each image's pixels"
        notes = {"note": "; ".join(seen.notes)} if seen.notes else {}
        return {
            "layout": f"{spec.file_layout}{label}",
            "images": f"{seen.num_images:,} of {spec.image_shape[0]} x {spec.image_shape[1]} pixels"
            + (", assumed square" if seen.is_square_assumed else ""),
            "pixels": f"{low:g} to {high:g} ({seen.pixel_convention}); found {seen.lowest:g} to "
            f"{seen.highest:g}",
            "classes": f"{len(names):,}: {classes}",
            "split": f"{train:,} for training, {test:,} for testing, {given}",
            "floor": f"a champion needs {spec.floor:.0%} accuracy; the nearest mean image reaches "
            f"{self.bounds.centroid_accuracy:.1%}",
            "bounds": "measured on these images, with some room",
            **notes,
        }


def propose(name: str, place: Path, wishes: Wishes, settings: Settings) -> Proposal:
    """Write the spec of a new dataset, and its class centroids next to it.

    Raises UsageError if the name is invalid or taken, or `place` does not exist; DataError if the
    files at `place` are not a complete dataset.
    """
    folder = settings.datasets_dirs[0]
    _check_name(name, settings)
    place = place.expanduser().absolute()
    if not place.exists():
        raise UsageError(f"{place}: not found; --from must name the dataset's file or folder")
    layout = wishes.file_layout or detect_layout([place])
    source = () if place == settings.raw_dir / name else (FolderSource(kind="folder", path=place),)
    spec = _draft(name, layout, wishes, source)
    with opened(spec, content_of(spec, settings), settings) as files:
        seen = survey(files, layout, wishes.image_shape, wishes.label_column, wishes.pixel_range)
        spec = _fitted(spec, seen)
        with tempfile.TemporaryDirectory(prefix="digits-") as scratch:
            defects = Defects()
            chunks = read_chunks(files, spec, defects)
            counts = write_splits(chunks, spec.layout, spec.test_share, Path(scratch))
            defects.enforce()
            make_folder(folder)
            bounds, centroids = _measure(Path(scratch), spec, folder, is_split=seen.is_split)
    path = folder / f"{name}.toml"
    write_whole(path, spec_text(spec, seen, bounds, centroids).encode())
    return Proposal(path, load_spec(name, settings), seen, counts, bounds)


def _check_name(name: str, settings: Settings) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r}: invalid dataset name (expected only a-z, 0-9, - and _)")
    if name in available_datasets(settings):
        raise UsageError(
            f"dataset {name} already exists; its spec was not overwritten: choose another name, or "
            "remove the spec by hand"
        )


def _draft(name: str, layout: str, wishes: Wishes, source: tuple[FolderSource, ...]) -> DatasetSpec:
    """The most permissive spec, to read the files with."""
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
        # Classes named by their number need no entry.
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
            names += ", ..." * (len(missing) > 5)
            advice = "add images of them" + ("" if is_split else ", or use a larger --test-share")
            raise DataError(
                f"{split} split of {len(frame):,} images: {len(missing):,} of the "
                f"{layout.num_classes:,} classes missing ({names}); {advice}"
            )
    bounds = measure_bounds(frames, layout.num_classes, is_split=is_split)
    return bounds, freeze_centroids(means, folder / f"{spec.name}.centroids.npy")
