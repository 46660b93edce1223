"""Two machines collect garbage while the third works: nothing that is used is lost.

The store's clock is set back for what was written before, so that all of it seems to be old.
"""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tests.cluster.bucket_state import MANIFEST, BucketState, bucket_state, object_names
from tests.cluster.team import Member
from tests.support.faulty_proxy import Proxy
from tests.support.object_store import ObjectStore
from tests.support.small_dataset import NAME

# Longer than what is kept by its age.
LONG_AGO = timedelta(days=3)
# Seconds in which two machines find something, on two busy cores.
PATIENCE = 120
NUM_MADE, NUM_USED, NUM_RUNS = 10, 5, 30
# Seed 2 gives the champion, seeds 0 and 1 worse models, which nothing needs.
MADE, USED = ("2", "0", "1", "3"), ("2", "3")


@contextlib.contextmanager
def collecting(team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy) -> Iterator[None]:
    """Have two machines collect all the time, and what is there seem old, until some is gone."""
    third, *collectors = team
    there = bundles(bucket, third)
    # The store's times have whole seconds.
    time.sleep(1)
    with proxy.suffering(behind=LONG_AGO, only_before=datetime.now(UTC).replace(microsecond=0)):
        workers = [collector.work("collect") for collector in collectors]
        for worker in workers:
            worker.answer()
        yield
        deadline = time.monotonic() + PATIENCE
        while there <= bundles(bucket, third):
            assert time.monotonic() < deadline, "nothing was collected"
        for worker in workers:
            worker.go_on()
            worker.wait()


def bundles(bucket: ObjectStore, member: Member) -> set[str]:
    names = object_names(bucket.client(), member.prefix)
    return {name for name in names if name.endswith(f"/{MANIFEST}")}


def state(bucket: ObjectStore, member: Member) -> BucketState:
    return bucket_state(bucket.client(), member.prefix)


def check(before: BucketState, after: BucketState) -> None:
    after.check(NAME)
    lines = before.ledger(NAME)
    assert after.ledger(NAME)[: len(lines)] == lines


def test_runs_without_arithmetic_go_on(
    bare_team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy
) -> None:
    third = bare_team[0]
    worker = third.work("again", "a", NUM_MADE)
    # All of them once, and the first one again.
    for _ in range(NUM_MADE + 1):
        worker.answer()
    worker.kill()
    before = state(bucket, third)
    with collecting(bare_team, bucket, proxy):
        worker = third.work("again", "a", NUM_USED)
        for _ in range(NUM_RUNS):
            worker.answer()
    worker.go_on()
    worker.wait()
    check(before, state(bucket, third))


def test_trainings_go_on(team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy) -> None:
    third, *collectors = team
    models = {seed: third.run("--seed", seed).models for seed in MADE}
    before = state(bucket, third)
    with collecting(team, bucket, proxy):
        for seed in USED:
            assert third.run("--seed", seed).models == models[seed]
    check(before, state(bucket, third))
    assert not third.run("--seed", USED[-1]).executed
    assert not collectors[0].run("--seed", USED[-1]).executed
