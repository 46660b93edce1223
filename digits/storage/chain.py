"""Append-only lines of sealed JSON, each containing the digest of the previous line.

An edited, removed, moved or inserted line breaks the chain at that point. A separate head file
records the number of lines and the last digest, so missing lines at the end or a missing file are
detected as well. The head is only a check; the lines alone are authoritative.
"""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import Field, ValidationError

from digits.errors import DamagedError, LedgerError, LostRaceError
from digits.storage.files import Signature, make_folder, read_file, signature_of, write_whole
from digits.storage.references import Digest, Frozen
from digits.storage.seals import seal, unseal

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Line(NamedTuple):
    """A line's bytes in the file, and its digest."""

    text: bytes
    digest: str


class Head(Frozen):
    """The number of lines written, and the digest of the last one."""

    number: Annotated[int, Field(ge=1)]
    line: Digest


@dataclass(frozen=True)
class Lines:
    """The complete lines of a file, and their size in bytes."""

    lines: list[Line]
    size: int

    @property
    def last_digest(self) -> str:
        """The digest that the next line must contain; empty before the first line."""
        return self.lines[-1].digest if self.lines else ""


class Chain(ABC):
    """Sealed lines in order. `place` is where they lie, for messages, `advice` how to go on."""

    place: str
    advice: str

    @abstractmethod
    def read(self) -> Lines:
        """Read all lines, oldest first. Raises LedgerError for the first invalid one."""

    @abstractmethod
    def append(self, fields: Mapping[str, Any], after: Lines) -> Lines:
        """Append one line after those of `after`, completely or not at all.

        Raises OSError, or StoreError, if it cannot be written, and LostRaceError if another machine
        has appended one meanwhile.
        """

    @abstractmethod
    def signature(self) -> object:
        """Return a value that changes with each new line, without reading them."""

    def problem(self, number: int, what: str) -> LedgerError:
        """Create the error for a line, with advice on what to do."""
        return LedgerError(f"{self.place} line {number} {what}; {self.advice}")

    def checked(self, texts: Iterable[bytes]) -> list[Line]:
        """Check that each line is intact and follows the one before. Raises LedgerError."""
        lines: list[Line] = []
        for text in texts:
            lines.append(Line(text, self._check(text, lines)))
        return lines

    def _check(self, text: bytes, before: list[Line]) -> str:
        number = len(before) + 1
        previous = before[-1].digest if before else ""
        try:
            body, digest = unseal(text)
        except DamagedError as error:
            raise self.problem(number, f"is corrupted: {error}") from error
        if not body.endswith(b',"previous":"' + previous.encode() + b'"}'):
            raise self.problem(
                number,
                "does not follow the previous line: a line was removed, moved, added or changed",
            )
        return digest


class FileChain(Chain):
    """The file at `path`, and its head file next to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head_path = path.with_suffix(".head")
        self.place = str(path)
        self.advice = (
            "nothing was changed; restore the file from a backup, or move it and "
            f"{self.head_path.name} away to start a new history"
        )

    def read(self) -> Lines:
        """Read all lines, oldest first. Raises LedgerError for the first invalid one."""
        # Read before the lines, because another process may append one at any moment.
        head = self._read_head()
        try:
            content = read_file(self.path)
        except FileNotFoundError:
            content = b""
        except OSError as error:
            raise LedgerError(f"{self.path} cannot be read: {error.strerror}") from error
        # A line without a line break is an unfinished write of a process that died; it is ignored.
        whole = content[: content.rfind(b"\n") + 1]
        lines = self.checked(whole.split(b"\n")[:-1])
        if head is not None:
            self._witness(head, lines)
        return Lines(lines, len(whole))

    def append(self, fields: Mapping[str, Any], after: Lines) -> Lines:
        """Append one line atomically and flush it to disk.

        `after` is the current content. The caller must be the only writer. Raises OSError.
        """
        text = seal({**fields, "previous": after.last_digest})
        make_folder(self.path.parent)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o666)
        try:
            if os.fstat(descriptor).st_size != after.size:
                logger.warning("%s: removed an incomplete line left by a killed run", self.path)
                os.ftruncate(descriptor, after.size)
            try:
                _write_all(descriptor, text + b"\n")
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, after.size)
                raise
        finally:
            os.close(descriptor)
        lines = [*after.lines, Line(text, unseal(text)[1])]
        self._write_head(lines)
        return Lines(lines, after.size + len(text) + 1)

    def signature(self) -> object:
        """Return a value that changes with each new line, without reading them."""
        return tuple(_signature(path) for path in (self.path, self.head_path))

    def _read_head(self) -> Head | None:
        try:
            return Head.model_validate_json(unseal(read_file(self.head_path))[0])
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LedgerError(f"{self.head_path} cannot be read: {error.strerror}") from error
        except (DamagedError, ValidationError) as error:
            raise LedgerError(
                f"{self.head_path} is corrupted; it only records how many lines were written: "
                f"check that {self.path.name} is complete, then delete {self.head_path.name}"
            ) from error

    def _witness(self, head: Head, lines: list[Line]) -> None:
        if len(lines) < head.number:
            raise LedgerError(
                f"{self.path} has {len(lines)} lines, but {head.number} were written; "
                f"{self.advice}, or delete only {self.head_path.name} to accept the lines that "
                "are left"
            )
        if lines[head.number - 1].digest != head.line:
            raise self.problem(head.number, f"does not match the digest in {self.head_path.name}")

    def _write_head(self, lines: list[Line]) -> None:
        head = Head(number=len(lines), line=lines[-1].digest)
        try:
            write_whole(self.head_path, seal(head.model_dump()))
        except OSError as error:
            # The line itself is valid; the next append brings the head up to date.
            logger.warning("%s cannot be written: %s", self.head_path, error.strerror)


def decided_anew(decide: Callable[[], T]) -> T:
    """Return what `decide` returns; call it again whenever another machine's line was first.

    This ends, because each time some machine has made progress.
    """
    while True:
        try:
            return decide()
        except LostRaceError as race:
            logger.info("%s; deciding again", race)


def _signature(path: Path) -> Signature | None:
    try:
        return signature_of(path)
    except OSError:
        return None


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
