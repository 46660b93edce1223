"""What `digits dataset add`, `add-incoming`, `show` and `remove` print, and their exit codes."""

from pathlib import Path

import numpy as np

from digits.intake.incoming import incoming_folder
from digits.settings import Settings
from tests.support.commands import call_digits, read_json
from tests.support.disks import full_disk
from tests.support.handwriting import make_more
from tests.support.small_dataset import NAME


def save(path: Path, seed: int, is_good: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images, labels = make_more(60, seed)
    np.savez(path, x_train=images if is_good else 255 - images, y_train=labels)
    return path


def test_show_lists_versions_and_waiting_and_refused_batches(
    here: Settings, tmp_path: Path
) -> None:
    path = save(tmp_path / "a.npz", 1)
    added = read_json(call_digits("dataset", "add", "--dataset", NAME, str(path), "--json"))
    refused = call_digits(
        "dataset", "add", "--dataset", NAME, str(save(tmp_path / "b.npz", 2, is_good=False))
    )
    waiting = save(incoming_folder(NAME, here) / "c.npz", 3)

    facts = read_json(call_digits("dataset", "show", "--dataset", NAME, "--json"))
    printed = call_digits("dataset", "show", "--dataset", NAME).stdout.splitlines()

    page = refused.stdout.splitlines()[-1].removeprefix("Page: ")
    assert (facts["version"], facts["waiting"], facts["quarantined"]) == (2, ["c.npz"], [page])
    (change,) = facts["changes"]
    sizes = change["class_sizes"]
    assert (change["batch"], change["source"]) == (added["batch"], str(path))
    assert sum(sizes["train"]) + sum(sizes["test"]) == 60
    assert change["num_train"] == sum(sizes["train"])
    assert printed[0] == f"{NAME}: dataset version 2"
    assert f"added    {added['batch'][:12]}  +{change['num_train']} train" in printed[1]
    assert printed[2:] == [f"waiting in the incoming folder: {waiting.name}", f"refused: {page}"]


def test_a_refusal_prints_each_reason_on_a_line_and_exits_with_1(
    here: Settings, tmp_path: Path
) -> None:
    path = save(tmp_path / "b.npz", 2, is_good=False)

    printed = call_digits("dataset", "add", "--dataset", NAME, str(path))

    first, *reasons, page = printed.stdout.splitlines()
    assert printed.exit_code == 1
    assert first == f"refused: {path} was not added to {NAME}"
    assert [reason.split("(")[-1].partition(")")[0] for reason in reasons] == [
        "centroid_accuracy",
        "inverted_colours",
    ]
    assert page.startswith(f"Page: {here.data_dir}/quarantine/{NAME}/")


def test_incoming_batches_can_be_added_without_a_run(here: Settings) -> None:
    save(incoming_folder(NAME, here) / "a.npz", 1)
    good = call_digits("dataset", "add-incoming", "--dataset", NAME)
    save(incoming_folder(NAME, here) / "b.npz", 2, is_good=False)
    bad = call_digits("dataset", "add-incoming", "--dataset", NAME, "--json")
    nothing = call_digits("dataset", "add-incoming", "--dataset", NAME)

    assert (good.exit_code, bad.exit_code, nothing.exit_code) == (0, 1, 0)
    assert "added as batch" in good.stdout
    assert '"status": "quarantined"' in bad.stdout
    assert nothing.stdout == f"nothing waits in {incoming_folder(NAME, here)}\n"


def test_a_batch_that_cannot_be_stored_is_left_with_exit_code_1(here: Settings) -> None:
    path = save(incoming_folder(NAME, here) / "a.npz", 1)
    content = path.read_bytes()

    with full_disk(2000):
        left = call_digits("dataset", "add-incoming", "--dataset", NAME)

    assert left.exit_code == 1
    assert left.stdout.startswith(f"{path}: left in the incoming folder: [Errno 27]")
    assert path.read_bytes() == content
    assert call_digits("dataset", "add-incoming", "--dataset", NAME).exit_code == 0


def test_a_batch_is_removed_by_the_beginning_of_its_digest(here: Settings, tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", 1)
    batch = read_json(call_digits("dataset", "add", "--dataset", NAME, str(path), "--json"))[
        "batch"
    ]

    unknown = call_digits("dataset", "remove", "--dataset", NAME, "zz")
    removed = call_digits("dataset", "remove", "--dataset", NAME, batch[:6])

    assert unknown.exit_code == 2
    assert unknown.stderr == f"Error: {NAME} has no batch 'zz' (batches: {batch[:12]})\n"
    assert removed.stdout == f"removed batch {batch[:12]}; {NAME} is now dataset version 3\n"
    assert (here.data_dir / "batches" / NAME / batch).exists()


def test_an_unknown_dataset_or_file_is_named(here: Settings, tmp_path: Path) -> None:
    no_dataset = call_digits("dataset", "add", "--dataset", "nothing", str(here.data_dir))
    no_file = call_digits("dataset", "add", "--dataset", NAME, str(tmp_path / "a.npz"))

    assert no_dataset.exit_code == 2
    assert "unknown dataset 'nothing'" in no_dataset.stderr
    assert no_file.exit_code == 1
    assert "a.npz: not found" in no_file.stderr


def test_the_name_of_the_dataset_may_come_first(here: Settings) -> None:
    path = save(here.data_dir / "a.npz", 1)
    added = read_json(call_digits("dataset", "add", NAME, str(path), "--json"))
    assert (added["dataset"], added["status"]) == (NAME, "accepted")
    assert read_json(call_digits("dataset", "show", NAME, "--json"))["version"] == 2
    assert call_digits("dataset", "remove", NAME, added["batch"][:8]).exit_code == 0
    assert call_digits("dataset", "add-incoming", NAME).exit_code == 0
