"""How a server is run."""

from dataclasses import dataclass

from pydantic import SecretStr

from digits.settings import Settings


@dataclass(frozen=True)
class ServerOptions:
    """How a server is run; each worker gets a copy.

    `datasets`: whose champions are served; None: those of all datasets that have one. `names`:
    further host names by which the server is reached. `sample`: the share of requests whose
    pictures are kept, 0 to 1. `drain_seconds`: how long the server goes on after a SIGTERM, while
    it already says that it is not ready.
    """

    settings: Settings
    datasets: tuple[str, ...] | None = None
    names: tuple[str, ...] = ()
    api_key: SecretStr | None = None
    sample: float = 0.0
    drain_seconds: float = 2.0
    has_access_log: bool = True
