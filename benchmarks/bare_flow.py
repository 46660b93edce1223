"""Seven trivial Prefect tasks in sequence, with cached results: the minimum that a flow costs.

Usage: python -m benchmarks.bare_flow
"""

from prefect import flow, task
from prefect.cache_policies import INPUTS


@task(cache_policy=INPUTS, persist_result=True)
def step(number: int) -> int:
    return number + 1


@flow
def seven() -> int:
    number = 0
    for name in ("ingest", "validate", "normalize", "train", "evaluate", "promote", "report"):
        number = step.with_options(name=name)(number)
    return number


if __name__ == "__main__":
    assert seven() == 7
