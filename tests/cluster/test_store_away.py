"""The store away, slow, full, throttled or refusing: a run waits or says why, and loses nothing."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from digits.storage.remote.failures import LONG
from tests.cluster.bucket_state import BucketState, bucket_state
from tests.cluster.team import RUN, Member
from tests.support.faulty_proxy import Proxy, Request, proxied
from tests.support.machines import Network, why_no_namespaces
from tests.support.object_store import ObjectStore, environment, object_store
from tests.support.small_dataset import NAME

# Seconds that the store is away: several attempts, and time to say so.
AWAY = LONG + 2


def state(bucket: ObjectStore, member: Member) -> BucketState:
    return bucket_state(bucket.client(), member.prefix)


def is_write(request: Request) -> bool:
    # The probe of the store is another matter.
    return request.method == "PUT" and "/probe" not in request.path


def is_read(request: Request) -> bool:
    return request.method == "GET"


def await_writes(proxy: Proxy, number: int) -> None:
    """Wait until a run has written so much, so that it is in the middle."""
    deadline = time.monotonic() + 120
    while sum(map(is_write, proxy.requests)) < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("fault", ["cut", "silent"])
def test_run_waits_while_the_store_is_away_and_says_so(
    fault: str, team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy
) -> None:
    run = team[0].start(*RUN)
    await_writes(proxy, 4)
    with proxy.suffering(**{fault: True}):
        time.sleep(AWAY)
        assert run.is_running
    ended = run.wait()
    assert ended.status == 0, ended.log
    assert f"{team[0].prefix}: does not answer; still trying to " in ended.log
    state(bucket, team[0]).check(NAME)
    assert not team[1].run().executed


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"cut": True}, "wait until the store answers"),
        ({"status": 503}, "it answered 503 Service Unavailable, SlowDown"),
        ({"status": 507}, "make room in the store"),
    ],
    ids=["gone", "throttled", "full"],
)
def test_run_that_waited_in_vain_says_why_and_the_next_one_goes_on(
    fault: dict[str, Any], told: str, team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy
) -> None:
    run = team[0].start(*RUN, DIGITS_STORE_SECONDS="2")
    await_writes(proxy, 8)
    with proxy.suffering(of=is_write, **fault):
        ended = run.wait()
    assert ended.status != 0
    (line,) = (line for line in ended.log.splitlines() if line.startswith("Error: "))
    assert f"s3://digits/{team[0].prefix}: cannot write " in line
    assert told in line
    assert "nothing is lost" in line
    assert proxy.address not in line
    assert "Traceback" not in ended.log
    state(bucket, team[0]).check(NAME)
    assert "ingest" not in team[0].run().executed
    state(bucket, team[0]).check(NAME)


def test_store_that_ignores_conditions_is_refused(
    team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy
) -> None:
    with proxy.suffering(no_conditions=True):
        ended = team[0].call(*RUN)
    assert ended.status != 0
    assert f"s3://digits/{team[0].prefix} ignores conditions" in ended.log
    assert "Traceback" not in ended.log
    assert not state(bucket, team[0]).objects
    team[0].run()


def test_wrong_credentials_are_named_and_not_shown(team: tuple[Member, ...]) -> None:
    ended = team[0].call(*RUN, AWS_SECRET_ACCESS_KEY="not-the-secret")
    assert ended.status != 0
    assert "it answered 403 Forbidden, SignatureDoesNotMatch; check the credentials" in ended.log
    assert "not-the-secret" not in ended.log + ended.output
    assert "Traceback" not in ended.log
    team[0].run()


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503, "share": 0.3},
        {"of": is_write, "lose_answer": True, "share": 0.3},
        {"of": is_read, "truncate_at": 200, "share": 0.2},
        {"of": is_read, "rate": 200_000},
    ],
    ids=["throttled", "answers lost", "truncated", "slow"],
)
def test_run_succeeds_on_a_bad_connection(
    fault: dict[str, Any], team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy
) -> None:
    with proxy.suffering(**fault):
        made = team[0].run()
        run = team[1].run()
    assert run.models == made.models
    assert not run.executed
    after = state(bucket, team[0])
    after.check(NAME)
    assert len(after.ledger(NAME)) == 2


def test_full_store_is_told_and_loses_nothing(
    team: tuple[Member, ...], lan: Network, tmp_path: Path
) -> None:
    with (
        object_store(tmp_path / "small" / "data", volumes=1) as small,
        proxied(small.port, lan.host) as proxy,
    ):
        there = environment(proxy.address, prefix=team[0].prefix)
        member = replace(team[0], environment={**team[0].environment, **there})
        fill(small)
        ended = member.call(*RUN, DIGITS_STORE_SECONDS="2")
        assert ended.status != 0
        assert "see whether it is full; nothing is lost" in ended.log
        assert "Traceback" not in ended.log
        state(small, member).check(NAME)


def fill(store: ObjectStore) -> None:
    """Write until the store, whose volumes have a size of 1 MB, takes no more."""
    client = store.client(retries=0)
    for number in range(100):
        try:
            client.put(f"filling/{number}", bytes(700_000))
        except Exception:  # noqa: BLE001 - obstore has no class for a full server
            return
        # The server looks at the sizes of its volumes with each heartbeat.
        time.sleep(0.3)
    raise AssertionError("the store was never full")


@pytest.mark.skipif(bool(why_no_namespaces()), reason="machines have no cables of their own")
def test_machine_that_was_cut_off_goes_on(
    team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy
) -> None:
    run = team[0].start(*RUN)
    await_writes(proxy, 4)
    with team[0].machine.disconnected():
        # The others do not wait for it.
        assert team[1].run("--seed", "1").outcome in ("promoted", "kept")
    ended = run.wait()
    assert ended.status == 0, ended.log
    after = state(bucket, team[0])
    after.check(NAME)
    assert len(after.ledger(NAME)) == 2
    assert not team[2].run().executed
