"""A training's state after its last completed epoch, from which it resumes bit for bit."""

import logging
import threading
import time
import zipfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from digits.errors import DamagedError, StoreError
from digits.storage.files import file_digest, flush, read_file, write_whole
from digits.storage.references import Digest, Frozen
from digits.storage.remote.objects import Objects
from digits.storage.seals import seal, unseal

logger = logging.getLogger(__name__)

Variables = list[npt.NDArray[Any]]
DESCRIPTION = "checkpoint.json"
# An epoch of seconds is trained again sooner than its state is uploaded.
UPLOAD_SECONDS = 30.0


class Description(Frozen):
    """The state's file and digest, the epochs so far, and their wall time in seconds."""

    state: Annotated[str, Field(pattern=r"^epoch-[0-9]+\.npz$")]
    sha256: Digest
    seconds: float
    history: list[dict[str, Any]]


class Checkpoint:
    """One training's folder: the state in an .npz, and a sealed description that is written last.

    The description contains the state's digest, so that training never resumes from a truncated
    or corrupted state. With `objects`, the state is also uploaded now and then, so that another
    machine can go on with the training.
    """

    def __init__(self, folder: Path, objects: Objects | None = None) -> None:
        self._folder = folder
        self._objects = objects
        self._uploaded = time.monotonic()
        self._upload = threading.Thread()

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
        if self._objects and time.monotonic() - self._uploaded >= UPLOAD_SECONDS:
            self._begin_upload(self._objects, state)

    def load(self) -> tuple[Variables, list[dict[str, Any]], float] | None:
        """Return the state, the epochs so far and their seconds, or None if nothing is intact."""
        if self._objects:
            self._download(self._objects)
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

    @property
    def _prefix(self) -> str:
        return f"checkpoints/{self._folder.name}"

    def _begin_upload(self, objects: Objects, state: Path) -> None:
        """Upload the state, then its description, while the training goes on.

        Other states are left to garbage collection.
        """
        if self._upload.is_alive():
            return
        # Opened now: the next epoch replaces these files.
        file, sealed = state.open("rb"), read_file(self._folder / DESCRIPTION)

        def upload() -> None:
            try:
                with file:
                    objects.upload(f"{self._prefix}/{state.name}", file, lambda _: None)
                objects.write(f"{self._prefix}/{DESCRIPTION}", sealed)
            except StoreError as error:
                logger.warning("the checkpoint is only on this machine: %s", error)

        self._upload = threading.Thread(target=upload, daemon=True)
        self._upload.start()
        self._uploaded = time.monotonic()

    def _download(self, objects: Objects) -> None:
        """Replace the state by that of another machine if that one is further."""
        try:
            found = objects.read(f"{self._prefix}/{DESCRIPTION}")
            if found is None or _num_epochs(found.content) <= self._num_epochs_here():
                return
            state = Description.model_validate_json(unseal(found.content)[0]).state
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / state).open("wb") as file:
                for chunk in objects.download(f"{self._prefix}/{state}"):
                    file.write(chunk)
            write_whole(self._folder / DESCRIPTION, found.content)
            logger.info("resuming from the checkpoint of another machine, in %s", objects.address)
        except (StoreError, FileNotFoundError, OSError) as error:
            logger.warning("cannot use the checkpoint of another machine: %s", error)

    def _num_epochs_here(self) -> int:
        try:
            return _num_epochs(read_file(self._folder / DESCRIPTION))
        except OSError:
            return 0


def _num_epochs(sealed: bytes) -> int:
    """The number of epochs in a description; 0 if it is invalid."""
    try:
        return len(Description.model_validate_json(unseal(sealed)[0]).history)
    except (DamagedError, ValueError):
        return 0
