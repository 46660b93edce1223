"""Words in names count as a whole, in any of the usual spellings."""

from pathlib import PurePath

import pytest

from digits.datasets.files.file_names import (
    SaidSplit,
    in_effect,
    parse_name,
    partition_value,
    said_split,
)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("digitsTrain.csv", "train"),
        ("train2.csv", "train"),
        ("trainset.csv", "train"),
        ("trainingSet", "train"),
        ("TRAINING", "train"),
        ("USPStrain.csv", "train"),
        ("X_train", "train"),
        ("ytrain", "train"),
        ("testSample", "test"),
        ("t10k-images.idx3-ubyte", "test"),
        ("test-00000-of-00002-9f1c.parquet", "test"),
        ("my_val.parquet", "validation"),
        ("Valid", "validation"),
        ("dev", "validation"),
        ("train-val.csv", "train"),
        ("trainval.csv", "train"),
        ("latest.csv", None),
        ("protest-images.idx", None),
        ("pretrained.npz", None),
        ("devices.csv", None),
        ("values.csv", None),
        ("train-and-test.csv", None),
    ],
)
def test_split_words_count_only_as_a_whole(name: str, split: SaidSplit | None) -> None:
    assert parse_name(name).split == split


@pytest.mark.parametrize(
    ("name", "kind", "stem"),
    [
        ("usps-train-images-idx3-ubyte.gz", "images", "usps"),
        ("usps-t10k-labels-idx1-ubyte", "labels", "usps"),
        ("qmnist-test-labels-idx2-int.gz", "labels", "qmnist"),
        ("train-image-labels.idx", "labels", ""),
        ("k49-val-imgs.npz", "images", "k49"),
        ("X_train.npy", "images", ""),
        ("ytest.npy", "labels", ""),
        ("march1-images.idx", "images", "march1"),
        ("digits.npz", None, "digits"),
    ],
)
def test_a_name_says_images_or_labels_and_the_set(name: str, kind: str | None, stem: str) -> None:
    named = parse_name(name)

    assert (named.kind, named.stem) == (kind, stem)


def test_the_numbers_of_parts_do_not_make_another_series() -> None:
    names = ("train-00000-of-00002.parquet", "test-00001-of-00002-a1b2.parquet", "trainab.csv")

    assert {parse_name(name).series for name in names[:2]} == {""}
    assert parse_name("usps-train.csv").series == "usps"


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("split=validation/part-0.parquet", "validation"),
        ("test.parquet/part-00000-1c2d-c000.snappy.parquet", "test"),
        ("training/a.csv", "train"),
        ("label=test/part-0.parquet", None),
        ("test/train.csv", "train"),
    ],
)
def test_folders_state_a_split_too_and_the_last_word_counts(
    path: str, split: SaidSplit | None
) -> None:
    assert said_split(PurePath(path)) == split


def test_validation_data_is_never_test_data() -> None:
    said: dict[str, SaidSplit | None] = {"a": "train", "b": "validation"}

    assert in_effect(said) == {"a": None, "b": "train"}
    assert in_effect({**said, "c": "test"}) == {"a": "train", "b": "train", "c": "test"}
    assert in_effect({"b": "validation"}) == {"b": None}
    assert in_effect({"a": "test", "b": "test"}) == {"a": None, "b": None}


def test_a_folder_may_state_a_value() -> None:
    path = PurePath("year=2024/label=a%2Fb/part-0.parquet")

    assert partition_value(path, ("label", "class")) == "a/b"
    assert partition_value(path, ("class",)) is None
    assert partition_value(PurePath("label=3"), ("label",)) is None
