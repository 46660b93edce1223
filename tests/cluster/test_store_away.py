"""The store away, slow, full, throttled or refusing: a run waits or says why, and loses nothing."""

import time
from typing import Any

import pytest

from tests.cluster.bucket_state import BucketState, bucket_state
from tests.cluster.team import RUN, Member
from tests.support.faulty_proxy import Proxy, Request
from tests.support.machines import why_no_namespaces
from tests.support.object_store import ObjectStore
from tests.support.small_dataset import NAME

# Seconds that the store is away: long enough for several attempts.
AWAY = 8


def state(bucket: ObjectStore, member: Member) -> BucketState:
    return bucket_state(bucket.client(), member.prefix)


def is_write(request: Request) -> bool:
    return request.method == "PUT"


def is_read(request: Request) -> bool:
    return request.method == "GET"


def await_writes(proxy: Proxy, number: int) -> None:
    deadline = time.monotonic() + 120
    while sum(map(is_write, proxy.requests)) < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "fault", [{"cut": True}, {"silent": True}, {"status": 503}, {"status": 500}], ids=str
)
def test_run_goes_on_when_the_store_was_away(
    fault: dict[str, Any], team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy
) -> None:
    run = team[0].start(*RUN)
    await_writes(proxy, 4)
    with proxy.suffering(**fault):
        time.sleep(AWAY)
        assert run.is_running
    ended = run.wait()
    assert ended.status == 0, ended.log
    state(bucket, team[0]).check(NAME)
    assert not team[1].run().executed
    print(ended.log)


@pytest.mark.parametrize("fault", [{"cut": True}, {"status": 503}, {"status": 507}], ids=str)
def test_run_without_a_store_ends_with_a_clear_line(
    fault: dict[str, Any], team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy
) -> None:
    run = team[0].start(*RUN, DIGITS_STORE_SECONDS="2")
    await_writes(proxy, 8)
    with proxy.suffering(of=is_write, **fault):
        ended = run.wait()
    print(ended.log)
    assert ended.status != 0
    assert "Traceback" not in ended.log
    assert f"s3://digits/{team[0].prefix}: cannot write" in ended.log
    assert "nothing is lost" in ended.log
    state(bucket, team[0]).check(NAME)
    again = team[0].run()
    assert "ingest" not in again.executed
    state(bucket, team[0]).check(NAME)


def test_wrong_credentials_are_named_and_not_shown(team: tuple[Member, ...]) -> None:
    begun = time.monotonic()
    ended = team[0].call(*RUN, AWS_SECRET_ACCESS_KEY="not-the-secret")
    print(ended.log, time.monotonic()-begun)
    assert ended.status != 0
    assert "check the credentials" in ended.log
    assert "not-the-secret" not in ended.log + ended.output
    assert "Traceback" not in ended.log
    team[0].run()


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503, "share": 0.3},
        {"of": is_write, "lose_answer": True, "share": 0.3},
        {"of": is_read, "truncate_at": 200, "share": 0.3},
        {"latency": 0.1},
        {"of": is_read, "rate": 100_000},
    ],
    ids=["throttled", "answers lost", "truncated", "far away", "slow"],
)
def test_run_succeeds_on_a_bad_connection(
    fault: dict[str, Any], team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy
) -> None:
    with proxy.suffering(**fault):
        b = time.monotonic()
        made = team[0].run()
        print(made.log, time.monotonic()-b)
        b = time.monotonic()
        run = team[1].run()
        print(run.log, time.monotonic()-b)
    assert run.models == made.models
    assert not run.executed
    after = state(bucket, team[0])
    after.check(NAME)
    assert len(after.ledger(NAME)) == 2


def test_full_store_is_told_and_loses_nothing(
    team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy
) -> None:
    pass


@pytest.mark.skipif(bool(why_no_namespaces()), reason="machines have no cables of their own")
def test_machine_cut_off_during_a_run_ends_it_or_says_why(
    team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy
) -> None:
    run = team[0].start(*RUN)
    await_writes(proxy, 4)
    with team[0].machine.disconnected():
        other = team[1].run("--seed", "1")
        assert other.outcome in ("promoted", "kept")
    ended = run.wait()
    print(ended.log)
    assert "Traceback" not in ended.log
    state(bucket, team[0]).check(NAME)
    team[0].run()
    state(bucket, team[0]).check(NAME)
