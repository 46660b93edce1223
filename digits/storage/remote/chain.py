"""A chain of lines in a store that several machines share: one object for each line.

A line is created if absent, so that of several machines one is first, and the others decide anew.
"""

import contextlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from digits.errors import DamagedError, LedgerError, LostRaceError, StoreError
from digits.settings import Settings
from digits.storage.chain import Chain, FileChain, Head, Line, Lines
from digits.storage.files import write_whole
from digits.storage.remote.addresses import objects_of
from digits.storage.remote.objects import Listed, Objects
from digits.storage.seals import seal, unseal

logger = logging.getLogger(__name__)

HEAD = "head.json"
LINE = re.compile(r"[0-9]{8}\.json")


class ObjectChain(Chain):
    """The objects NAME/00000001.json and so on, and NAME/head.json, which counts them.

    `seen` is a file of this machine with the number of lines that it has seen.
    """

    def __init__(self, objects: Objects, name: str, seen: Path) -> None:
        self._objects, self._name, self._seen = objects, name, seen
        self.place = f"{objects.address}/{name}"
        self.advice = (
            "nothing was changed; restore the object from a backup or from an earlier version of "
            "the bucket (docs/scale.md)"
        )

    def read(self) -> Lines:
        """Read all lines, oldest first. Raises LedgerError for the first invalid one."""
        # Read before the lines, because another machine may add one at any moment.
        expected = [self._head(), self._head_seen()]
        listed = self._listed()
        for number, one in enumerate(listed, start=1):
            if one.name != self._object(number):
                raise self.problem(number, "is missing")
        try:
            lines = self._checked(self._objects.read_all(listed))
        except LedgerError:  # perhaps only in the copies of this machine
            lines = self._checked(self._objects.read_all(listed, is_fresh=True))
        for head in expected:
            self._witness(head, lines)
        self._remember(lines)
        return Lines(lines, sum(one.size for one in listed))

    def append(self, fields: Mapping[str, Any], after: Lines) -> Lines:
        """Create the object of the next line. Raises StoreError, or LostRaceError."""
        text = seal({**fields, "previous": after.last_digest})
        number = len(after.lines) + 1
        if not self._objects.create(self._object(number), text):
            raise LostRaceError(f"{self.place}: another machine has added line {number}")
        lines = [*after.lines, Line(text, unseal(text)[1])]
        # Of two machines, the later may write the earlier head: until the next line, it then
        # witnesses one line less.
        head = Head(number=number, line=lines[-1].digest)
        try:
            self._objects.write(f"{self._name}/{HEAD}", seal(head.model_dump()))
        except StoreError as error:
            # The line itself is valid; the next one brings the head up to date.
            logger.warning("%s", error)
        self._remember(lines)
        return Lines(lines, after.size + len(text))

    def signature(self) -> object:
        """Return a value that changes with each new line, without reading them: one request."""
        listed = self._listed()
        return (len(listed), listed[-1].tag if listed else "")

    def _checked(self, texts: list[bytes | None]) -> list[Line]:
        if None in texts:
            raise self.problem(texts.index(None) + 1, "is missing")
        return self.checked(text for text in texts if text is not None)

    def _object(self, number: int) -> str:
        return f"{self._name}/{number:08}.json"

    def _listed(self) -> list[Listed]:
        found = self._objects.listed(f"{self._name}/")
        return [one for one in found if LINE.fullmatch(one.name.rpartition("/")[2])]

    def _head(self) -> Head | None:
        found = self._objects.read(f"{self._name}/{HEAD}")
        return self._parsed(found.content, f"{self.place}/{HEAD}") if found else None

    def _head_seen(self) -> Head | None:
        with contextlib.suppress(OSError):
            return self._parsed(self._seen.read_bytes(), str(self._seen))
        return None

    def _parsed(self, content: bytes, place: str) -> Head:
        try:
            return Head.model_validate_json(unseal(content)[0])
        except (DamagedError, ValidationError) as error:
            raise LedgerError(
                f"{place} is corrupted; it only records how many lines were written: check that "
                f"{self.place} is complete, then delete it"
            ) from error

    def _witness(self, head: Head | None, lines: list[Line]) -> None:
        if head is None:
            return
        if len(lines) < head.number:
            raise LedgerError(
                f"{self.place} has {len(lines)} lines, but {head.number} were written; "
                f"{self.advice}, or delete {self.place}/{HEAD} and {self._seen} to accept the "
                "lines that are left"
            )
        if lines[head.number - 1].digest != head.line:
            raise self.problem(head.number, "is not the line that was written")

    def _remember(self, lines: list[Line]) -> None:
        if not lines:
            return
        head = seal(Head(number=len(lines), line=lines[-1].digest).model_dump())
        # Only a check: without it, lines that the store loses are noticed by its own head.
        with contextlib.suppress(OSError):
            if not self._seen.exists() or self._seen.read_bytes() != head:
                write_whole(self._seen, head)


def chain_at(path: Path, name: str, settings: Settings) -> Chain:
    """Return the chain `name` in the store, or the one in the file `path` if there is no store."""
    objects = objects_of(settings)
    if objects is None:
        return FileChain(path)
    return ObjectChain(objects, name, settings.results_dir / "seen" / f"{name}.head")
