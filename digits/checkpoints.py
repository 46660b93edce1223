"""A training's state after its last whole epoch, from which a killed run goes on bit for bit."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.errors import DamagedError
from digits.records import canonical_digest
from digits.store import file_digest, flush, write_whole

logger = logging.getLogger(__name__)

Variables = list[npt.NDArray[Any]]
DESCRIPTION = "checkpoint.json"


class Checkpoint:
    """One training's folder: the state in an .npz, and a description that is written last.

    The description carries the state's digest and its own, so that a checkpoint cut short or
    altered is noticed and never resumed from.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, variables: Variables, history: list[dict[str, Any]], seconds: float) -> None:
        """Keep the state after `len(history)` epochs in place of the one before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        state = self._folder / f"epoch-{len(history):04}.npz"
        named = {f"{index:04}": value for index, value in enumerate(variables)}
        np.savez(state, allow_pickle=False, **named)
        flush(state)
        description = {
            "state": state.name,
            "sha256": file_digest(state),
            "seconds": seconds,
            "history": history,
        }
        sealed = {"digest": canonical_digest(description), "checkpoint": description}
        write_whole(self._folder / DESCRIPTION, json.dumps(sealed).encode())
        for path in self._folder.glob("epoch-*.npz"):
            if path != state:
                path.unlink()

    def load(self) -> tuple[Variables, list[dict[str, Any]], float] | None:
        """The state, the epochs so far and their seconds; None where there is nothing whole."""
        try:
            sealed = json.loads((self._folder / DESCRIPTION).read_bytes())
            description = sealed["checkpoint"]
            if canonical_digest(description) != sealed["digest"]:
                raise DamagedError(f"{DESCRIPTION} was altered")
            state = self._folder / Path(description["state"]).name
            if file_digest(state) != description["sha256"]:
                raise DamagedError(f"{state.name} was altered")
            with np.load(state, allow_pickle=False) as arrays:
                variables = [arrays[name] for name in sorted(arrays.files)]
            return variables, description["history"], float(description["seconds"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, DamagedError) as error:
            logger.warning("%s is not whole (%s): training from the start", self._folder, error)
            return None

    def remove(self) -> None:
        """Forget the state; the training's result is safe in the store."""
        shutil.rmtree(self._folder, ignore_errors=True)
