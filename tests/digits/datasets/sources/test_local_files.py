"""Files of any layout are identified by content: wherever they are, and if they change."""

import os
import shutil
from pathlib import Path

import pytest

from digits.datasets.ingestion import ingest_dataset
from digits.datasets.sources.content import content_of, opened
from digits.errors import DataError
from digits.layouts import LAYOUTS
from digits.settings import Settings
from digits.spec import DatasetSpec, load_spec
from digits.storage.references import DatasetRef
from digits.storage.workspace import Workspace
from tests.support.handwriting import Splits, make_splits
from tests.support.layouts import WRITERS, png
from tests.support.permissions import mode
from tests.support.small_dataset import NAME, SPEC, write_spec

SPLITS: Splits = {
    split: (images[:90], labels[:90]) for split, (images, labels) in make_splits().items()
}
NEW_LAYOUTS = [layout for layout in LAYOUTS if layout != "idx"]


def prepare(layout: str, settings: Settings) -> tuple[DatasetSpec, Path]:
    folder = settings.raw_dir / NAME
    folder.mkdir(parents=True)
    WRITERS[layout](folder, SPLITS)
    write_spec(settings, f'layout = "{layout}"\n{SPEC}')
    return load_spec(NAME, settings), folder


def ingest(spec: DatasetSpec, workspace: Workspace) -> DatasetRef:
    content = content_of(spec, workspace.settings)
    return ingest_dataset(spec.layout, content, spec.read_options, spec, workspace)


def some_file(folder: Path) -> Path:
    """A file of training images."""
    return next(path for path in sorted(folder.rglob("*"), reverse=True) if path.is_file())


def test_the_same_images_in_any_layout_are_one_dataset(tmp_path: Path) -> None:
    found = []
    for layout in LAYOUTS:
        settings = Settings(data_dir=tmp_path / layout, artifacts_dir=tmp_path / "artifacts")
        spec, _ = prepare(layout, settings)
        found.append(ingest(spec, Workspace(settings)))

    assert found == [found[0]] * 5


@pytest.mark.parametrize("layout", NEW_LAYOUTS)
def test_the_content_does_not_depend_on_where_the_files_are(
    layout: str, settings: Settings
) -> None:
    spec, folder = prepare(layout, settings)
    before = content_of(spec, settings)
    elsewhere = settings.data_dir / "elsewhere"
    shutil.move(folder, elsewhere)
    write_spec(
        settings,
        f'layout = "{layout}"\n{SPEC}\n[[sources]]\nkind = "folder"\npath = "{elsewhere}"\n',
    )

    assert content_of(load_spec(NAME, settings), settings) == before
    for path in elsewhere.rglob("*"):
        os.utime(path, (1, 1))
    assert content_of(load_spec(NAME, settings), settings) == before


@pytest.mark.parametrize("layout", NEW_LAYOUTS)
def test_changed_content_at_the_same_path_is_noticed(layout: str, settings: Settings) -> None:
    spec, folder = prepare(layout, settings)
    before = content_of(spec, settings)
    path = some_file(folder)
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    after = content_of(spec, settings)

    assert after.keys() == before.keys()
    assert sum(after[name] != before[name] for name in before) == 1


def test_an_added_or_renamed_image_is_noticed(settings: Settings) -> None:
    spec, folder = prepare("folder", settings)
    before = content_of(spec, settings)
    picture = folder / "train" / "3" / "new.png"
    picture.write_bytes(png(SPLITS["train"][0][0]))
    more = content_of(spec, settings)
    picture.rename(picture.with_name("newer.png"))
    renamed = content_of(spec, settings)

    assert before["train/3"] != more["train/3"] != renamed["train/3"]
    assert {name: more[name] for name in more if name != "train/3"} == {
        name: before[name] for name in before if name != "train/3"
    }


@pytest.mark.parametrize("layout", NEW_LAYOUTS)
def test_files_that_changed_since_they_were_hashed_are_refused(
    layout: str, settings: Settings
) -> None:
    spec, folder = prepare(layout, settings)
    workspace = Workspace(settings)
    content = content_of(spec, settings)
    some_file(folder).write_bytes(b"other")

    with pytest.raises(
        DataError, match=r"of handwriting changed since the run started .*run again"
    ):
        ingest_dataset(spec.layout, content, spec.read_options, spec, workspace)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_that_change_while_they_are_read_are_refused(layout: str, settings: Settings) -> None:
    spec, folder = prepare(layout, settings)
    content = content_of(spec, settings)
    path = some_file(folder)

    with (
        pytest.raises(DataError, match="of handwriting changed while being read; run again"),
        opened(spec, content, settings),
    ):
        path.write_bytes(path.read_bytes())

    with (
        pytest.raises(DataError, match="changed while being read"),
        opened(spec, content, settings),
    ):
        path.unlink()


@pytest.mark.parametrize("layout", NEW_LAYOUTS)
def test_the_error_about_missing_files_says_where_to_put_them(
    layout: str, settings: Settings
) -> None:
    spec, folder = prepare(layout, settings)
    shutil.rmtree(folder)

    with pytest.raises(DataError) as caught:
        content_of(spec, settings)

    assert str(caught.value).startswith(
        "cannot get the files of handwriting: no files found, expected a"
    )
    assert str(caught.value).endswith(f". Put it into {folder}, then run again")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_different_files_at_two_places_are_refused_naming_both(
    layout: str, settings: Settings
) -> None:
    spec, folder = prepare(layout, settings)
    before = content_of(spec, settings)
    elsewhere = settings.data_dir / "elsewhere"
    shutil.copytree(folder, elsewhere)
    source = f'\n[[sources]]\nkind = "folder"\npath = "{elsewhere}"\n'
    write_spec(settings, f'layout = "{layout}"\n{SPEC}{source}')

    assert content_of(load_spec(NAME, settings), settings) == before

    path = some_file(elsewhere)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match=f"has different files in {folder} and {elsewhere}"):
        content_of(load_spec(NAME, settings), settings)


def test_files_of_one_name_in_several_folders_are_all_watched(settings: Settings) -> None:
    spec, folder = prepare("parquet", settings)
    for split in ("train", "test"):
        (folder / f"{split}.parquet").mkdir()
        (folder / f"{split}-00000-of-00001.parquet").rename(folder / f"{split}.parquet/p0.parquet")
    content = content_of(spec, settings)
    dataset = ingest(spec, Workspace(settings))

    assert set(content) == {"train.parquet/p0.parquet", "test.parquet/p0.parquet"}
    assert (dataset.num_train, dataset.num_test) == (90, 90)
    with (
        pytest.raises(DataError, match=r"test.parquet/p0.parquet of handwriting changed"),
        opened(spec, content, settings),
    ):
        (folder / "test.parquet/p0.parquet").write_bytes(b"other")


def test_a_file_without_permission_is_named(settings: Settings) -> None:
    spec, folder = prepare("npz", settings)

    with mode(folder / "digits.npz", 0o000), pytest.raises(DataError, match=r"digits.npz cannot"):
        content_of(spec, settings)


def test_anything_but_a_regular_file_is_not_read(settings: Settings) -> None:
    spec, folder = prepare("csv", settings)
    (folder / "train.csv").unlink()
    os.mkfifo(folder / "train.csv")

    with pytest.raises(DataError, match=r"train.csv is not a regular file"):
        content_of(spec, settings)


def test_invalid_rows_stop_ingestion_or_are_skipped_as_the_spec_says(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    spec, folder = prepare("csv", settings)
    path = folder / "train.csv"
    head, first, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, f"ten{first[1:]}", *rows]))
    workspace, content = Workspace(settings), content_of(spec, settings)

    with pytest.raises(DataError, match=r"train.csv, line 2 has the label 'ten', expected one of"):
        ingest(spec, workspace)
    assert not list(workspace.store.root("datasets").glob("[!.]*"))

    read_options = spec.read_options.model_copy(update={"severity": {"label_unknown": "warning"}})
    dataset = ingest_dataset(spec.layout, content, read_options, spec, workspace)

    assert (dataset.num_train, dataset.num_test) == (89, 90)
    assert "skipped: " in caplog.text


def test_classes_whose_names_are_not_utf_8_are_a_dataset(settings: Settings) -> None:
    spec, folder = prepare("folder", settings)
    named = spec.model_copy(update={"class_names": (*"012345678", "\\xd6neun")})
    for split in SPLITS:
        (folder / split / "9").rename(os.fsdecode(os.fsencode(folder / split) + b"/\xd6neun"))

    reference = ingest(named, Workspace(settings))

    assert (reference.num_train, reference.num_test) == (90, 90)
    assert "test/\\xd6neun" in content_of(named, settings)
