"""What all routes of a worker share."""

from dataclasses import dataclass

from digits.server.metrics import Metrics
from digits.server.options import ServerOptions
from digits.server.samples import Sampler
from digits.server.served_models import ServedModels


@dataclass
class Context:
    """The parts of one worker.

    `is_draining`: it is about to end, and goes on until nobody sends requests here any more.
    `num_waiting`: requests whose pictures are being prepared, or wait for it.
    """

    options: ServerOptions
    models: ServedModels
    metrics: Metrics
    sampler: Sampler
    is_draining: bool = False
    num_waiting: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether requests may be sent here."""
        return self.models.is_ready and not self.is_draining
