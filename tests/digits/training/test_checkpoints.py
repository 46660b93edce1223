import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.storage.files import file_digest
from digits.storage.seals import seal
from digits.training.checkpoints import DESCRIPTION, Checkpoint, Variables
from tests.support.bytes import each_damage
from tests.support.processes import kill, result_of, start, wait_for

HISTORY = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-300}]

# Every number of a state is its epoch, so that a mixture of two states would show.
SAVER = """
import itertools, sys
from pathlib import Path
import numpy as np
from digits.training.checkpoints import Checkpoint

checkpoint = Checkpoint(Path(sys.argv[1]))
for epoch in itertools.count(1):
    checkpoint.save([np.full(20_000, epoch), np.float32(epoch)], [{"epoch": epoch}] * epoch, epoch)
    if epoch == 1:
        print("saved", flush=True)
"""

SAVER_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from digits.training.checkpoints import Checkpoint

checkpoint = Checkpoint(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    checkpoint.save([np.zeros(1000)], [{"epoch": 1}, {"epoch": 2}], 2.0)
except OSError as error:
    print(error.strerror)
"""


def variables() -> Variables:
    return [
        np.array([[0.1, -0.0], [np.nan, 1e-45]], np.float32),
        np.array([7, 2**32 - 1], np.uint32),
        np.array(3, np.int64),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint"


@pytest.fixture
def saved(folder: Path) -> Checkpoint:
    checkpoint = Checkpoint(folder)
    checkpoint.save(variables(), HISTORY, 12.5)
    return checkpoint


def state_of(folder: Path) -> Path:
    (state,) = folder.glob("*.npz")
    return state


def describe(folder: Path, **changes: Any) -> None:
    """Write a description with a valid digest of the state in the folder."""
    fields = {
        "state": state_of(folder).name,
        "sha256": file_digest(state_of(folder)),
        "seconds": 12.5,
        "history": HISTORY,
    }
    (folder / DESCRIPTION).write_bytes(seal(fields | changes))


def test_a_state_comes_back_bit_for_bit(saved: Checkpoint) -> None:
    kept = saved.load()

    assert kept is not None
    loaded, history, seconds = kept
    for before, after in zip(variables(), loaded, strict=True):
        assert (before.dtype, before.shape) == (after.dtype, after.shape)
        assert before.tobytes() == after.tobytes()
    assert (history, seconds) == (HISTORY, 12.5)


def test_many_variables_keep_their_order(folder: Path) -> None:
    checkpoint = Checkpoint(folder)
    checkpoint.save([np.array(number) for number in range(1100)], HISTORY, 0.0)

    kept = checkpoint.load()

    assert kept is not None
    assert [int(value) for value in kept[0]] == list(range(1100))


def test_there_is_nothing_before_the_first_epoch(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert Checkpoint(folder).load() is None
    assert caplog.messages == []


def test_a_diverged_loss_can_be_saved(folder: Path) -> None:
    checkpoint = Checkpoint(folder)
    checkpoint.save([], [{"epoch": 1, "loss": float("nan")}], 0.0)

    kept = checkpoint.load()

    assert kept is not None
    assert np.isnan(kept[1][0]["loss"])


def test_only_the_last_state_is_kept(saved: Checkpoint, folder: Path) -> None:
    (folder / "epoch-0001.npz").write_bytes(b"of a save that was killed")

    saved.save(variables(), [*HISTORY, {"epoch": 3}], 20.0)

    assert sorted(path.name for path in folder.iterdir()) == [DESCRIPTION, "epoch-0003.npz"]


@pytest.mark.faults
@pytest.mark.parametrize("name", [DESCRIPTION, "epoch-0002.npz"])
def test_a_corrupted_or_truncated_state_is_never_loaded(
    saved: Checkpoint, folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR")
    for _ in each_damage(folder / name):
        assert saved.load() is None
    assert saved.load() is not None


def test_a_corrupted_state_is_logged_in_one_line(
    saved: Checkpoint, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with state_of(folder).open("r+b") as file:
        file.write(b"?")

    assert saved.load() is None
    problem = "epoch-0002.npz does not match its SHA-256"
    assert caplog.messages == [f"{folder}: invalid checkpoint ({problem}); training from the start"]


def test_a_missing_state_is_logged_in_one_line(
    saved: Checkpoint, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state_of(folder).unlink()

    assert saved.load() is None
    assert len(caplog.messages) == 1
    assert "training from the start" in caplog.messages[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "../outside.npz"},
        {"state": "/etc/passwd"},
        {"state": DESCRIPTION},
        {"state": ""},
        {"sha256": "0"},
        {"history": "three"},
        {"history": [1, 2]},
        {"seconds": "long"},
        {"more": 1},
    ],
)
def test_a_planted_description_is_rejected(
    saved: Checkpoint, folder: Path, changes: dict[str, Any]
) -> None:
    (folder.parent / "outside.npz").write_bytes(state_of(folder).read_bytes())
    describe(folder, **changes)

    assert saved.load() is None


def test_a_description_of_another_form_is_rejected(saved: Checkpoint, folder: Path) -> None:
    for content in (b"", b"[]", b"null", b"[" * 1_000_000, b"\xff", seal({})):
        (folder / DESCRIPTION).write_bytes(content)

        assert saved.load() is None


class Planted:
    """An object that creates a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("planted",)


def test_nothing_is_unpickled(
    saved: Checkpoint, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(state_of(folder), allow_pickle=True, planted=np.array([Planted()], object))
    describe(folder)

    assert saved.load() is None
    assert not Path("planted").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not an archive", b"not an archive"])
def test_a_state_that_is_not_an_archive_is_rejected(
    saved: Checkpoint, folder: Path, content: bytes
) -> None:
    state_of(folder).write_bytes(content)
    describe(folder)

    assert saved.load() is None


def test_a_single_array_in_place_of_the_state_is_rejected(saved: Checkpoint, folder: Path) -> None:
    with state_of(folder).open("wb") as file:
        np.save(file, np.zeros(3))
    describe(folder)

    assert saved.load() is None


@pytest.mark.faults
def test_a_saver_killed_at_any_moment_leaves_an_intact_state(folder: Path) -> None:
    moments = random.Random(1)
    for _ in range(6):
        saver = start(SAVER, folder)
        wait_for(saver, "saved")
        time.sleep(moments.uniform(0, 0.02))
        kill(saver)

        kept = Checkpoint(folder).load()

        assert kept is not None
        (whole, number), history, seconds = kept
        assert len(history) == int(number) == seconds
        assert (whole == number).all()


@pytest.mark.faults
def test_a_full_disk_leaves_the_previous_state(saved: Checkpoint, folder: Path) -> None:
    saved.save([np.array(1)], [{"epoch": 1}], 1.0)

    assert result_of(SAVER_ON_A_FULL_DISK, folder) == "File too large\n"

    kept = saved.load()
    assert kept is not None
    assert kept[1] == [{"epoch": 1}]
