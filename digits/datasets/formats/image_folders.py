"""A folder tree of pictures, one folder per class, read in chunks."""

import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from digits.datasets.defects import Defects
from digits.datasets.files.class_folders import ClassFolder, class_folders, pictures
from digits.datasets.formats.chunks import MAX_ROWS, RawChunk
from digits.datasets.formats.depths import by_depth
from digits.datasets.formats.pictures import MAX_BYTES, PICTURE, Pixels, decode_picture
from digits.spec import ImageShape, ReadOptions
from digits.thresholds import SPLITS


def read_folders(
    files: Sequence[Path],
    image_shape: ImageShape | None,
    read_options: ReadOptions,
    defects: Defects,
) -> Iterator[RawChunk]:
    """Yield the images below each root; the name of an image's folder is its label.

    Raises DefectError for a root without class folders, OSError for an unreadable folder.
    """
    for root in files:
        folders = [
            folder
            for folder in class_folders(root)
            if folder.said != "validation" or read_options.validation == "train"
        ]
        for split in (*SPLITS, None):
            these = [folder for folder in folders if folder.split == split]
            yield from _read(these, image_shape, defects)


def _read(
    folders: Sequence[ClassFolder], image_shape: ImageShape | None, defects: Defects
) -> Iterator[RawChunk]:
    waiting = pictures(folders)
    while some := list(islice(waiting, MAX_ROWS)):
        images, labels, names = [], [], []
        for name, folder in some:
            path = folder.path / name
            image = _picture(path, image_shape, defects)
            if image is not None:
                image_shape = image_shape or (image.shape[0], image.shape[1])
                images.append(image)
                labels.append(folder.label)
                names.append(str(path))
        for values, rows in by_depth(images):
            yield RawChunk(
                values,
                np.array(labels)[rows],
                folders[0].split,
                [names[row] for row in rows],
                are_pictures=True,
            )


def _picture(path: Path, image_shape: ImageShape | None, defects: Defects) -> Pixels | None:
    # Reading a pipe could block forever.
    if not stat.S_ISREG(path.stat().st_mode):
        defects.add("file_type", [str(path)], "is not a regular file", PICTURE)
        return None
    with path.open("rb") as file:
        # One extra byte reveals a larger file without reading all of it.
        return decode_picture(file.read(MAX_BYTES + 1), str(path), image_shape, defects)
