"""Where a dataset's files come from: what is already there first, then each source in order.

Whatever the source, a file is believed only when its SHA-256 is the one that is asked for.
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
    """The SHA-256 of each file, or folder of pictures, that the dataset consists of now.

    Of an IDX file it is that of the uncompressed content. Where the spec states them, no file is
    touched. Raises DataError when it does not and a file is missing or cannot be read.
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
    # One pair alone will be split.
    if missing and (problems or missing != list(ROLES[2:])):
        raise DataError(_missing(spec, settings, [*problems, f"{missing[0]} was not found"]))
    return content


@contextlib.contextmanager
def opened(spec: DatasetSpec, content: Content, settings: Settings) -> Iterator[Sequence[Path]]:
    """The files with the digests of `content`, to be read within the block.

    Raises DataError when they cannot be had, are others, or change before the block ends.
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
            raise DataError(f"{named} of {spec.name} changed while it was read: run again")


def _compare(found: Content, content: Content, spec: DatasetSpec) -> None:
    differing = [name for name in {**content, **found} if found.get(name) != content.get(name)]
    if differing:
        named = ", ".join(sorted(differing)[:3])
        raise DataError(
            f"{named} of {spec.name} changed since the run began (of {len(content):,} files or "
            f"folders {len(differing):,} are others now): run again"
        )


def _files_of(spec: DatasetSpec, settings: Settings) -> list[Path]:
    places = _folders(spec, settings)
    files = find_files(spec.file_layout, places)
    if not files:
        searched = " or ".join(map(str, places))
        raise DataError(
            f"the files of {spec.name} cannot be had: {LAYOUTS[spec.file_layout].files} was not "
            f"found. Put it into {searched}, then run again"
        )
    return files


def obtain(spec: DatasetSpec, content: Content, settings: Settings) -> Files:
    """The IDX files with the digests of `content`, which lie there plain or as .gz.

    What was downloaded is kept in data/raw/NAME, written whole or not at all. Raises DataError
    naming every source and why it did not serve, or the path that cannot be written.
    """
    files, problems = _look(spec, content, settings)
    remote = [source for source in spec.sources if not isinstance(source, FolderSource)]
    if len(files) < len(content) and not remote:
        raise DataError(_missing(spec, settings, problems))
    for problem in problems:
        logger.warning("%s; it is not used", problem)
    if len(files) == len(content):
        return files
    folder = settings.raw_dir / spec.name
    waiting = f"waiting for another run that is fetching {spec.name}"
    with _explained(folder), hold(folder / ".lock", waiting):
        # Another run may have fetched them while this one waited.
        files, problems = _look(spec, content, settings)
        if len(files) < len(content):
            fetched = _fetch(spec, remote, content, settings, problems)
            sweep(folder)
            for role in ROLES:
                if role not in files:
                    files[role] = keep(folder / f"{role}.idx", fetched[role])
    return files


def _look(
    spec: DatasetSpec, content: Content, settings: Settings
) -> tuple[dict[Role, RawFile], list[str]]:
    """The right files among those on this machine, and what is wrong with the others."""
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
    """The files from the first source that has the right ones."""
    from digits.datasets.sources.downloads import download

    reasons = list(problems)
    for source in sources:
        logger.info("fetching %s from %s", spec.name, source.label)
        try:
            files = download(source, spec.image_shape)
            for role in ROLES:
                file = RawFile.of(source.label, files[role])
                problem = _problem(file, role, content, f"{role} of {source.label}")
                if problem is not None:
                    raise DataError(problem)
        except DataError as error:
            reasons.append(str(error))
            next_step = "" if source is sources[-1] else "; going on to the next source"
            logger.info("%s%s", error, next_step)
        else:
            return files
    raise UnreachableError(_missing(spec, settings, reasons))


def _problem(found: RawFile, role: Role, content: Content, name: str) -> str | None:
    """What is wrong with the file called `name`, or None where it is `role`."""
    digest = found.sha256
    if digest == content[role]:
        return None
    for other, expected in content.items():
        if digest == expected:
            return f"{name} holds {other}, expected {role}: the files are swapped"
    from digits.datasets.sources.idx import read_shape

    try:
        read_shape(found.start, found.num_bytes, name)
    except DataError as error:
        return str(error)
    return f"{name} has the SHA-256 {digest[:12]}..., expected {content[role][:12]}..."


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say what to do when the disk refuses."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {error.filename or folder}: {error.strerror or error}; make room or "
            "give write permission, or name another folder with DIGITS_DATA_DIR, then run again"
        ) from error


def _missing(spec: DatasetSpec, settings: Settings, reasons: Sequence[str]) -> str:
    tried = "; ".join(reasons) or "none is there, and its spec names no source to download from"
    searched = " or ".join(str(folder) for folder in _folders(spec, settings))
    names = ", ".join(f"{role}.idx" for role in ROLES)
    has_remote = any(not isinstance(source, FolderSource) for source in spec.sources)
    advice = "Connect to one of its sources, or put" if has_remote else "Put"
    return (
        f"the files of {spec.name} cannot be had: {tried}. {advice} {names} (or "
        f"{FILE_NAMES['train-images']} and so on, plain or as .gz) into {searched}, then run again"
    )
