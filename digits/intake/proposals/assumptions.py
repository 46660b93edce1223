"""What a proposed spec assumes, and what its author should look at before a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digits.intake.proposals.measuring import Measured
from digits.intake.proposals.survey import Survey
from digits.spec import DatasetSpec
from digits.thresholds import Split


@dataclass(frozen=True)
class Proposal:
    """A spec that was written, and what it is based on.

    `validation` are the parts of the files that are meant for validation, `not_read` the files that
    are not read.
    """

    path: Path
    spec: DatasetSpec
    survey: Survey
    measured: Measured
    validation: tuple[str, ...] = ()
    not_read: tuple[str, ...] = ()

    @property
    def counts(self) -> Mapping[Split, int]:
        """Number of images of each split."""
        return self.measured.counts

    def facts(self) -> dict[str, Any]:
        """What was detected and assumed, as JSON values."""
        spec, measured = self.spec, self.measured
        return {
            "path": str(self.path),
            "layout": spec.file_layout,
            "image_shape": list(spec.image_shape),
            "classes": list(spec.layout.class_names),
            "pixel_range": list(spec.pixel_range),
            "pixel_convention": self.survey.pixel_convention,
            "notes": list(self.survey.notes),
            "label_column": spec.label_column,
            "test_share": None if measured.is_split else spec.test_share,
            "validation": list(self.validation),
            "not_read": list(self.not_read),
            "num_images": dict(measured.counts),
            "floor": spec.floor,
            "first_label": spec.first_label,
            "transposed": spec.transposed,
            "centered": spec.centered,
            "num_shared_images": measured.shared.num_images,
            "num_label_conflicts": measured.conflicts.num_images,
            "remarks": list(remarks(spec, measured, self.path)),
        }

    def assumptions(self) -> dict[str, str]:
        """What was detected and assumed, as a few lines of text."""
        spec, seen, measured = self.spec, self.survey, self.measured
        low, high = spec.pixel_range
        height, width = spec.image_shape
        train, test = measured.counts["train"], measured.counts["test"]
        given = "as in the files" if measured.is_split else "by a hash of each image's pixels"
        if self.validation:
            becomes = {
                "train": 'is training data (validation = "leave-out" in the file leaves it out)',
                "leave-out": "is left out",
            }
            given += f"; validation data ({_some(self.validation)}) {becomes[spec.validation]}"
        left = {"not read": _some(self.not_read)} if self.not_read else {}
        return {
            "layout": f"{spec.file_layout}{_label_column(spec)}",
            "images": f"{train + test:,} of {height} x {width} pixels"
            + ", assumed square" * seen.is_square_assumed
            + ", transposed in the files" * spec.transposed,
            "pixels": f"{low:g} to {high:g} ({seen.pixel_convention}); found {seen.lowest:g} to "
            f"{seen.highest:g}",
            "classes": _classes(spec),
            "split": f"{train:,} for training, {test:,} for testing, {given}",
            "pictures": _pictures(spec, measured),
            "floor": f"a champion needs {spec.floor:.0%} accuracy; the nearest mean image reaches "
            f"{measured.bounds.centroid_accuracy:.1%}",
            "bounds": "measured on these images, with some room",
            **left,
            **({"note": "; ".join(seen.notes)} if seen.notes else {}),
        }


def remarks(spec: DatasetSpec, measured: Measured, path: Path) -> Iterator[str]:
    """Yield what the author of the spec in `path` should look at before a run."""
    shared, trials = measured.shared, measured.trials
    for defect in measured.left_out:
        yield f"left out {defect.count:,} rows or files: {defect}"
    if shared.num_images:
        yield (
            f"{shared.num_images:,} of the {measured.counts['test']:,} test images are also "
            f"training images ({shared.named}): accuracy on new images may be lower than the test "
            "accuracy"
        )
    for check, marked, problem in (
        ("label_conflicts", measured.conflicts, "equal to an image with another label"),
        ("blank_images", measured.blank, "blank"),
    ):
        if marked.num_images and spec.thresholds.severity_of(check) == "error":
            yield (
                f"{marked.num_images:,} images are {problem} ({marked.named}), so a run will "
                f'refuse this data: correct it, or set {check} = "warning" under '
                f"[thresholds.severity] in {path}"
            )
    if trials.look != "upright":
        yield (
            f"the digits look {trials.look}: turned upright, {trials.fits[trials.look]:.0%} of "
            f"{trials.num_images:,} test images are nearest to MNIST's mean image of their digit, "
            f"and as they are {trials.fits['upright']:.0%}. {_turning(spec, trials.look, path)}"
        )


def _turning(spec: DatasetSpec, look: str, path: Path) -> str:
    if look != "transposed":
        return "If so, turn the files first, or pictures will be labeled wrongly"
    value = str(not spec.transposed).lower()
    return (
        f"If so, set transposed = {value} in {path} and run `digits dataset init {spec.name} "
        "--again`"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + " ..." * (len(names) > 3)


def _label_column(spec: DatasetSpec) -> str:
    match spec.label_column:
        case None:
            return ""
        case 0:
            return ", label in the first column"
        case -1:
            return ", label in the last column"
    return f", label in column {spec.label_column}"


def _classes(spec: DatasetSpec) -> str:
    names = spec.layout.class_names
    listed = ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:3])} ... {names[-1]}"
    first = (
        f"; label {spec.first_label} is {names[0]}" if spec.first_label and spec.class_names else ""
    )
    return f"{len(names):,}: {listed}{first}"


def _pictures(spec: DatasetSpec, measured: Measured) -> str:
    trials = measured.trials
    form = "centered before they are labeled" if spec.centered else "labeled as they are"
    return (
        f"{form}; the nearest mean image is right for {trials.centered:.0%} of "
        f"{trials.num_images:,} test images if centered, {trials.as_is:.0%} as they are"
    )
