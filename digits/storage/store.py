"""The content-addressed store: the one place that knows where things lie.

A bundle is named by the SHA-256 of its manifest. It is written under a temporary name, flushed to
disk, and renamed, so that whatever is visible under its final name is whole; it is removed the
other way round.
"""

import contextlib
import errno
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from digits.errors import DamagedError, DigitsError
from digits.settings import Settings
from digits.storage.bundles import Inspector, seal_folder
from digits.storage.files import TEMPORARY, flush, make_folder
from digits.storage.locks import attempt, hold, is_free
from digits.storage.references import Kind, Reference

logger = logging.getLogger(__name__)

PUBLISHING = ".publish.lock"
PREPARED_KINDS = frozenset({"datasets", "arrays"})

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
NO_ACCESS = frozenset({errno.EACCES, errno.EPERM, errno.EIO})

# A file that is larger is only measured at a glance.
GLANCE_BYTES = 16 * 2**20


class Draft:
    """A bundle that is being written; `digest` is known once the writing ended well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = ""


class Store:
    """Bundles on the local disk, under `data/prepared` and `artifacts`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._inspector = Inspector()

    def root(self, kind: Kind) -> Path:
        """The folder that holds all bundles of one kind."""
        prepared = kind in PREPARED_KINDS
        base = self._settings.prepared_dir if prepared else self._settings.artifacts_dir
        return base / kind

    def folder(self, reference: Reference) -> Path:
        """Where a bundle lies; whether it is there and whole, `verify` tells."""
        return self.root(reference.kind) / reference.digest

    @contextlib.contextmanager
    def create(self, kind: Kind) -> Iterator[Draft]:
        """Write files into `draft.path`; on leaving, they become one visible bundle, or nothing.

        Raises DigitsError when the disk refuses (full, read-only, no permission).
        """
        root = self.root(kind)
        draft = Draft(root / _temporary_name())
        with _explained(root):
            make_folder(root)
            _sweep(root)
            with hold(_lock_of(draft.path)):
                try:
                    draft.path.mkdir()
                    yield draft
                    draft.digest = seal_folder(draft.path)
                    self._publish(draft, root)
                finally:
                    _clear(draft.path)

    def verify(self, reference: Reference) -> None:
        """Check every byte of a bundle against its digest.

        A file that nobody has touched since this process checked it, by its identity and its
        change time, is not read again. Raises DamagedError naming the file and what differs.
        """
        self._inspector.inspect(self.folder(reference), reference.digest)

    def glance(self, reference: Reference) -> list[str]:
        """As `verify`, except for files above 16 MiB, which are measured: their names.

        For those who only want to know what would happen, however large the data is.
        """
        return self._inspector.inspect(self.folder(reference), reference.digest, GLANCE_BYTES)

    def is_whole(self, reference: Reference) -> bool:
        """Whether a bundle is there with every byte as it was written."""
        return self._is_whole(self.folder(reference), reference.digest)

    def contents(self, kind: Kind) -> list[Path]:
        """All bundles of one kind, and what killed writers left among them."""
        root = self.root(kind)
        paths = root.iterdir() if root.is_dir() else ()
        bundles = {path for path in paths if not _is_of_writers(path)}
        return sorted(bundles | {draft for draft in _drafts(root) if is_free(_lock_of(draft))})

    def discard(self, path: Path) -> None:
        """Remove one of `contents`; a bundle is out of sight before its first file goes."""
        if _is_of_writers(path):
            _sweep(path.parent)
        else:
            hidden = path.with_name(_temporary_name())
            path.rename(hidden)
            _clear(hidden)

    def _publish(self, draft: Draft, root: Path) -> None:
        """Give a sealed draft its final name, in place of a damaged bundle if there is one."""
        final = root / draft.digest
        with hold(root / PUBLISHING):
            if os.path.lexists(final) and not self._is_whole(final, draft.digest):
                logger.warning("%s was damaged and is written anew", final)
                self.discard(final)
            if not os.path.lexists(final):
                draft.path.rename(final)
                flush(root)

    def _is_whole(self, folder: Path, digest: str) -> bool:
        try:
            self._inspector.inspect(folder, digest)
        except DamagedError:
            return False
        return True


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Say what to do when the disk refuses."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM or (error.errno in NO_ACCESS and _is_about(error, root)):
            raise DigitsError(
                f"cannot write to {root}: {error.strerror} - nothing half-written was kept; "
                "make room or give write permission, then run again"
            ) from error
        raise


def _is_about(error: OSError, root: Path) -> bool:
    """Whether an error names no file, or one beneath `root` or on the way to it."""
    path = Path(str(error.filename))
    return error.filename is None or path.is_relative_to(root) or root.is_relative_to(path)


def _sweep(root: Path) -> None:
    """Remove what writers that were killed left behind; the living keep theirs."""
    for draft in _drafts(root):
        with attempt(_lock_of(draft)) as is_left:
            if is_left:
                _clear(draft)


def _clear(draft: Path) -> None:
    """Remove a draft, then the lock that its writer holds."""
    if draft.is_dir() and not draft.is_symlink():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        draft.unlink(missing_ok=True)
    _lock_of(draft).unlink(missing_ok=True)


def _drafts(root: Path) -> set[Path]:
    return {path.with_suffix("") for path in root.glob(f"{TEMPORARY}*")}


def _temporary_name() -> str:
    return f"{TEMPORARY}{uuid.uuid4().hex}"


def _lock_of(draft: Path) -> Path:
    return draft.with_name(f"{draft.name}.lock")


def _is_of_writers(path: Path) -> bool:
    return path.name == PUBLISHING or path.name.startswith(TEMPORARY)
