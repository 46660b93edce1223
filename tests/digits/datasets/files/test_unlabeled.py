"""A competition's files without labels are named as what they are, with the file to name."""

import gzip
from pathlib import Path

import pytest

from digits.datasets.files.unlabeled import check_labeled
from digits.errors import DataError

PIXELS = ",".join(f"pixel{number}" for number in range(64))
ROW = ",".join(["0"] * 64)
LABELED = f"label,{PIXELS}\n3,{ROW}\n"


def write(folder: Path, **texts: str) -> dict[str, Path]:
    paths = {name: folder / f"{name}.csv" for name in texts}
    for name, path in paths.items():
        path.write_text(texts[name])
    return paths


def test_test_images_and_sample_submissions_are_named_with_the_way_on(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        test=f"{PIXELS}\n{ROW}\n",
        sample_submission="ImageId,Label\n1,0\n",
        train=LABELED,
    )

    with pytest.raises(DataError) as caught:
        check_labeled(list(files.values()))

    message = str(caught.value)
    assert f"{files['test']} has 64 columns of pixels and no label" in message
    assert f"{files['sample_submission']} has only the columns ImageId, Label, as a s" in message
    assert f"name {files['train']} alone" in message


def test_a_single_file_without_labels_is_named(tmp_path: Path) -> None:
    path = tmp_path / "test.csv.gz"
    path.write_bytes(gzip.compress(f"{PIXELS.replace(',', ';')}\n".encode()))

    with pytest.raises(DataError, match=r"64 columns of pixels and no label.* add a column"):
        check_labeled([path])


def test_a_list_of_pictures_is_named(tmp_path: Path) -> None:
    files = write(tmp_path, labels="file,label\na.png,3\n")

    with pytest.raises(DataError, match=r"only the columns file, label: if it lists pictures"):
        check_labeled(list(files.values()))


@pytest.mark.parametrize(
    "text",
    [
        LABELED,
        f"{PIXELS},what\n{ROW},3\n",
        f"3,{ROW}\n",
        f"{ROW[:-2]}\n",
        "",
        "\xff\xfe",
    ],
)
def test_other_tables_are_left_to_their_reader(text: str, tmp_path: Path) -> None:
    check_labeled(list(write(tmp_path, x=text).values()))
