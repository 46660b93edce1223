"""The content-addressed store: the only module that knows where bundles are stored.

A bundle is named by the SHA-256 of its manifest. It is written under a temporary name, flushed to
disk and then renamed, so a bundle under its final name is always complete. Deleting works in
reverse: rename first, then delete.
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
from digits.storage.remote.folders import mark_used, shared_folders

logger = logging.getLogger(__name__)

PUBLISHING = ".publish.lock"
PREPARED_KINDS: frozenset[Kind] = frozenset({"datasets", "arrays"})

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
NO_ACCESS = frozenset({errno.EACCES, errno.EPERM, errno.EIO})

# For larger files, `glance` checks only the size.
GLANCE_BYTES = 16 * 2**20


class Draft:
    """A bundle being written; `digest` is set once it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = ""


class Store:
    """Bundles on the local disk, under `data/prepared` and `artifacts`.

    With DIGITS_STORE, they lie there; these are local copies in the cache, uploaded when they are
    complete, and downloaded when they are needed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._inspector = Inspector()
        self._shared = shared_folders(settings)

    @property
    def is_shared(self) -> bool:
        """Whether the bundles lie in DIGITS_STORE."""
        return self._shared is not None

    def root(self, kind: Kind) -> Path:
        """Return the folder that contains all bundles of one kind."""
        prepared = kind in PREPARED_KINDS
        base = self._settings.prepared_dir if prepared else self._settings.results_dir
        return base / kind

    def place(self, reference: Reference) -> Path:
        """Return the path that a bundle has on this machine, whether or not it is there."""
        return self.root(reference.kind) / reference.digest

    def folder(self, reference: Reference) -> Path:
        """Return the path of a bundle, without checking that it exists or is intact.

        One that is only in DIGITS_STORE is downloaded, which raises DamagedError if it is not
        intact.
        """
        folder = self.place(reference)
        if self._shared and not folder.is_dir():
            self._shared.download(reference.name, folder, reference.digest)
        return folder

    @contextlib.contextmanager
    def create(self, kind: Kind) -> Iterator[Draft]:
        """Create a bundle from the files written to `draft.path` in the block, or nothing at all.

        Raises DigitsError if the disk is full, read-only or not writable, and StoreError if the
        bundle cannot be uploaded.
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
        if self._shared:
            self._shared.upload(f"{kind}/{draft.digest}", root / draft.digest)

    def verify(self, reference: Reference) -> None:
        """Check every byte of a bundle against its digest.

        Files whose inode and change time are unchanged since this process last checked them are
        not read again. A bundle in DIGITS_STORE is downloaded first, and what is lost there is
        uploaded again. Raises DamagedError naming the file and the difference.
        """
        if self._shared:
            self._provide(reference)
            self._shared.ensure(reference.name, self.place(reference))
        self._inspector.inspect(self.place(reference), reference.digest)

    def secure(self, reference: Reference) -> None:
        """Verify a bundle that a ledger is about to name.

        Garbage collection of other machines does not take it before the ledger names it. Raises
        DamagedError.
        """
        self.verify(reference)
        if self._shared:
            self._shared.upload(reference.name, self.place(reference))

    def read(self, reference: Reference, name: str) -> bytes:
        """Return the content of one file of a bundle: the very bytes that were verified.

        Raises DamagedError if the file is missing, corrupted or not in the manifest.
        """
        if self._shared:
            self._provide(reference)
        return self._inspector.read(self.place(reference), reference.digest, name)

    def glance(self, reference: Reference) -> list[str]:
        """Like `verify`, but check only the size of files above 16 MiB, and return their names.

        Keeps a preview such as `digits plan` fast, however large the data is: nothing is downloaded
        for it.
        """
        if self._shared and not self.place(reference).is_dir():
            return self._shared.glance(reference.name, reference.digest)
        return self._inspector.inspect(self.place(reference), reference.digest, GLANCE_BYTES)

    def is_whole(self, reference: Reference) -> bool:
        """Return whether a bundle exists and every byte is intact."""
        try:
            self.verify(reference)
        except DamagedError:
            return False
        return True

    def trim(self) -> None:
        """Keep the local copies of what lies in DIGITS_STORE below their limit."""
        if self._shared:
            self._shared.trim()

    def contents(self, kind: Kind) -> list[Path]:
        """List all bundles of one kind, including what killed writers left behind."""
        root = self.root(kind)
        paths = root.iterdir() if root.is_dir() else ()
        bundles = {path for path in paths if not _is_of_writers(path)}
        return sorted(bundles | {draft for draft in _drafts(root) if is_free(_lock_of(draft))})

    def discard(self, path: Path) -> None:
        """Delete one of `contents`; a bundle is hidden before its first file is deleted."""
        if _is_of_writers(path):
            _sweep(path.parent)
        else:
            hidden = path.with_name(_temporary_name())
            path.rename(hidden)
            _clear(hidden)

    def _provide(self, reference: Reference) -> None:
        """Download a bundle unless its copy in the cache is whole."""
        folder = self.place(reference)
        if self._shared and not self._is_whole(folder, reference.digest):
            self._shared.download(reference.name, folder, reference.digest)
        mark_used(folder)

    def _publish(self, draft: Draft, root: Path) -> None:
        """Give a sealed draft its final name, replacing a corrupted bundle if there is one."""
        final = root / draft.digest
        with hold(root / PUBLISHING):
            if os.path.lexists(final) and not self._is_whole(final, draft.digest):
                logger.warning("%s was corrupted and is being rewritten", final)
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
    """Explain OSErrors about `root`: no space, or no permission."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM or (error.errno in NO_ACCESS and _is_about(error, root)):
            raise DigitsError(
                f"cannot write to {root}: {error.strerror}; nothing partial was kept; free some "
                "space or fix the permissions, then run again"
            ) from error
        raise


def _is_about(error: OSError, root: Path) -> bool:
    """Whether an error names no file, or one below or above `root`."""
    path = Path(str(error.filename))
    return error.filename is None or path.is_relative_to(root) or root.is_relative_to(path)


def _sweep(root: Path) -> None:
    """Delete the drafts of killed writers, but not those still being written."""
    for draft in _drafts(root):
        with attempt(_lock_of(draft)) as is_left:
            if is_left:
                _clear(draft)


def _clear(draft: Path) -> None:
    """Delete a draft, then its writer's lock."""
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
