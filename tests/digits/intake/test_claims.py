import os
from pathlib import Path

import pytest

from digits.intake.claims import Claim, are_claims_left, claim, left_claims, put_all_back


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    (tmp_path / "a.npz").write_bytes(b"first")
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def claim_a(incoming: Path) -> Claim:
    return claim([incoming / "a.npz"])


def test_a_claimed_file_is_out_of_reach_by_its_name(incoming: Path) -> None:
    claimed = claim_a(incoming)
    (incoming / "a.npz").write_bytes(b"second")

    assert [path.read_bytes() for path in claimed.paths] == [b"first"]
    assert left_claims(incoming) == [*claimed.paths]


def test_putting_back_never_replaces_what_came_since(incoming: Path) -> None:
    claimed = claim_a(incoming)
    (incoming / "a.npz").write_bytes(b"second")

    claimed.put_back()

    assert sorted(path.read_bytes() for path in incoming.iterdir()) == [b"first", b"second"]
    assert (incoming / "a.npz").read_bytes() == b"second"


def test_a_folder_is_put_back_beside_another_of_its_name(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "tree" / "1").mkdir(parents=True)
        (tmp_path / "tree" / "1" / "a.png").write_text(content)
        if content == "first":
            claimed = claim([tmp_path / "tree"])

    claimed.put_back()

    assert sorted(path.read_text() for path in tmp_path.rglob("a.png")) == ["first", "second"]
    assert not are_claims_left(tmp_path)


def test_a_pair_is_claimed_completely_or_not_at_all(incoming: Path) -> None:
    with pytest.raises(FileNotFoundError):
        claim([incoming / "a.npz", incoming / "gone"])
    assert names(incoming) == ["a.npz"]


def test_the_claims_of_dead_processes_are_put_back_and_finished_ones_deleted(
    incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (incoming / "b.npz").write_bytes(b"done")
    claim_a(incoming)
    with monkeypatch.context() as patched:
        patched.setattr("digits.intake.claims.discard", lambda _: None)
        claim([incoming / "b.npz"]).finish()
    assert are_claims_left(incoming)

    put_all_back(incoming)

    counter, *others = names(incoming)
    assert counter.startswith(".interrupted-")
    assert others == ["a.npz"]
    assert not are_claims_left(incoming)
    again = claim_a(incoming)
    assert again.num_interruptions == 1
    again.finish()
    assert names(incoming) == []


def test_only_the_same_file_counts_as_interrupted_again(incoming: Path) -> None:
    claim_a(incoming)
    put_all_back(incoming)
    (incoming / "a.npz").unlink()
    (incoming / "a.npz").write_bytes(b"another")

    assert claim_a(incoming).num_interruptions == 0


@pytest.mark.parametrize("kind", ["claimed", "finished"])
def test_a_planted_link_or_a_hidden_file_of_the_user_is_no_claim(
    kind: str, incoming: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    private = tmp_path_factory.mktemp("private")
    (private / "letter").write_text("mine")
    (incoming / f".{kind}-{'0' * 32}").symlink_to(private)
    (incoming / f".{kind}-by-me").mkdir()
    before = names(incoming)

    put_all_back(incoming)

    assert names(incoming) == before
    assert names(private) == ["letter"]


def test_a_name_too_long_to_put_back_beside_another_stays_claimed(tmp_path: Path) -> None:
    long = tmp_path / f"{'a' * 250}.npz"
    long.write_bytes(b"first")
    claimed = claim([long])
    long.write_bytes(b"second")

    with pytest.raises(OSError, match="File name too long"):
        claimed.put_back()

    assert claimed.paths[0].read_bytes() == b"first"
    os.unlink(long)  # noqa: PTH108
    put_all_back(tmp_path)
    assert long.read_bytes() == b"first"
