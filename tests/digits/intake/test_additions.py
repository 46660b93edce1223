import logging
import os
from pathlib import Path

import numpy as np
import pytest

from digits.datasets.growth import Growth
from digits.datasets.ingestion import ingest_dataset
from digits.datasets.sources.content import content_of
from digits.datasets.versions import DatasetVersions
from digits.errors import DataError, UsageError
from digits.intake import additions, contents
from digits.intake.additions import add_all_incoming, add_batch
from digits.intake.incoming import (
    Addition,
    describe_versions,
    incoming_folder,
    quarantine_folder,
)
from digits.settings import Settings
from digits.spec import DatasetSpec, load_spec
from digits.storage.workspace import Workspace
from digits.validation.dataset_validation import validate_dataset
from digits.validation.findings import ValidationOutcome
from tests.support.handwriting import Pair, make_more, make_splits
from tests.support.layouts import write_csv, write_folders
from tests.support.small_dataset import NAME, SPEC, write_spec

BOUNDS = """
num_images = 600
min_class_size = 60
max_class_size = 60
max_near_duplicates = 0
"""


@pytest.fixture
def workspace(small_dataset: Settings) -> Workspace:
    return Workspace(small_dataset)


@pytest.fixture
def spec(workspace: Workspace) -> DatasetSpec:
    return load_spec(NAME, workspace.settings)


def save(batch: Pair, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=batch[0], y_train=batch[1])
    return path


def inverted(batch: Pair) -> Pair:
    return 255 - batch[0], batch[1]


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_adding_the_same_batch_again_in_any_layout_changes_nothing(
    spec: DatasetSpec, workspace: Workspace, tmp_path: Path
) -> None:
    batch = make_more(60, 1)
    added = add_batch([save(batch, tmp_path / "a.npz")], spec, workspace)
    before = files_below(workspace.settings.data_dir)
    (tmp_path / "csv").mkdir()
    order = np.random.default_rng(0).permutation(60)

    again = [
        add_batch([tmp_path / "a.npz"], spec, workspace),
        add_batch(
            write_csv(tmp_path / "csv", {"train": (batch[0][order], batch[1][order])}),
            spec,
            workspace,
        ),
        add_batch(write_folders(tmp_path / "tree", {"train": batch}), spec, workspace),
    ]

    assert (added.status, added.version) == ("accepted", 2)
    assert {(one.status, one.batch, one.version) for one in again} == {("known", added.batch, 2)}
    assert files_below(workspace.settings.data_dir) == before


def test_a_refused_batch_can_be_added_once_the_spec_allows_it(
    spec: DatasetSpec, workspace: Workspace, tmp_path: Path
) -> None:
    images, labels = make_more(60, 1)
    images[7] = 0
    path = save((images, labels), tmp_path / "a.npz")
    refused = add_batch([path], spec, workspace)
    again = add_batch([path], spec, workspace)
    write_spec(workspace.settings, SPEC + '[thresholds.severity]\nblank_images = "warning"\n')

    added = add_batch([path], load_spec(NAME, workspace.settings), workspace)

    assert (refused.status, refused.version, refused.page) == ("quarantined", 1, again.page)
    assert "blank_images" in refused.reasons[0]
    assert (added.status, added.version) == ("accepted", 2)
    (warning,) = added.warnings
    assert "(blank_images): found 0 to 255" in warning
    assert warning.endswith("a.npz: x_train, row 7")
    assert path.exists()


def test_rows_that_fail_a_disabled_check_are_left_out_silently(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_spec(workspace.settings, SPEC + '[thresholds.severity]\nlabel_unknown = "off"\n')
    images, labels = make_more(60, 1)
    labels[7] = 12

    added = add_batch(
        [save((images, labels), tmp_path / "a.npz")],
        load_spec(NAME, workspace.settings),
        workspace,
    )

    growth = added.growth
    assert (added.status, added.warnings) == ("accepted", ())
    assert growth.train.num_images + growth.test.num_images == 59


def test_bounds_stay_exact_while_a_dataset_grows(workspace: Workspace, tmp_path: Path) -> None:
    write_spec(workspace.settings, SPEC + BOUNDS)
    spec = load_spec(NAME, workspace.settings)
    versions = DatasetVersions(NAME, workspace.settings)
    for seed in (1, 2):
        added = add_batch([save(make_more(90, seed), tmp_path / f"{seed}.npz")], spec, workspace)
        assert added.status == "accepted", added.reasons
    version = versions.current()

    def validated(growth: Growth, batches: list[str]) -> ValidationOutcome:
        content = content_of(spec, workspace.settings)
        dataset = ingest_dataset(
            spec.layout, content, spec.read_options, spec, workspace, added=batches
        )
        folder = workspace.store.folder(dataset)
        return validate_dataset(folder, spec.layout, spec.thresholds, tmp_path, growth=growth)

    all_batches = list(version.content.values())
    assert validated(version.growth, all_batches).success
    lost = validated(version.growth, all_batches[:1])
    assert {finding.check for finding in lost.failures} == {"num_images", "class_size"}
    assert validated(version.batches[0].growth, all_batches[:1]).success


def test_a_batch_that_would_make_the_dataset_fail_is_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    mean = make_splits()["train"][0].mean()
    write_spec(workspace.settings, f"{SPEC}max_mean_pixel = {mean + 1}\n")
    images, labels = make_more(300, 1)
    bright = np.where(images > 0, 255, images).astype(np.uint8)

    refused = add_batch(
        [save((bright, labels), tmp_path / "a.npz")],
        load_spec(NAME, workspace.settings),
        workspace,
    )

    assert refused.status == "quarantined"
    assert [reason.partition(":")[0] for reason in refused.reasons] == [
        "train, mean of all pixels (mean_pixel)"
    ]


def test_a_file_that_changes_while_being_read_is_left_alone(
    spec: DatasetSpec, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(make_more(60, 1), tmp_path / "a.npz")
    read = additions.read_rows

    def read_and_grow(*arguments: object) -> object:
        found = read(*arguments)  # type: ignore[arg-type]
        os.utime(path, ns=(1, 1))
        return found

    monkeypatch.setattr(additions, "read_rows", read_and_grow)

    with pytest.raises(DataError, match="changed while being read"):
        add_batch([path], spec, workspace)
    assert DatasetVersions(NAME, workspace.settings).current().number == 1
    assert not quarantine_folder(NAME, workspace.settings).exists()


def test_the_data_folder_is_not_a_batch(
    spec: DatasetSpec, workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="name the folder of one batch"):
        add_batch([tmp_path], spec, workspace)
    assert not quarantine_folder(NAME, workspace.settings).exists()


def test_missing_files_are_named(spec: DatasetSpec, workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz: not found"):
        add_batch([tmp_path / "nowhere.npz"], spec, workspace)


def test_incoming_files_are_removed_once_added_or_quarantined(
    spec: DatasetSpec, workspace: Workspace
) -> None:
    folder = incoming_folder(NAME, workspace.settings)
    for name, batch in (
        ("a.npz", make_more(60, 1)),
        ("b.npz", inverted(make_more(60, 2))),
        ("c.npz", make_more(60, 1)),
        ("d.npz", make_more(60, 3)),
    ):
        save(batch, folder / name)
    content = (folder / "b.npz").read_bytes()

    outcomes: list[Addition] = list(add_all_incoming(spec, workspace))

    assert [outcome.status for outcome in outcomes] == [
        "accepted",
        "quarantined",
        "known",
        "accepted",
    ]
    assert list(folder.iterdir()) == []
    assert outcomes[1].page is not None
    assert (outcomes[1].page.parent / "originals" / "b.npz").read_bytes() == content
    assert DatasetVersions(NAME, workspace.settings).current().number == 3


def test_an_unreadable_batch_stays_in_place_and_the_others_are_added(
    spec: DatasetSpec,
    workspace: Workspace,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = incoming_folder(NAME, workspace.settings)
    save(make_more(60, 1), folder / "a.npz")
    save(make_more(60, 2), folder / "b.npz")
    digest = contents.file_digest

    def refuse_a(path: Path) -> str:
        if path.name == "a.npz":
            raise PermissionError(13, "Permission denied", str(path))
        return digest(path)

    monkeypatch.setattr(contents, "file_digest", refuse_a)
    caplog.set_level(logging.WARNING)

    outcomes = list(add_all_incoming(spec, workspace))

    assert [outcome.status for outcome in outcomes] == ["left", "accepted"]
    assert [path.name for path in folder.iterdir()] == ["a.npz"]
    reason = f"[Errno 13] Permission denied: '{folder / 'a.npz'}'"
    assert f"a.npz: left in the incoming folder: {reason}" in caplog.text
    assert outcomes[0].reasons == (reason,)


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_file_name_that_is_not_utf_8_harms_nothing(
    is_folder: bool, spec: DatasetSpec, workspace: Workspace
) -> None:
    incoming = incoming_folder(NAME, workspace.settings)
    for name, batch in ((b"M\xe4rz", make_more(60, 1)), (b"b\xe4d", inverted(make_more(60, 2)))):
        path = incoming / os.fsdecode(name)
        save(batch, (path / "a.npz" if is_folder else path.with_suffix(".npz")))
    save(make_more(60, 3), incoming / "z.npz")

    march, bad, good = sorted(
        add_all_incoming(spec, workspace), key=lambda one: one.source.rpartition("/")[2]
    )

    assert [bad.status, march.status, good.status] == ["quarantined", "accepted", "accepted"]
    assert r"M\xe4rz" in march.describe()
    assert bad.page is not None
    assert r"b\xe4d" in bad.page.read_text(encoding="utf-8") + bad.describe()
    versions = DatasetVersions(NAME, workspace.settings)
    assert versions.current().number == 3
    assert not list(incoming.iterdir())
    assert describe_versions(NAME, workspace.settings)["version"] == 3
    with versions.changing() as changing:
        assert changing.remove(march.batch).version == 4
