"""Kills at random moments: nothing partial is visible, nothing is lost, the next run succeeds.

DIGITS_TEST_KILLS is the number of kills of cheap runs, which do everything but the arithmetic.
"""

import os
import random
import time

import pytest

from tests.cluster.bucket_state import BucketState, bucket_state
from tests.cluster.team import RUN, Member
from tests.support.object_store import ObjectStore
from tests.support.small_dataset import NAME

pytestmark = pytest.mark.timeout(1200)

NUM_KILLS = int(os.environ.get("DIGITS_TEST_KILLS", "80"))
NUM_OF_STORE, NUM_OF_RUNS = 10, 10
# About as long as a cheap run takes.
LONGEST = 0.4


def state(bucket: ObjectStore, member: Member) -> BucketState:
    return bucket_state(bucket.client(), member.prefix)


def test_killed_worker_leaves_everything_whole(
    bare_team: tuple[Member, ...], bucket: ObjectStore
) -> None:
    chance = random.Random(0)
    num_lines = 0
    for number in range(NUM_KILLS):
        worker = bare_team[number % len(bare_team)].work("run", number)
        # With 1, the first run after the previous kill has succeeded.
        assert [worker.answer(), worker.answer()] == ["0", "1"]
        time.sleep(chance.uniform(0, LONGEST))
        # It says the number of a run when it begins.
        ended = int(worker.kill()[-1])
        after = state(bucket, bare_team[0])
        after.check(NAME)
        lines = after.ledger(NAME)
        # A killed run has decided or not; those that ended have.
        assert num_lines + ended <= len(lines) <= num_lines + ended + 1
        num_lines = len(lines)


def test_workers_go_on_when_the_store_is_killed_and_comes_back(
    bare_team: tuple[Member, ...], bucket: ObjectStore
) -> None:
    chance = random.Random(1)
    workers = [member.work("run", number) for number, member in enumerate(bare_team)]
    for worker in workers:
        assert worker.answer() == "0"
    for _ in range(NUM_OF_STORE):
        time.sleep(chance.uniform(0, 2 * LONGEST))
        bucket.kill()
        time.sleep(chance.uniform(0, 2 * LONGEST))
        bucket.start()
    assert [worker.answer() for worker in workers]
    # All at about the same time, so that none goes on while another one's lines are read.
    for worker in workers:
        worker.freeze()
    ended = [int(worker.kill()[-1]) for worker in workers]
    after = state(bucket, bare_team[0])
    after.check(NAME)
    assert sum(ended) <= len(after.ledger(NAME)) <= sum(ended) + len(workers)


@pytest.mark.parametrize("seed", range(2))
def test_killed_run_leaves_everything_whole_and_another_machine_completes_it(
    seed: int, team: tuple[Member, ...], bucket: ObjectStore
) -> None:
    chance = random.Random(seed)
    begun = time.monotonic()
    team[0].run("--seed", "100")
    seconds = time.monotonic() - begun
    for number in range(NUM_OF_RUNS // 2):
        victim, other = (team[(number + one) % len(team)] for one in range(2))
        options = ("--seed", str(number))
        run = victim.start(*RUN, *options)
        run.ended(within=chance.uniform(0, seconds))
        run.kill()
        run.wait()
        state(bucket, victim).check(NAME)
        lines = len(state(bucket, victim).ledger(NAME))
        other.run(*options)
        after = state(bucket, victim)
        after.check(NAME)
        assert len(after.ledger(NAME)) == lines + 1
        assert not victim.run(*options).executed
