"""Obtain a dataset's files: local ones first, then each source in order.

A file from any source is accepted only if its SHA-256 matches.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from digits.datasets.files.file_layouts import names_of, said_splits
from digits.datasets.sources.archives import FILE_NAMES, size_limit
from digits.datasets.sources.local_files import find_files, measure, signatures
from digits.datasets.sources.raw_files import (
    Files,
    RawFile,
    find_raw,
    keep,
    limit_of,
    readable,
    roles_of,
    sweep,
)
from digits.errors import DataError, UnreachableError
from digits.layouts import LAYOUTS
from digits.settings import Settings
from digits.spec import ROLES, DatasetSpec, FolderSource, RemoteSource, Role
from digits.storage.locks import hold

logger = logging.getLogger(__name__)

Content = Mapping[str, str]


def content_of(spec: DatasetSpec, settings: Settings) -> Content:
    """Return the current SHA-256 of each file, or folder of images, of the dataset.

    For an IDX file it covers the uncompressed content. If the dataset spec states the digests, no
    file is read; otherwise raises DataError if a file is missing or unreadable.
    """
    if spec.content is not None:
        return {role: sha256 for role, sha256 in spec.content.items()}  # noqa: C416
    if spec.file_layout == "idx":
        return {role: file.sha256 for role, file in _idx_files(spec, settings).items()}
    found = measure(spec.file_layout, _files_of(spec, settings))
    return {name: measured.sha256 for name, measured in found.items()}


def _idx_files(spec: DatasetSpec, settings: Settings) -> Files:
    """Return the IDX files of a spec without digests: one for each role that is present.

    Raises DataError if a file is missing or unreadable, or if several differ.
    """
    paths = roles_of(_files_of(spec, settings))
    files: dict[str, RawFile] = {}
    problems: list[str] = []
    for role in sorted(paths, key=[*ROLES, *paths].index):
        limit = max(limit_of(path, spec.image_shape) for path in paths[role])
        for file in readable(paths[role], limit, problems):
            first = files.setdefault(role, file)
            if file.sha256 != first.sha256:
                raise DataError(
                    f"{first.path} and {file.path} are both {role} of {spec.name}, and differ; "
                    "move one of them elsewhere"
                )
    # A single pair will be split into train and test.
    splits = dict.fromkeys(["train", *(role.partition("-")[0] for role in paths)])
    needed = [f"{split}-{kind}" for split in splits for kind in ("images", "labels")]
    missing = [role for role in needed if role not in files]
    if missing or problems:
        raise DataError(
            _missing(spec, settings, [*problems, *(f"{role} not found" for role in missing[:1])])
        )
    return files


@contextlib.contextmanager
def opened(spec: DatasetSpec, content: Content, settings: Settings) -> Iterator[Sequence[Path]]:
    """Yield the paths of the files with the digests of `content`, for use within the block.

    Raises DataError if files are missing, do not match, or change before the block ends.
    """
    if spec.file_layout == "idx":
        files = obtain(spec, content, settings)
        paths = [file.path for file in files.values()]
        names = names_of(paths)
        before = {names[file.path]: file.signature for file in files.values()}
    else:
        paths = _files_of(spec, settings)
        found = measure(spec.file_layout, paths)
        before = {name: measured.signature for name, measured in found.items()}
        _compare({name: measured.sha256 for name, measured in found.items()}, content, spec)
    try:
        yield _wanted(paths, spec)
    finally:
        after = signatures(spec.file_layout, paths)
        changed = [name for name in {**before, **after} if after.get(name) != before.get(name)]
        if changed:
            named = ", ".join(sorted(changed)[:3])
            raise DataError(f"{named} of {spec.name} changed while being read; run again")


def _wanted(paths: Sequence[Path], spec: DatasetSpec) -> Sequence[Path]:
    """Return the files without those of a validation split that the spec leaves out."""
    if LAYOUTS[spec.file_layout].names is None or spec.validation == "train":
        return paths
    said = said_splits(paths)
    for path in paths:
        if said[path] == "validation":
            logger.info("validation data of %s (%s) is left out", spec.name, path.name)
    return [path for path in paths if said[path] != "validation"]


def _compare(found: Content, content: Content, spec: DatasetSpec) -> None:
    differing = [name for name in {**content, **found} if found.get(name) != content.get(name)]
    if differing:
        named = ", ".join(sorted(differing)[:3])
        raise DataError(
            f"{named} of {spec.name} changed since the run started ({len(differing):,} of "
            f"{len(content):,} files or folders differ); run again"
        )


def _files_of(spec: DatasetSpec, settings: Settings) -> list[Path]:
    places = _folders(spec, settings)
    # A source inside the raw folder says which of its files are meant.
    inner = [place for place in places[1:] if place.is_relative_to(places[0])]
    found = find_files(spec.file_layout, inner or places)
    if len(found) > 1:
        _check_equal(spec, found)
    files = next(iter(found.values()), [])
    if not files and spec.file_layout == "idx":
        raise DataError(_missing(spec, settings, [f"{ROLES[0]} not found"]))
    if not files:
        searched = " or ".join(map(str, places))
        raise DataError(
            f"cannot get the files of {spec.name}: no files found, expected "
            f"{LAYOUTS[spec.file_layout].files}. Put it into {searched}, then run again"
        )
    return files


def _check_equal(spec: DatasetSpec, found: Mapping[Path, Sequence[Path]]) -> None:
    """Refuse two places with different files: using one of them would ignore the other."""
    contents = [
        {name: measured.sha256 for name, measured in measure(spec.file_layout, files).items()}
        for files in found.values()
    ]
    if any(content != contents[0] for content in contents[1:]):
        places = " and ".join(map(str, found))
        raise DataError(
            f"{spec.name} has different files in {places}; move the wrong ones elsewhere, or name "
            f"{next(iter(found))} (--from, or `path` in the dataset spec)"
        )


def obtain(spec: DatasetSpec, content: Content, settings: Settings) -> Files:
    """Return the IDX files with the digests of `content`, downloading missing ones.

    Local files may be plain or .gz; those with other names are found by content. Downloads are
    written atomically to data/raw/NAME. Raises DataError with every source and the
    reason it failed, or the path that cannot be written.
    """
    if spec.content is None:
        return _verified(_idx_files(spec, settings), spec, content, settings)
    folder = settings.raw_dir / spec.name
    files, problems = _look(spec, content, settings)
    lacking = {role: digest for role, digest in content.items() if role not in files}
    by_hand = _by_content(folder, lacking, spec) if lacking else {}
    remote = [source for source in spec.sources if not isinstance(source, FolderSource)]
    if len(by_hand) < len(lacking) and not remote:
        raise DataError(_missing(spec, settings, problems))
    for problem in problems:
        logger.warning("%s; ignoring this file", problem)
    if not lacking:
        return files
    waiting = f"waiting for another run that is fetching {spec.name}"
    with _explained(folder), hold(folder / ".lock", waiting):
        # Another run may have fetched them in the meantime.
        files, problems = _look(spec, content, settings)
        if len(files) < len(content):
            has_all = len(by_hand) == len(lacking)
            fetched = by_hand if has_all else _fetch(spec, remote, content, settings, problems)
            sweep(folder)
            for role in ROLES:
                if role not in files:
                    files[role] = keep(folder / f"{role}.idx", fetched[role])
    return files


def _verified(files: Files, spec: DatasetSpec, content: Content, settings: Settings) -> Files:
    """Return local files if they are those of `content`. Raises DataError otherwise."""
    problems = [f"{role} not found" for role in content if role not in files]
    for role, file in files.items():
        problem = _problem(file, role, content, str(file.path))
        problems += [problem] if problem else []
    if problems:
        raise DataError(_missing(spec, settings, problems))
    return files


def _by_content(folder: Path, lacking: Content, spec: DatasetSpec) -> Mapping[Role, bytes]:
    from digits.datasets.sources.by_content import find_by_content

    return find_by_content(folder, lacking, spec.image_shape)


def _look(
    spec: DatasetSpec, content: Content, settings: Settings
) -> tuple[dict[str, RawFile], list[str]]:
    """Return the matching files on this machine, and the problems of the others."""
    files: dict[str, RawFile] = {}
    problems: list[str] = []
    for role in (role for role in ROLES if role in content):
        for file in _local(role, spec, settings, problems):
            problem = _problem(file, role, content, str(file.path))
            if problem is None:
                files[role] = file
                break
            problems.append(problem)
    return files, problems


def _local(
    role: Role, spec: DatasetSpec, settings: Settings, problems: list[str]
) -> Iterator[RawFile]:
    limit = size_limit(spec.image_shape, role)
    return find_raw(role, _folders(spec, settings), limit, problems)


def _folders(spec: DatasetSpec, settings: Settings) -> list[Path]:
    given = [source.path for source in spec.sources if isinstance(source, FolderSource)]
    return [settings.raw_dir / spec.name, *given]


def _fetch(
    spec: DatasetSpec,
    sources: Sequence[RemoteSource],
    content: Content,
    settings: Settings,
    problems: Sequence[str],
) -> Mapping[Role, bytes]:
    """Return the files of the first source that provides the right ones."""
    from digits.datasets.sources.downloads import download
    from digits.datasets.sources.race import Attempt, first_of

    def ask(attempt: Attempt) -> Mapping[Role, bytes]:
        source = attempt.source
        files = download(source, spec.image_shape, attempt)
        for role in ROLES:
            file = RawFile.of(source.label, files[role])
            problem = _problem(file, role, content, f"{role} of {source.label}")
            if problem is not None:
                raise DataError(problem)
        return files

    files, reasons = first_of(sources, ask, spec.name)
    if files is None:
        raise UnreachableError(_missing(spec, settings, [*problems, *reasons]))
    return files


def _problem(found: RawFile, role: str, content: Content, name: str) -> str | None:
    """Return the problem of the file called `name`, or None if it is the file of `role`."""
    digest = found.sha256
    if digest == content.get(role):
        return None
    for other, expected in content.items():
        if digest == expected:
            return f"{name} contains {other}, expected {role}: the files are swapped"
    from digits.datasets.sources.idx import has_integers, read_shape

    try:
        read_shape(found.start, found.num_bytes, name, has_integers=has_integers(name))
    except DataError as error:
        return str(error)
    return f"{name} has SHA-256 {digest[:12]}..., expected {content.get(role, 'none')[:12]}..."


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn OSError into DataError with advice."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {error.filename or folder}: {error.strerror or error}; free some space, "
            "fix the permissions or set DIGITS_DATA_DIR to another folder, then run again"
        ) from error


def _missing(spec: DatasetSpec, settings: Settings, reasons: Sequence[str]) -> str:
    no_reasons = "no files found, and the dataset spec names no source to download from"
    tried = "; ".join(reasons) or no_reasons
    searched = " or ".join(str(folder) for folder in _folders(spec, settings))
    names = ", ".join(f"{role}.idx" for role in ROLES)
    has_remote = any(not isinstance(source, FolderSource) for source in spec.sources)
    advice = "Check the connection to its sources, or put" if has_remote else "Put"
    return (
        f"cannot get the files of {spec.name}: {tried}. {advice} {names} (or "
        f"{FILE_NAMES['train-images']} etc., plain or as .gz) into {searched}, then run again"
    )
