"""What one machine computed, the others verify and use."""

from pathlib import Path

from tests.cluster.bucket_state import bucket_state
from tests.cluster.team import Member
from tests.support.object_store import ObjectStore
from tests.support.small_dataset import NAME


def bundles(member: Member) -> dict[str, bytes]:
    """Return the files of all bundles that a machine has, by KIND/DIGEST/FILE."""
    manifests = member.settings.results_dir.glob("*/*/manifest.json")
    return {
        str(file.relative_to(folder.parents[1])): file.read_bytes()
        for folder in (manifest.parent for manifest in manifests)
        for file in folder.iterdir()
    }


def test_training_on_one_machine_is_a_hit_on_another(
    team: tuple[Member, ...], bucket: ObjectStore
) -> None:
    first, *others = team
    made = first.run()
    assert made.executed == made.steps
    state = bucket_state(bucket.client(), first.prefix)
    state.check(NAME)
    assert len(state.records) == len(made.steps)
    ours = bundles(first)
    assert ours
    for member in others:
        run = member.run()
        assert not run.executed
        assert run.models == made.models
        assert run.champion == made.champion
        theirs = bundles(member)
        assert "models" in {name.partition("/")[0] for name in theirs}
        assert theirs == {name: ours[name] for name in theirs}
    after = bucket_state(bucket.client(), first.prefix)
    assert len(after.ledger(NAME)) == len(team)
    assert after.bundles == state.bundles


def test_two_trainings_on_a_cold_machine_share_one_download(team: tuple[Member, ...]) -> None:
    one, other, _ = team
    one.run()
    run = other.run("--models", "mlp,cnn", "--seed", "1")
    assert {"train mlp", "train cnn"} < run.executed
    assert not {"ingest", "validate", "normalize"} & run.executed


def test_machine_without_the_raw_files_uses_what_others_made_of_them(
    team: tuple[Member, ...], tmp_path: Path
) -> None:
    one, other, _ = team
    made = one.run()
    (other.settings.raw_dir).rename(tmp_path / "raw")
    ended = other.call("status", "--dataset", NAME, "--json")
    assert ended.status == 0, ended.log
    assert made.models["mlp"] in ended.output
