"""An append-only file of JSON lines, each sealed and naming the digest of the line before it.

An edited, removed, moved or inserted line breaks the chain where it stands. Beside the file lies
its head, which witnesses how far the chain had come: lines that are missing at the end, or the
whole file, are noticed as well. The head decides nothing; only the lines do.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, ValidationError

from digits.errors import DamagedError, LedgerError
from digits.storage.files import make_folder, write_whole
from digits.storage.references import Digest, Frozen
from digits.storage.seals import seal, unseal

logger = logging.getLogger(__name__)


class Line(NamedTuple):
    """A line as it stands in the file, and its digest."""

    text: bytes
    digest: str


class Head(Frozen):
    """How many lines there were, and the digest of the last."""

    number: Annotated[int, Field(ge=1)]
    line: Digest


@dataclass(frozen=True)
class Lines:
    """What is in force of a file: the lines that end, and how many bytes they take."""

    lines: list[Line]
    size: int

    @property
    def last_digest(self) -> str:
        """The digest that the next line names; empty before the first."""
        return self.lines[-1].digest if self.lines else ""


class Chain:
    """The file at `path`, and its head beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head_path = path.with_suffix(".head")

    def read(self) -> Lines:
        """All lines, oldest first. Raises LedgerError at the first that is not as written."""
        # Before the lines: another process may append one at any moment.
        head = self._read_head()
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            content = b""
        except OSError as error:
            raise LedgerError(f"{self.path} cannot be read: {error.strerror}") from error
        # A line without its end was being written when its process died: it was never in force.
        whole = content[: content.rfind(b"\n") + 1]
        lines: list[Line] = []
        for text in whole.split(b"\n")[:-1]:
            lines.append(Line(text, self._check(text, lines)))
        if head is not None:
            self._witness(head, lines)
        return Lines(lines, len(whole))

    def append(self, fields: Mapping[str, Any], after: Lines) -> Lines:
        """Add one line, flushed to the disk before this returns; all of it or nothing.

        Only for one writer at a time: `after` is what is in force. Raises OSError.
        """
        text = seal({**fields, "previous": after.last_digest})
        make_folder(self.path.parent)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(self.path, flags, 0o644)
        try:
            if os.fstat(descriptor).st_size != after.size:
                logger.warning("%s: removed a line that a killed run left unfinished", self.path)
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

    def problem(self, number: int, what: str) -> LedgerError:
        """The error about a line, with what to do."""
        return LedgerError(f"{self.path} line {number} {what}; {self._advice}")

    @property
    def _advice(self) -> str:
        return (
            "nothing was changed; put the file back from a copy, or, to begin a new history, move "
            f"it and {self.head_path.name} aside"
        )

    def _check(self, text: bytes, before: list[Line]) -> str:
        number = len(before) + 1
        previous = before[-1].digest if before else ""
        try:
            body, digest = unseal(text)
        except DamagedError as error:
            raise self.problem(number, f"was altered: {error}") from error
        if not body.endswith(b',"previous":"' + previous.encode() + b'"}'):
            raise self.problem(
                number,
                "does not follow the one before it: a line was removed, moved, added or altered",
            )
        return digest

    def _read_head(self) -> Head | None:
        try:
            return Head.model_validate_json(unseal(self.head_path.read_bytes())[0])
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LedgerError(f"{self.head_path} cannot be read: {error.strerror}") from error
        except (DamagedError, ValidationError) as error:
            raise LedgerError(
                f"{self.head_path} was altered; it only witnesses how many lines were written: "
                f"make sure that {self.path.name} has them all, then remove it"
            ) from error

    def _witness(self, head: Head, lines: list[Line]) -> None:
        if len(lines) < head.number:
            raise LedgerError(
                f"{self.path} has {len(lines)} lines, but {head.number} were written; "
                f"{self._advice}, or remove only {self.head_path.name} to accept what is left"
            )
        if lines[head.number - 1].digest != head.line:
            raise self.problem(head.number, "is not the one that was written there")

    def _write_head(self, lines: list[Line]) -> None:
        head = Head(number=len(lines), line=lines[-1].digest)
        try:
            write_whole(self.head_path, seal(head.model_dump()))
        except OSError as error:
            # The line is in force; the next one brings the head up to date.
            logger.warning("%s cannot be written: %s", self.head_path, error.strerror)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
