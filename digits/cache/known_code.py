"""Caches code fingerprints for later processes with the same source files.

Computing them takes as long as everything else in a run with nothing to do. If a single byte of the
source files or the version of Python differs, or the cache file is corrupted, they are computed
again.
"""

import json
import logging
import sys
from collections.abc import Mapping

from pydantic import ValidationError

from digits.errors import DamagedError
from digits.settings import Settings
from digits.storage.files import read_file, write_whole
from digits.storage.references import Digest, Frozen
from digits.storage.seals import seal, unseal

logger = logging.getLogger(__name__)

Code = Mapping[str, str]
Names = tuple[str, ...]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class _Kept(Frozen):
    """The cache file: fingerprints by the names of their roots, for one state of the sources."""

    sources: Digest
    python: str
    code: dict[str, dict[str, Digest]]


class KnownCode:
    """Cached results of Project.code_of for source files with the digest `sources`."""

    def __init__(self, sources: str, settings: Settings) -> None:
        self._path = settings.artifacts_dir / "cache" / "code.json"
        self._sources = sources
        self._code = self._read()
        self._is_kept = True

    def get(self, roots: Names, without: Names) -> Code | None:
        """Return the cached fingerprint, or None if there is none."""
        return self._code.get(_key(roots, without))

    def add(self, roots: Names, without: Names, code: Code) -> None:
        """Cache a fingerprint in memory."""
        self._code[_key(roots, without)] = dict(code)
        self._is_kept = False

    def keep(self) -> None:
        """Write the cache file; if that fails, the next process computes the fingerprints again."""
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
            kept = _Kept.model_validate_json(unseal(read_file(self._path))[0])
        except (OSError, DamagedError, ValidationError):
            return {}
        is_same = (kept.sources, kept.python) == (self._sources, PYTHON)
        return kept.code if is_same else {}


def _key(roots: Names, without: Names) -> str:
    return json.dumps([sorted(roots), sorted(without)])
