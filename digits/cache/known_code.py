"""What steps were found to reach in the code, kept for the next process that has the same sources.

To read it off the sources takes as long as all else that a run with nothing to do does of its own.
Sources that differ in one byte, another version of Python or a damaged file mean: read it again.
"""

import json
import logging
import sys
from collections.abc import Mapping

from pydantic import ValidationError

from digits.errors import DamagedError
from digits.settings import Settings
from digits.storage.files import write_whole
from digits.storage.references import Digest, Frozen
from digits.storage.seals import seal, unseal

logger = logging.getLogger(__name__)

Code = Mapping[str, str]
Names = tuple[str, ...]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class _Kept(Frozen):
    """One file: of these sources, by these names, this was reached."""

    sources: Digest
    python: str
    code: dict[str, dict[str, Digest]]


class KnownCode:
    """The digests of reached definitions, by the names that reach them, for one state of sources.

    What it answers is what Project.code_of gave on sources of the digest `sources`.
    """

    def __init__(self, sources: str, settings: Settings) -> None:
        self._path = settings.artifacts_dir / "cache" / "code.json"
        self._sources = sources
        self._code = self._read()
        self._is_kept = True

    def get(self, roots: Names, without: Names) -> Code | None:
        """What was reached, if that is known."""
        return self._code.get(_key(roots, without))

    def add(self, roots: Names, without: Names, code: Code) -> None:
        """Note what was reached, in memory."""
        self._code[_key(roots, without)] = dict(code)
        self._is_kept = False

    def keep(self) -> None:
        """Write what was noted; a disk that refuses costs the next process its time."""
        if self._is_kept:
            return
        kept = _Kept(sources=self._sources, python=PYTHON, code=self._code)
        try:
            write_whole(self._path, seal(kept.model_dump()))
        except OSError as error:
            logger.debug("%s cannot be written: %s", self._path, error)
        self._is_kept = True

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            kept = _Kept.model_validate_json(unseal(self._path.read_bytes())[0])
        except (OSError, DamagedError, ValidationError):
            return {}
        is_same = (kept.sources, kept.python) == (self._sources, PYTHON)
        return kept.code if is_same else {}


def _key(roots: Names, without: Names) -> str:
    return json.dumps([sorted(roots), sorted(without)])
