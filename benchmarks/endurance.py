"""Starts the service, lets it execute many unchanged runs, and prints what grows.

Usage: python -m benchmarks.endurance [--runs 200]
Uses a small dataset in a workspace of its own. The runs are started from a deployment, one after
another, and executed by the service's worker.
"""

import argparse
import sqlite3
import tempfile
from pathlib import Path

from tests.e2e.conftest import Service
from tests.support.small_dataset import NAME, write_small_dataset

RUN = (f"dataset={NAME}", 'models=["mlp"]', "epochs=1")
COLUMNS = (
    "runs",
    "server MB",
    "worker MB",
    "database MB",
    "files",
    "other MB",
    "Completed events",
    "not Completed",
    "locked",
)


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its children."""
    status = Path("/proc", str(pid), "status").read_text(encoding="ascii")
    kilobytes = int(status.partition("VmRSS:")[2].split()[0])
    return kilobytes / 1024


def row(service: Service, num_runs: int) -> tuple[float, ...]:
    """Measure the service after some runs."""
    artifacts = service.settings.artifacts_dir
    database = artifacts / "prefect" / "prefect.db"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        (num_events,) = connection.execute(
            "select count(*) from events where event = 'prefect.flow-run.Completed'"
        ).fetchone()
    files = [path for path in artifacts.rglob("*") if path.is_file()]
    own = [path for path in files if not path.name.startswith("prefect.db")]
    log = (artifacts / "logs" / "server.log").read_text(encoding="utf-8", errors="replace")
    states = [run["state_name"] for run in service.runs()]
    return (
        num_runs,
        resident_mb(service.pid("server")),
        resident_mb(service.pid("worker")),
        database.stat().st_size / 1e6,
        len(own),
        sum(path.stat().st_size for path in own) / 1e6,
        num_events,
        sum(state != "Completed" for state in states),
        log.count("database is locked"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder))
        write_small_dataset(service.settings)
        try:
            service.up()
            print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
            for number in range(1, options.runs + 1):
                service.finished(service.start("retrain", *RUN))
                if number == 1 or number % max(1, options.runs // 8) == 0:
                    values = " | ".join(f"{value:,.0f}" for value in row(service, number))
                    print(f"| {values} |", flush=True)
        finally:
            service.end()


if __name__ == "__main__":
    main()
