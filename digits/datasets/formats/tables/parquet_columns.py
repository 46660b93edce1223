"""Finds images and labels among the columns of a Parquet file, and the shape that it states."""

import json
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from digits.datasets.advice import setting
from digits.datasets.defects import Defects, refuse
from digits.datasets.formats.channels import without_channels
from digits.datasets.formats.tables.column_names import (
    DROP,
    LABEL_NAMES,
    Numbered,
    is_index,
    named_label,
)
from digits.spec import Column, ImageShape, ReadOptions

IMAGE_NAMES = ("image", "images", "img", "pixels", "x")


@dataclass(frozen=True)
class ImageColumns:
    """The names of the image column, or of one column per pixel, and of the label column."""

    images: Sequence[str]
    label: str
    shape: ImageShape | None
    """As stated by the file."""


def find_columns(
    schema: pa.Schema, options: ReadOptions, path: Path, defects: Defects
) -> ImageColumns:
    """Find the columns by the names given or usual ones. Raises DefectError if any is missing."""
    index = _index_names(schema)
    names = [name for name in schema.names if name not in index]
    label = _find_label(schema.names, names, options.label_column, path)
    others = [name for name in names if name != label and not is_index(name)]
    if options.image_column is not None:
        images = [_given(schema.names, options.image_column, "images", path)]
    else:
        images = _find_images(schema, others, path, defects)
    shape = _stated_shape(schema, images[0]) if len(images) == 1 else None
    return ImageColumns(images, label, shape)


def _index_names(schema: pa.Schema) -> set[str]:
    """The columns that pandas wrote for the index of a frame."""
    with suppress(ValueError, TypeError, AttributeError):
        columns = (schema.pandas_metadata or {}).get("index_columns", [])
        return {name for name in columns if isinstance(name, str)}
    return set()


def _find_label(
    all_names: Sequence[str], names: Sequence[str], given: Column | None, path: Path
) -> str:
    if given is not None:
        return _given(all_names, given, "labels", path)
    place = named_label(names)
    if place is None:
        expected = (
            f"labels in column {' or '.join(LABEL_NAMES)}; another column can be chosen with "
            f"{setting('label_column', 'NAME')}"
        )
        refuse("label_missing", str(path), f"has the columns {_shown(names)}", expected)
    return names[place]


def _find_images(
    schema: pa.Schema, others: Sequence[str], path: Path, defects: Defects
) -> list[str]:
    found = [name for name in others if name.lower() in IMAGE_NAMES]
    if found:
        return found[:1]
    pixels = Numbered.of(others)
    if pixels is None or not all(_is_number(schema.field(name).type) for name in others):
        expected = (
            f"images in column {' or '.join(IMAGE_NAMES)}, or one column of numbers per pixel; "
            f"another column can be chosen with {setting('image_column', 'NAME')}"
        )
        refuse("value_type", str(path), f"has the columns {_shown(others)}", expected)
    if len(pixels.places) < len(others):
        pixel_names = {others[place] for place in pixels.places}
        rest = [name for name in others if name not in pixel_names]
        found_text = f"has columns that are neither pixels nor labels: {_shown(rest)}"
        refuse("value_type", str(path), found_text, DROP)
    if not pixels.are_in_order:
        defects.note(f"{path}: the pixels were put into the order of their numbers")
    return [others[place] for place in pixels.places]


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _given(names: Sequence[str], given: Column, what: str, path: Path) -> str:
    if isinstance(given, int) and -len(names) <= given < len(names):
        return names[given]
    if given not in names:
        check: Any = "label_missing" if what == "labels" else "value_type"
        refuse(check, str(path), f"has the columns {_shown(names)}", f"{what} in column {given}")
    return str(given)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")


def _stated_shape(schema: pa.Schema, name: str) -> ImageShape | None:
    """The shape by the tensor's type, the field's metadata, or Hugging Face's features."""
    field = schema.field(name)
    stated = [getattr(field.type, "shape", None)]
    with suppress(ValueError, TypeError, AttributeError):
        stated.append(json.loads((field.metadata or {}).get(b"shape", b"null")))
    with suppress(ValueError, TypeError, AttributeError, KeyError):
        features = json.loads((schema.metadata or {})[b"huggingface"])
        stated.append(features["info"]["features"][name].get("shape"))
    for shape in stated:
        if shape is not None and (usable := _usable(shape)) is not None:
            return usable
    return None


def _usable(shape: Iterable[Any]) -> ImageShape | None:
    sizes = tuple(shape)
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return None
    plain = without_channels(sizes)
    if len(plain) != 2 or math.prod(plain) != math.prod(sizes):
        return None
    return plain[0], plain[1]
