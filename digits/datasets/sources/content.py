"""Obtain a dataset's files: local ones first, then each source in order.

A file from any source is accepted only if its SHA-256 matches.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from digits.datasets.sources.archives import FILE_NAMES, size_limit
from digits.datasets.sources.local_files import find_files, measure, signatures
from digits.datasets.sources.raw_files import Files, RawFile, find_raw, keep, sweep
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
        return _idx_content(spec, settings)
    found = measure(spec.file_layout, _files_of(spec, settings))
    return {name: measured.sha256 for name, measured in found.items()}


def _idx_content(spec: DatasetSpec, settings: Settings) -> Content:
    content: dict[str, str] = {}
    missing: list[Role] = []
    problems: list[str] = []
    for role in ROLES:
        found = next(_local(role, spec, settings, problems), None)
        if found is None:
            missing.append(role)
        else:
            content[role] = found.sha256
    # A single pair will be split into train and test.
    if missing and (problems or missing != list(ROLES[2:])):
        raise DataError(_missing(spec, settings, [*problems, f"{missing[0]} not found"]))
    return content


@contextlib.contextmanager
def opened(spec: DatasetSpec, content: Content, settings: Settings) -> Iterator[Sequence[Path]]:
    """Yield the paths of the files with the digests of `content`, for use within the block.

    Raises DataError if files are missing, do not match, or change before the block ends.
    """
    if spec.file_layout == "idx":
        files = obtain(spec, content, settings)
        before = {file.path.name: file.signature for file in files.values()}
        paths = [file.path for file in files.values()]
    else:
        paths = _files_of(spec, settings)
        found = measure(spec.file_layout, paths)
        before = {name: measured.signature for name, measured in found.items()}
        _compare({name: measured.sha256 for name, measured in found.items()}, content, spec)
    try:
        yield paths
    finally:
        after = signatures(spec.file_layout, paths)
        changed = [name for name in {**before, **after} if after.get(name) != before.get(name)]
        if changed:
            named = ", ".join(sorted(changed)[:3])
            raise DataError(f"{named} of {spec.name} changed while being read; run again")


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
    files = find_files(spec.file_layout, places)
    if not files:
        searched = " or ".join(map(str, places))
        raise DataError(
            f"cannot get the files of {spec.name}: no files found, expected "
            f"{LAYOUTS[spec.file_layout].files}. Put it into {searched}, then run again"
        )
    return files


def obtain(spec: DatasetSpec, content: Content, settings: Settings) -> Files:
    """Return the IDX files with the digests of `content`, downloading missing ones.

    Local files may be plain or .gz; those with other names are found by content. Downloads are
    written atomically to data/raw/NAME. Raises DataError with every source and the
    reason it failed, or the path that cannot be written.
    """
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


def _by_content(folder: Path, lacking: Content, spec: DatasetSpec) -> Mapping[Role, bytes]:
    from digits.datasets.sources.by_content import find_by_content

    return find_by_content(folder, lacking, spec.image_shape)


def _look(
    spec: DatasetSpec, content: Content, settings: Settings
) -> tuple[dict[Role, RawFile], list[str]]:
    """Return the matching files on this machine, and the problems of the others."""
    files: dict[Role, RawFile] = {}
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


def _problem(found: RawFile, role: Role, content: Content, name: str) -> str | None:
    """Return the problem of the file called `name`, or None if it is the file of `role`."""
    digest = found.sha256
    if digest == content[role]:
        return None
    for other, expected in content.items():
        if digest == expected:
            return f"{name} contains {other}, expected {role}: the files are swapped"
    from digits.datasets.sources.idx import read_shape

    try:
        read_shape(found.start, found.num_bytes, name)
    except DataError as error:
        return str(error)
    return f"{name} has SHA-256 {digest[:12]}..., expected {content[role][:12]}..."


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
