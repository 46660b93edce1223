"""The versions in service: the champion of each dataset, and earlier versions on request.

A version is loaded beside the one in service, every byte of it verified, and tried once; then one
assignment replaces it. Requests keep the version that they began with until they end.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from digits.errors import StoreError, UsageError
from digits.inference.loaded_versions import LoadedVersion, load_version
from digits.registry.ledger import Ledger, all_ledgers, champion_of, versions_of
from digits.server.batching import MAX_IMAGES, Batcher
from digits.server.metrics import Metrics
from digits.server.refusals import Refusal
from digits.server.slots import Served, Slot
from digits.spec import load_spec
from digits.storage.workspace import Workspace

logger = logging.getLogger(__name__)

Load = Callable[..., LoadedVersion]
# A dataset and a model's digest: in a new history, other models have the numbers.
NamedVersion = tuple[str, str]

# A promotion is in service two seconds later at most: a look, loading, and a busy machine.
LOOK_SECONDS = 0.5
# A look at a store costs a request for each dataset.
STORE_LOOK_SECONDS = 5.0
# A version that could not be loaded is tried again, because its files may have been restored.
RETRY_SECONDS = 5.0
# Earlier versions that are kept in memory, some megabytes each.
MAX_KEPT = 4


class ServedModels:
    """The versions that one worker has in service.

    `names`: the datasets, or None for all that have a champion. `load` loads and verifies a
    version.
    """

    def __init__(
        self,
        names: tuple[str, ...] | None,
        workspace: Workspace,
        metrics: Metrics,
        load: Load = load_version,
    ) -> None:
        self._workspace = workspace
        self._metrics = metrics
        self._load = load
        self._follows_all = names is None
        self._slots = {name: Slot() for name in names or ()}
        self._kept: OrderedDict[NamedVersion, asyncio.Task[Served]] = OrderedDict()

    @property
    def slots(self) -> dict[str, Slot]:
        """What is known of each dataset, by name."""
        return self._slots

    @property
    def is_ready(self) -> bool:
        """Whether each dataset's champion is in service, or at least the one before."""
        return bool(self._slots) and all(slot.served for slot in self._slots.values())

    def champion(self, dataset: str) -> Served:
        """Return the version in service. Raises Refusal if there is none."""
        slot = self._slots.get(dataset)
        if slot is None:
            known = ", ".join(self._slots) or "none"
            raise Refusal(404, f"unknown dataset {dataset!r} (served here: {known})")
        if slot.served is None:
            raise Refusal(503, f"{dataset} is not ready: {slot.problem}", {"Retry-After": "5"})
        return slot.served

    async def version(self, dataset: str, number: int | None) -> Served:
        """Return a version by number, or the one in service. Raises Refusal if it has none."""
        if number is None:
            return self.champion(dataset)
        slot = self._slots.get(dataset)
        if slot and slot.served and slot.served.version.number == number:
            return slot.served
        if slot is None or number not in slot.digests:
            self.champion(dataset)
            known = ", ".join(map(str, slot.digests)) if slot else ""
            raise Refusal(404, f"{dataset} has no version {number} (versions: {known})")
        return await self._earlier(dataset, number, slot.digests[number])

    def look(self) -> None:
        """Look at the ledgers once, and put what is new into service. Slow if there is anything."""
        if self._follows_all:
            for ledger in all_ledgers(self._workspace.settings):
                if ledger.dataset not in self._slots:
                    self._slots = {**self._slots, ledger.dataset: Slot()}
        for name, slot in self._slots.items():
            self._look_at(name, slot)

    @property
    def may_have_news(self) -> bool:
        """Whether there may be anything to look at: a few system calls."""
        if self._follows_all or self._workspace.objects:
            return True
        return any(self._is_due(*item) for item in self._slots.items())

    async def follow(self) -> None:
        """Keep the versions in service up to date, forever."""
        seconds = STORE_LOOK_SECONDS if self._workspace.objects else LOOK_SECONDS
        while True:
            await asyncio.sleep(seconds)
            try:
                if self.may_have_news:
                    await asyncio.to_thread(self.look)
            except StoreError as error:  # the versions in service stay
                logger.warning("cannot look at the ledgers: %s", error)
            except Exception:  # the next look may succeed
                logger.exception("cannot look at the ledgers")

    def _is_due(self, name: str, slot: Slot) -> bool:
        is_retry = slot.problem is not None and time.monotonic() >= slot.retry_at
        return is_retry or slot.seen != self._signature(name)

    def _look_at(self, name: str, slot: Slot) -> None:
        if not self._is_due(name, slot):
            return
        # Taken before the ledger is read: a line that is appended meanwhile is seen next time.
        slot.seen = self._signature(name)
        slot.retry_at = time.monotonic() + RETRY_SECONDS
        try:
            self._put_into_service(name, slot)
        except Exception as error:  # noqa: BLE001  # whatever it is, the version in service stays
            if not isinstance(error, UsageError):  # there is no champion yet
                self._metrics.failures.labels(name).inc()
            if str(error) != slot.problem:
                logger.warning("%s: cannot serve the champion: %s", name, error)
            slot.problem = str(error)
        self._metrics.is_ready.labels(name).set(slot.problem is None)

    def _put_into_service(self, name: str, slot: Slot) -> None:
        entries = Ledger(name, self._workspace.settings).entries()
        champion = champion_of(entries)
        if champion is None:
            raise UsageError(f"{name} has no champion yet; `digits run --dataset {name}` makes one")
        slot.digests = {
            number: version.model.digest for number, version in versions_of(entries).items()
        }
        slot.befores = {
            entry.version.number: entry.verdict.champion_before
            for entry in entries
            if entry.version
        }
        before = slot.served
        if before is None or _identity(before) != (champion.number, champion.model.digest):
            slot.served = self._loaded(name, champion.number)
            self._count_swap(before, slot.served)
        slot.problem = None

    def _loaded(self, name: str, number: int) -> Served:
        version = self._load(name, self._workspace, number)
        # The first calls allocate memory.
        for num_images in (MAX_IMAGES, 1):
            version.model.predict(np.zeros((num_images, *version.layout.image_shape), np.uint8))
        images = self._metrics.batches.labels(name)
        return Served(
            version=version,
            title=load_spec(name, self._workspace.settings).title,
            batcher=Batcher(version.model.probabilities, images.observe),
            headers=(
                (b"x-model-version", str(version.number).encode()),
                (b"x-model-digest", version.digest.encode()),
            ),
        )

    async def _earlier(self, dataset: str, number: int, digest: str) -> Served:
        key = (dataset, digest)
        if key not in self._kept:
            task = asyncio.create_task(asyncio.to_thread(self._loaded, dataset, number))
            self._kept[key] = task
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        try:
            # Others may wait for it, too.
            return await asyncio.shield(self._kept[key])
        except Exception as error:
            self._kept.pop(key, None)  # the next request tries again
            self._metrics.failures.labels(dataset).inc()
            message = f"version {number} of {dataset} cannot be served: {error}"
            raise Refusal(503, message) from error

    def _count_swap(self, before: Served | None, after: Served) -> None:
        self._metrics.swaps.labels(after.version.dataset).inc()
        self._metrics.version.labels(after.version.dataset).set(after.version.number)
        for served in filter(None, (before, after)):
            version = served.version
            labels = (version.dataset, version.number, version.model.name, version.digest)
            self._metrics.info.labels(*map(str, labels)).set(served is after)
        logger.info("%s: version %d is in service", after.version.dataset, after.version.number)

    def _signature(self, name: str) -> object:
        return Ledger(name, self._workspace.settings).chain.signature()


def _identity(served: Served) -> tuple[int, str]:
    return served.version.number, served.version.digest
