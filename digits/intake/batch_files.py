"""Reads the files of a batch in any layout: its rows, and the problems in its files."""

import functools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from digits.datasets.defects import Defect, DefectError, Defects, refuse
from digits.datasets.files.file_layouts import batch_files
from digits.datasets.formats.chunks import LabeledChunk
from digits.datasets.formats.readers import read_files
from digits.datasets.images import Images, Labels
from digits.datasets.kept_batches import canonical_order
from digits.datasets.sources.archives import MAX_IMAGES
from digits.errors import DataError
from digits.spec import DatasetSpec
from digits.storage.files import printable
from digits.thresholds import CheckName, Severity
from digits.validation.findings import Finding

# The rows of a batch are compared with all images of its dataset, which takes several times this.
MAX_PIXELS = 2**28


@dataclass(frozen=True)
class BatchRows:
    """The rows of a batch in the order of its files: images (n, H, W), labels (n,), and parts.

    Each part contains the names of consecutive rows. `roots` are the paths of the batch; names in
    messages leave out the folder that contains them.
    """

    images: Images
    labels: Labels
    parts: Sequence[Sequence[str]]
    roots: Sequence[Path]

    @functools.cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """The order in which rows are stored, which does not depend on the files."""
        return canonical_order(self.images, self.labels)

    @property
    def in_order(self) -> tuple[Images, Labels]:
        """Images and labels in the order in which they are stored."""
        return self.images[self.order], self.labels[self.order]

    def name(self, row: int) -> str:
        """The name of a row in the files."""
        ends = list(accumulate(map(len, self.parts)))
        part = bisect_right(ends, row)
        return shortened(self.parts[part][row - ends[part]], self.roots)


def read_rows(paths: Sequence[Path], spec: DatasetSpec) -> tuple[BatchRows | None, list[Finding]]:
    """Read the rows of a batch in any layout; also return the findings from reading its files.

    Raises DataError if the operating system refuses to read a file.
    """
    # An added batch is deleted, with any file that was skipped because it is no picture.
    defects = Defects({**spec.read_options.severity, "file_type": "error"})
    found: list[Finding] = []
    chunks = []
    try:
        layout, files = batch_files(paths)
        for file in files:
            # Reading a pipe could block forever.
            if not (file.is_file() or file.is_dir()):
                refuse("file_type", str(file), "is not a regular file", "one")
        # What a batch does not keep is deleted, so nothing may be left out.
        changes = {"file_layout": layout, "validation": "train"}
        read_options = spec.read_options.model_copy(update=changes)
        read = read_files(files, spec.layout, read_options, defects)
        chunks = list(_bounded(read, paths))
    except DataError as error:
        # An OSError from the operating system has an errno; one about corrupted data has none.
        if isinstance(error.__cause__, OSError) and error.__cause__.errno is not None:
            raise
        found.append(of_files(error, paths))
    found += [
        _of_rows(defect, severity, paths)
        for severity in ("error", "warning")
        for defect in defects.of(severity)
    ]
    if not chunks:
        nothing = DefectError("empty_file", "no images, expected images and their labels")
        return None, found or [of_files(nothing, paths)]
    images = np.concatenate([chunk.images for chunk in chunks])
    labels = np.concatenate([chunk.labels for chunk in chunks])
    return BatchRows(images, labels, [chunk.names for chunk in chunks], paths), found


def _bounded(chunks: Iterable[LabeledChunk], paths: Sequence[Path]) -> Iterator[LabeledChunk]:
    """Stop at the first chunk that makes a batch too large: all of it must fit into memory."""
    num_rows = num_bytes = 0
    for chunk in chunks:
        num_rows += len(chunk.images)
        num_bytes += chunk.images.nbytes
        if num_rows > MAX_IMAGES or num_bytes > MAX_PIXELS:
            most = min(MAX_IMAGES, MAX_PIXELS * num_rows // num_bytes)
            found = f"has at least {num_rows:,} images"
            refuse("unbounded", str(paths[0]), found, f"at most {most:,}; split it into batches")
        yield chunk


def shortened(name: str, roots: Sequence[Path]) -> str:
    """The name of a row or file, without the folder that contains its batch."""
    for root in roots:
        name = name.replace(f"{root.parent}/", "")
    return printable(name)


def _of_rows(defect: Defect, severity: Severity, paths: Sequence[Path]) -> Finding:
    places = tuple(shortened(place, paths) for place in defect.places)
    return Finding(
        split="batch",
        check=defect.check,
        column=None,
        expectation=None,
        severity=severity,
        success=False,
        about="rows that cannot be used",
        found=f"{places[0]} {printable(defect.found)}",
        expected=printable(defect.expected),
        names=places,
        num_rows=defect.count,
    )


def of_files(error: DataError, paths: Sequence[Path]) -> Finding:
    """The finding of a problem that makes a complete file unusable."""
    check: CheckName = error.check if isinstance(error, DefectError) else "file_type"
    found, _, expected = (
        shortened(str(error), paths).removesuffix(f" ({check})").partition(", expected ")
    )
    return Finding(
        split="batch",
        check=check,
        column=None,
        expectation=None,
        severity="error",
        success=False,
        about="files that cannot be read",
        found=found,
        expected=expected or "files of images and their labels",
    )
