"""A bit flipped in the store is noticed by every machine that reads it, and nothing uses it."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.cluster.bucket_state import BucketState, bucket_state
from tests.cluster.team import RUN, Member, join
from tests.support.faulty_proxy import proxied
from tests.support.machines import Network
from tests.support.object_store import ObjectStore, environment
from tests.support.small_dataset import NAME

# The step that is executed again if a bundle of its results is altered.
STEPS = {
    "datasets": "ingest",
    "arrays": "normalize",
    "validations": "validate",
    "models": "train mlp",
    "evaluations": "evaluate mlp",
    "reports": "report",
}
LEDGER = f"ledger/{NAME}"


class Team:
    """Machines with a store that a run on the first one has filled."""

    def __init__(self, members: tuple[Member, ...], bucket: ObjectStore) -> None:
        self.first, *self.others = members
        self._store = bucket.client()

    def state(self) -> BucketState:
        return bucket_state(self._store, self.first.prefix)

    def put(self, name: str, content: bytes) -> None:
        self._store.put(f"{self.first.prefix}/{name}", content)

    def delete(self, name: str) -> None:
        self._store.delete(f"{self.first.prefix}/{name}")

    def restore(self, before: BucketState) -> None:
        """Put back the objects that were there before, and no others."""
        # The machine has seen lines that are no longer there.
        shutil.rmtree(self.first.settings.results_dir / "seen")
        now = self.state().objects
        for name in now.keys() - before.objects.keys():
            self.delete(name)
        for name, content in before.objects.items():
            if now.get(name) != content:
                self.put(name, content)


@pytest.fixture(scope="module")
def filled(
    lan: Network,
    bucket: ObjectStore,
    prefect: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("filled")
    with proxied(bucket.port, lan.host) as proxy:
        shared = {**prefect, **environment(proxy.address, prefix=folder.name)}
        team = Team(tuple(join(machine, folder, shared) for machine in lan.machines), bucket)
        team.first.run()
        # The same candidate again is another decision.
        team.first.run()
        yield team


@pytest.fixture
def team(filled: Team) -> Iterator[Team]:
    """The team, with the store as it was after the test."""
    before = filled.state()
    before.check(NAME)
    yield filled
    filled.restore(before)


@pytest.fixture
def cold(filled: Team, tmp_path: Path) -> Callable[[], Member]:
    """Makes machines with nothing in their homes but the dataset's files."""
    made: list[Member] = []

    def make() -> Member:
        other = filled.others[len(made) % 2]
        made.append(join(other.machine, tmp_path / str(len(made)), other.environment))
        return made[-1]

    return make


def flipped(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def largest_file(state: BucketState, kind: str) -> str:
    names = [name for name in state.objects if name.startswith(f"{kind}/")]
    return max(names, key=lambda name: len(state.objects[name]))


@pytest.mark.parametrize("alter", [flipped, cut])
@pytest.mark.parametrize("kind", STEPS)
def test_altered_bundle_is_noticed_and_made_again(
    kind: str, alter: Callable[[bytes], bytes], team: Team, cold: Callable[[], Member]
) -> None:
    before = team.state()
    path = largest_file(before, kind)
    team.put(path, alter(before.objects[path]))
    run = cold().run()
    assert STEPS[kind] in run.executed
    (told,) = (line for line in run.log.splitlines() if path in line)
    assert f"{STEPS[kind]}: " in told
    assert "the step runs again" in told
    # A report contains durations, so it is not the same again.
    if kind != "reports":
        after = team.state()
        after.check(NAME)
        assert after.objects[path] == before.objects[path]
    assert not cold().run().executed


def test_altered_manifest_is_noticed_and_written_again(
    team: Team, cold: Callable[[], Member]
) -> None:
    before = team.state()
    (path,) = (f"{name}/manifest.json" for name in before.bundles if name.startswith("models/"))
    team.put(path, flipped(before.objects[path]))
    run = cold().run()
    assert "train mlp" in run.executed
    assert f"{path} is corrupted" in run.log
    team.state().check(NAME)


def test_altered_record_is_noticed_and_written_again(
    team: Team, cold: Callable[[], Member]
) -> None:
    before = team.state()
    (path,) = (
        name
        for name, content in before.objects.items()
        if name.startswith("records/") and json.loads(content)["key"]["step"] == "train"
    )
    team.put(path, flipped(before.objects[path]))
    run = team.first.run()
    assert run.executed == {"train mlp"}
    assert path in run.log
    team.state().check(NAME)
    assert not cold().run().executed


def test_machine_with_whole_copies_uploads_what_the_store_lost(
    team: Team, cold: Callable[[], Member]
) -> None:
    before = team.state()
    path = largest_file(before, "models")
    team.delete(path)
    team.delete(largest_file(before, "arrays").rpartition("/")[0] + "/manifest.json")
    run = team.first.run()
    assert not run.executed
    assert run.log.count("uploaded again") == 2
    after = team.state()
    after.check(NAME)
    assert after.bundles == before.bundles
    assert not cold().run().executed


@pytest.mark.parametrize("alter", [flipped, cut, None], ids=["flipped", "cut", "missing"])
def test_nothing_is_promoted_on_an_altered_ledger(
    alter: Callable[[bytes], bytes] | None, team: Team
) -> None:
    line = f"{LEDGER}/00000001.json"
    if alter is None:
        team.delete(line)
    else:
        team.put(line, alter(team.state().objects[line]))
    before = ledger_objects(team)
    for member in (team.first, team.others[0]):
        ended = member.call(*RUN, "--seed", "2")
        assert ended.status != 0
        assert f"{LEDGER} line 1 is" in ended.log
        assert "restore the object from a backup" in ended.log
        assert "Traceback" not in ended.log
    assert ledger_objects(team) == before


def test_lost_last_line_of_a_ledger_is_noticed(team: Team, cold: Callable[[], Member]) -> None:
    team.delete(f"{LEDGER}/00000002.json")
    for member in (team.first, cold()):
        ended = member.call(*RUN, "--seed", "2")
        assert ended.status != 0
        assert "has 1 lines, but 2 were written" in ended.log


def ledger_objects(team: Team) -> dict[str, bytes]:
    objects = team.state().objects
    return {name: content for name, content in objects.items() if name.startswith("ledger/")}
