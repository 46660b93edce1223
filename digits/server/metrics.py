"""Prometheus metrics of the server, added up over its workers.

Whichever worker answers a scrape reads the files in which all of them count: the multiprocess mode
of the client library. A label per worker would not do, because a scrape reaches any one of them.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# In memory, if possible: counting must not fail when a disk is full.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


@contextlib.contextmanager
def shared_by_workers() -> Iterator[None]:
    """Give the workers that are started in this block a folder to count in together."""
    is_shared = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)
    place = SHARED_MEMORY if is_shared else None
    with tempfile.TemporaryDirectory(prefix="digits-metrics-", dir=place) as folder:
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER]


class Metrics:
    """What the server counts; `render` is a scrape's answer."""

    def __init__(self) -> None:
        # It decides where to count when it is imported.
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "digits_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "digits_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self.images = Counter(
            "digits_images", "Labeled images.", ["dataset", "version"], registry=registry
        )
        self.batches = Histogram(
            "digits_batch_images",
            "Images in one call of a model.",
            ["dataset"],
            buckets=IMAGES,
            registry=registry,
        )
        self.swaps = Counter(
            "digits_swaps",
            "Versions put into service, once a worker.",
            ["dataset"],
            registry=registry,
        )
        self.failures = Counter(
            "digits_load_failures",
            "Versions that could not be put into service, once an attempt.",
            ["dataset"],
            registry=registry,
        )
        self.version = Gauge(
            "digits_version",
            "The version in service.",
            ["dataset"],
            multiprocess_mode="liveall",
            registry=registry,
        )
        self.is_ready = Gauge(
            "digits_ready",
            "1 if the champion is in service, else 0; the lowest of all workers.",
            ["dataset"],
            multiprocess_mode="livemin",
            registry=registry,
        )
        self.info = Gauge(
            "digits_version_info",
            "1 for the version in service, 0 for those before.",
            ["dataset", "version", "model", "digest"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.lost = Counter(
            "digits_lost",
            "Log lines and samples that could not be written.",
            ["what"],
            registry=registry,
        )
        _reserve()

    def render(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

        folder = os.environ.get(FOLDER)
        if folder is None:
            return generate_latest(self._registry)
        for pid in _pids(Path(folder)):
            if not Path("/proc", str(pid)).exists() and Path("/proc/self").exists():
                mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _reserve() -> None:
    """Reserve the space of this process's files, which are written by mapping them into memory.

    A write to a mapped file without space is a signal that ends the process. Raises OSError.
    """
    folder = os.environ.get(FOLDER)
    for path in Path(folder).glob(f"*_{os.getpid()}.db") if folder else ():
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _pids(folder: Path) -> set[int]:
    names = (re.fullmatch(r"gauge_live\w+_(\d+)\.db", path.name) for path in folder.iterdir())
    return {int(name[1]) for name in names if name}
