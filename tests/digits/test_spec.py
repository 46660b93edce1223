from pathlib import Path

import pytest

from digits.errors import UsageError
from digits.settings import ROOT, Settings
from digits.spec import (
    ROLES,
    DatasetSpec,
    FolderSource,
    ReadOptions,
    available_datasets,
    load_spec,
)
from tests.support.small_dataset import NAME, SPEC, write_spec

DIGEST = "0" * 64
CONTENT = "[content]\n" + "".join(f'{role} = "{DIGEST}"\n' for role in ROLES)
NPM = '[[sources]]\nkind = "npm"\npackage = "p"\nversion = "1.0.0"\nfolder = "data"\n'
FOLDER = '[[sources]]\nkind = "folder"\npath = "{}"\n'


def test_mnist_is_pinned_by_its_content() -> None:
    spec = load_spec("mnist", Settings(data_dir=Path("/nowhere")))

    assert spec.content is not None
    assert spec.content["test-labels"].startswith("ff7bcfd4")
    assert [source.kind for source in spec.sources] == ["npz", "idx", "npm"]
    assert spec.floor == 0.97
    assert spec.layout.image_shape == (28, 28)
    assert spec.layout.class_names == tuple("0123456789")


def test_mnist_has_bounds_and_centroids() -> None:
    spec = load_spec("mnist", Settings(data_dir=Path("/nowhere")))

    assert (spec.thresholds.train.num_images, spec.thresholds.test.num_images) == (60_000, 10_000)
    assert spec.thresholds.centroids is not None
    assert (ROOT / "data" / "datasets" / spec.thresholds.centroids.name).is_file()


def test_a_spec_is_found_by_the_name_of_its_file(settings: Settings) -> None:
    write_spec(settings, SPEC)

    spec = load_spec(NAME, settings)

    assert spec.name == NAME
    assert spec.layout.name == NAME
    assert spec.content is None


def test_a_spec_in_the_data_folder_takes_precedence_over_the_projects(settings: Settings) -> None:
    write_spec(settings, SPEC, name="mnist")

    assert load_spec("mnist", settings).title == "Made-up handwriting"


def test_all_loadable_specs_are_available(settings: Settings) -> None:
    write_spec(settings, SPEC)
    write_spec(settings, SPEC, name="Not A Name")

    assert available_datasets(settings) == (NAME, "mnist")


@pytest.mark.parametrize(
    "name", ["fashion", "", ".", "..", "../mnist", "a/b", "/etc/passwd", "MNIST", "a\n", "x" * 300]
)
def test_an_unknown_name_is_rejected_with_the_known_ones(name: str, settings: Settings) -> None:
    write_spec(settings, SPEC)

    with pytest.raises(UsageError, match=r"\(datasets: handwriting, mnist\); to add one, run"):
        load_spec(name, settings)


def test_a_relative_folder_starts_at_the_specs_folder(settings: Settings) -> None:
    text = SPEC.replace(
        "[thresholds]", '[[sources]]\nkind = "folder"\npath = "../mine"\n[thresholds]'
    )
    path = write_spec(settings, text)

    (source,) = load_spec(NAME, settings).sources

    assert isinstance(source, FolderSource)
    assert source.path.resolve() == path.parents[1] / "mine"


def test_a_spec_survives_json(settings: Settings) -> None:
    write_spec(settings, SPEC + CONTENT + NPM)

    spec = load_spec(NAME, settings)

    assert DatasetSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SPEC.replace("floor = 0.2", "floor = 1.2"),
            "floor: must be less than or",
        ),
        (SPEC.replace("floor = 0.2", ""), "floor: missing"),
        (SPEC.replace("floor", "flor"), "flor: unknown key"),
        (SPEC.replace("max_dup", "max_dub"), "thresholds.train: unknown key 'max_dublicates'"),
        (SPEC.replace("[12, 12]", "[12, 100]"), "image_shape[1]: must be less than or equal to 64"),
        (SPEC.replace("[12, 12]", "[12]"), "image_shape[1]: missing"),
        (SPEC.replace("_classes = 10", '_classes = "x"'), "num_classes: must be a valid integer"),
        (
            SPEC.replace("_classes = 10", "_classes = 1001"),
            "num_classes: must be less",
        ),
        ('class_names = ["a"]\n' + SPEC, "class_names has 1 names (expected 10,"),
        ('name = "../../x"\n' + SPEC, "name: unknown key (the file's name, "),
        (SPEC + NPM, "a source to download from needs the files' digests in"),
        (
            SPEC + CONTENT + NPM.replace('"npm"', '"ftp"'),
            "sources[0]: unknown kind in {'kind': ",
        ),
        (SPEC + CONTENT + NPM.replace('"p"', '"-p"'), "sources[0].package: must match pattern"),
        (SPEC + CONTENT.replace("0" * 64, "abc", 1), "content.train-images: must match pattern"),
        (SPEC + CONTENT.replace("test-labels", "labels"), "content.labels"),
        (SPEC + CONTENT.replace(f'test-labels = "{DIGEST}"', ""), "[content] lacks test-labels"),
        (
            SPEC + CONTENT + '[[sources]]\nkind = "idx"\nurl = "ftp://x"',
            "sources[0].url: must",
        ),
        (SPEC + FOLDER.format(r"\u0000"), "sources[0].path: a path cannot contain"),
        (SPEC + FOLDER.format("~nobody-here/x"), "sources[0].path: ~nobody-here/x: unknown user"),
        (SPEC.replace("0.1", "inf"), "max_label_divergence: must be a finite number"),
        (
            'layout = "tar"\n' + SPEC,
            "layout: unknown layout 'tar' (expected one of idx, ",
        ),
        ('file_layout = "npz"\n' + SPEC, "file_layout: unknown key"),
        ("pixel_range = [16, 0]\n" + SPEC, "pixel_range: 16 must be less than 0"),
        ("pixel_range = [0, nan]\n" + SPEC, "pixel_range[1]: must be a finite number"),
        ("test_share = 1\n" + SPEC, "test_share: must be less than 1 (found 1)"),
        ("label_column = []\n" + SPEC, "label_column"),
        (
            SPEC.replace("= 10", "= 2").replace("title", 'class_names = ["a", "a"]\ntitle'),
            "class_names has a duplicate",
        ),
        ('layout = "npz"\n' + SPEC + CONTENT, "[content] is for the four IDX files"),
        ("title = ", "invalid TOML"),
        (SPEC + "x = " + "[" * 5000, "invalid TOML"),
        ("x = " + "1" * 5000, "invalid TOML"),
    ],
)
def test_an_invalid_spec_is_rejected_in_one_line(
    text: str, message: str, settings: Settings
) -> None:
    path = write_spec(settings, text)

    with pytest.raises(UsageError) as caught:
        load_spec(NAME, settings)

    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_spec_sets_the_read_options(settings: Settings) -> None:
    keys = {
        "layout": '"csv"',
        "pixel_range": "[0, 16]",
        "test_share": "0.25",
        "label_column": "-1",
        "image_column": '"img"',
    }
    text = "".join(f"{key} = {value}\n" for key, value in keys.items())
    write_spec(settings, text + SPEC.replace("= 10", "= 1000"))

    spec = load_spec(NAME, settings)

    assert spec.read_options == ReadOptions(
        file_layout="csv",
        pixel_range=(0, 16),
        test_share=0.25,
        label_column=-1,
        image_column="img",
    )
    assert spec.layout.num_classes == 1000
    assert DatasetSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_spec_without_a_layout_means_four_idx_files(settings: Settings) -> None:
    write_spec(settings, SPEC)

    assert load_spec(NAME, settings).read_options == ReadOptions()
    assert ReadOptions().file_layout == "idx"


def test_a_spec_that_is_not_text_is_rejected(settings: Settings) -> None:
    write_spec(settings, "").write_bytes(b"title = '\xff'")

    with pytest.raises(UsageError, match="invalid TOML"):
        load_spec(NAME, settings)
