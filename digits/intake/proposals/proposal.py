"""Proposes a spec for a new dataset by examining its files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from digits.datasets.advice import without_spec
from digits.datasets.files.file_layouts import dataset_files, detect_layout, not_read
from digits.datasets.formats.validation_data import validation_parts
from digits.datasets.sources.content import content_of, opened
from digits.errors import DataError, UsageError
from digits.intake.proposals.assumptions import Proposal
from digits.intake.proposals.measuring import measure_files
from digits.intake.proposals.spec_text import spec_text
from digits.intake.proposals.survey import MAX_CLASSES, Survey, survey
from digits.settings import Settings
from digits.spec import (
    MAX_SIDE,
    NAME,
    Column,
    DatasetSpec,
    FolderSource,
    ImageShape,
    PixelRange,
    Validation,
    available_datasets,
    load_spec,
    spec_path,
)
from digits.storage.files import make_folder, write_whole
from digits.thresholds import DefectName, Thresholds
from digits.validation.centroids import freeze_centroids
from digits.validation.trials import Center


@dataclass(frozen=True)
class Wishes:
    """What the user specifies about the files; the rest is detected.

    `left_out` are the checks of files whose failing rows are skipped; `class_names` are names for
    labels that may be numbers, counted from `first_label`.
    """

    file_layout: str | None = None
    image_shape: ImageShape | None = None
    image_column: Column | None = None
    label_column: Column | None = None
    pixel_range: PixelRange | None = None
    test_share: float = 1 / 7
    class_names: tuple[str, ...] = ()
    first_label: int | None = None
    transposed: bool = False
    centered: bool | None = None
    left_out: tuple[DefectName, ...] = ()
    validation: Validation = "train"


def propose(name: str, place: Path, wishes: Wishes, settings: Settings, center: Center) -> Proposal:
    """Write the spec of a new dataset, and its class centroids next to it.

    `center` centers a picture before it is labeled. Raises UsageError if the name is invalid or
    taken, or `place` does not exist; DataError if the files at `place` are not a complete dataset.
    """
    folder = settings.datasets_dirs[0]
    _check_name(name, settings)
    place = place.expanduser().absolute()
    if not place.exists():
        raise UsageError(f"{place}: not found; --from must name the dataset's file or folder")
    path = folder / f"{name}.toml"
    with without_spec():
        proposal = _examine(path, place, wishes, settings, center)
    make_folder(folder)
    centroids = freeze_centroids(proposal.measured.means, folder / f"{name}.centroids.npy")
    text = spec_text(
        proposal.spec,
        proposal.survey,
        proposal.measured,
        centroids,
        is_form_measured=wishes.centered is None,
    )
    write_whole(path, text.encode())
    return replace(proposal, spec=load_spec(name, settings))


def _examine(
    path: Path, place: Path, wishes: Wishes, settings: Settings, center: Center
) -> Proposal:
    name, layout = path.stem, wishes.file_layout or detect_layout([place])
    source = () if place == settings.raw_dir / name else (FolderSource(kind="folder", path=place),)
    spec = _draft(name, layout, wishes, source)
    validation = tuple(validation_parts(layout, dataset_files(layout, place)))
    with opened(spec, content_of(spec, settings), settings) as files:
        seen = survey(files, spec.read_options, wishes.image_shape, wishes.pixel_range)
        spec = spec.model_copy(update=_facts(seen, wishes))
        measured = measure_files(files, spec, center, settings)
    centered = wishes.centered
    centered = measured.trials.should_center if centered is None else centered
    spec = spec.model_copy(update={"centered": centered})
    left = tuple(map(str, not_read(layout, place)))
    return Proposal(path, spec, seen, measured, validation, left)


def _check_name(name: str, settings: Settings) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r}: invalid dataset name (expected only a-z, 0-9, - and _)")
    if name in available_datasets(settings):
        path = spec_path(name, settings)
        raise UsageError(
            f"dataset {name} already exists; its spec was not overwritten: choose another name, "
            f"remove {path}, or correct it and run `digits dataset init {name} --again`"
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
        image_column=wishes.image_column,
        label_column=wishes.label_column,
        transposed=wishes.transposed,
        test_share=wishes.test_share,
        validation=wishes.validation,
        sources=source,
        thresholds=Thresholds(severity=dict.fromkeys(wishes.left_out, "warning")),
    )


def _facts(seen: Survey, wishes: Wishes) -> dict[str, Any]:
    """The keys of the spec that the files decide, together with the wishes."""
    return {
        "image_shape": seen.image_shape,
        "pixel_range": seen.pixel_range,
        "label_column": seen.read_options.label_column,
        **_classes(seen, wishes),
    }


def _classes(seen: Survey, wishes: Wishes) -> dict[str, Any]:
    numbers, names = seen.numbers, wishes.class_names
    if names:
        # Labels may be the names themselves.
        is_number = bool(numbers) and not set(map(str, numbers)) <= set(names)
        first = _first_label(numbers, wishes) if is_number else 0
        return {"num_classes": len(names), "class_names": names, "first_label": first}
    first = numbers[0] if numbers and wishes.first_label is None else wishes.first_label or 0
    if (
        numbers
        and numbers[0] >= first
        and (wishes.first_label is not None or numbers == list(range(first, first + len(numbers))))
    ):
        # Classes named by consecutive numbers need no other names.
        return {"num_classes": numbers[-1] - first + 1, "class_names": (), "first_label": first}
    return {"num_classes": len(seen.labels), "class_names": seen.class_names}


def _first_label(numbers: list[int], wishes: Wishes) -> int:
    """The number of the first of the names. Raises DataError if the labels do not tell."""
    if wishes.first_label is not None:
        return wishes.first_label
    num_names = len(wishes.class_names)
    low, high = numbers[0], numbers[-1]
    possible = range(max(0, high - num_names + 1), low + 1)
    if len(possible) == 1:
        return possible[0]
    found = f"labels {low} to {high} and {num_names:,} class names"
    if not possible:
        raise DataError(f"{found}: more numbers than names (expected a name for each number)")
    raise DataError(
        f"{found}: the number of {wishes.class_names[0]} is not certain; set it with --first-label "
        f"({' or '.join(map(str, possible[:3]))})"
    )
