"""A training's state after its last completed epoch, from which it resumes bit for bit."""

import logging
import zipfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from digits.errors import DamagedError
from digits.storage.files import file_digest, flush, read_file, write_whole
from digits.storage.references import Digest, Frozen
from digits.storage.seals import seal, unseal

logger = logging.getLogger(__name__)

Variables = list[npt.NDArray[Any]]
DESCRIPTION = "checkpoint.json"


class Description(Frozen):
    """The state's file and digest, the epochs so far, and their wall time in seconds."""

    state: Annotated[str, Field(pattern=r"^epoch-[0-9]+\.npz$")]
    sha256: Digest
    seconds: float
    history: list[dict[str, Any]]


class Checkpoint:
    """One training's folder: the state in an .npz, and a sealed description that is written last.

    The description contains the state's digest, so that training never resumes from a truncated
    or corrupted state.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, variables: Variables, history: list[dict[str, Any]], seconds: float) -> None:
        """Save the state after `len(history)` epochs, replacing the previous one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        state = self._folder / f"epoch-{len(history):04}.npz"
        named = {f"{index:04}": value for index, value in enumerate(variables)}
        np.savez(state, allow_pickle=False, **named)
        flush(state)
        description = Description(
            state=state.name, sha256=file_digest(state), seconds=seconds, history=history
        )
        write_whole(self._folder / DESCRIPTION, seal(description.model_dump()))
        for path in self._folder.iterdir():
            if path.name not in {state.name, DESCRIPTION}:
                path.unlink()

    def load(self) -> tuple[Variables, list[dict[str, Any]], float] | None:
        """Return the state, the epochs so far and their seconds, or None if nothing is intact."""
        if not (self._folder / DESCRIPTION).exists():
            return None
        try:
            return self._read()
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, DamagedError) as error:
            logger.warning(
                "%s: invalid checkpoint (%s); training from the start", self._folder, error
            )
            return None

    def _read(self) -> tuple[Variables, list[dict[str, Any]], float]:
        sealed = read_file(self._folder / DESCRIPTION)
        description = Description.model_validate_json(unseal(sealed)[0])
        state = self._folder / description.state
        if file_digest(state) != description.sha256:
            raise DamagedError(f"{state.name} does not match its SHA-256")
        with state.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise DamagedError(f"{state.name} contains a single array, not an archive")
            variables = [arrays[name] for name in sorted(arrays.files)]
        return variables, description.history, description.seconds
