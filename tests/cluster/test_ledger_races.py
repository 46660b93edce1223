"""Decisions of several machines at once: one is first, the others decide anew, none is lost."""

from tests.cluster.bucket_state import BucketState, bucket_state
from tests.cluster.team import Member
from tests.support.faulty_proxy import Proxy, Request
from tests.support.object_store import ObjectStore
from tests.support.small_dataset import NAME

ROUNDS, DECIDERS = 50, 2


def race(team: tuple[Member, ...], rounds: int) -> list[str]:
    """Have processes on all machines decide at once, again and again; return their decisions."""
    deciders = [
        member.work("decide", rounds, f"{member.machine.name}-{number}")
        for member in team
        for number in range(DECIDERS)
    ]
    for decider in deciders:
        assert decider.answer() == "ready"
    decisions = []
    for _ in range(rounds):
        for decider in deciders:
            decider.go_on()
        decisions += [decider.answer() for decider in deciders]
    for decider in deciders:
        decider.wait()
    return decisions


def state(bucket: ObjectStore, team: tuple[Member, ...]) -> BucketState:
    return bucket_state(bucket.client(), team[0].prefix)


def test_no_decision_of_fifty_races_is_lost(
    bare_team: tuple[Member, ...], bucket: ObjectStore
) -> None:
    decisions = race(bare_team, ROUNDS)
    lines = [line["digest"] for line in state(bucket, bare_team).ledger(NAME)]
    assert len(lines) == ROUNDS * DECIDERS * len(bare_team)
    assert sorted(lines) == sorted(decisions)


def test_decision_whose_answer_was_lost_is_counted_once(
    bare_team: tuple[Member, ...], bucket: ObjectStore, proxy: Proxy
) -> None:
    def is_line(request: Request) -> bool:
        return request.method == "PUT" and "/ledger/" in request.path

    with proxy.suffering(of=is_line, share=0.5, lose_answer=True):
        decisions = race(bare_team, 5)
    lines = [line["digest"] for line in state(bucket, bare_team).ledger(NAME)]
    assert len(lines) == 5 * DECIDERS * len(bare_team)
    assert sorted(lines) == sorted(decisions)
