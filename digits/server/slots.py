"""What a worker knows of one dataset, and a version in service."""

from collections.abc import Mapping
from dataclasses import dataclass

from digits.inference.loaded_versions import LoadedVersion
from digits.server.batching import Batcher


@dataclass(frozen=True)
class Served:
    """A version in service; `headers` are those of its answers."""

    version: LoadedVersion
    title: str
    batcher: Batcher
    headers: tuple[tuple[bytes, bytes], ...]


class Slot:
    """What is known of one dataset's champion; `problem` says why it is not in service.

    `digests` are those of the models of all versions, by number.
    """

    def __init__(self) -> None:
        self.served: Served | None = None
        self.problem: str | None = "not loaded yet"
        self.digests: Mapping[int, str] = {}
        self.befores: dict[int, int | None] = {}
        self.seen: object = None
        self.retry_at = 0.0

    def before_of(self, number: int) -> int | None:
        """Return the champion that a version replaced when it was promoted, or None."""
        return self.befores.get(number)
