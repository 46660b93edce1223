"""`digits predict` and `digits export`, as a user runs them."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digits.inference.loaded_versions import LoadedVersion, load_version
from digits.settings import ROOT, Settings
from digits.storage.workspace import Workspace
from flows.labels import label_all
from tests.support.champions import crown
from tests.support.handwriting import make_splits
from tests.support.small_dataset import NAME, write_small_dataset

IMAGES, LABELS = make_splits()["test"]


@pytest.fixture(scope="module")
def crowned(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("crowned")
    settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
    crown(settings)
    return settings


@pytest.fixture(scope="module")
def champion(crowned: Settings) -> LoadedVersion:
    return load_version(NAME, Workspace(crowned))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three of the dataset's images, and a text file with an image's name."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(IMAGES[number]).save(folder / f"{number}.png")
    (folder / "text.png").write_text("no picture")
    return folder


def digits(
    arguments: Sequence[object], settings: Settings, **options: object
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)],
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        **options,
    )


def environment(settings: Settings) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "DIGITS_DATA_DIR": str(settings.data_dir),
        "DIGITS_ARTIFACTS_DIR": str(settings.artifacts_dir),
    }


def errors(result: subprocess.CompletedProcess[bytes]) -> list[str]:
    return result.stderr.decode().splitlines()


def test_images_are_labeled_and_other_files_are_reported(
    crowned: Settings, folder: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "a" / "seen"
    stream = io.BytesIO()
    Image.fromarray(IMAGES[7]).save(stream, "PNG")
    options = ["--dataset", NAME, "--as-is", "--explain", seen]

    result = digits(["predict", folder, "-", *options], crowned, input=stream.getvalue())

    assert result.returncode == 1
    lines = result.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == [str(LABELS[n]) for n in (0, 1, 2, 7)]
    assert [line.split()[-1] for line in lines] == [*(f"{folder}/{n}.png" for n in range(3)), "-"]
    assert all(0 < float(line.split()[1].rstrip("%")) <= 100 for line in lines)
    assert errors(result) == [
        f"Error: {folder}/text.png is not a PNG, JPEG, WebP, BMP, TIFF or GIF image"
    ]
    assert len(list(seen.iterdir())) == 4
    assert {path.read_bytes()[:8] for path in seen.iterdir()} == {b"\x89PNG\r\n\x1a\n"}


def test_labeling_loads_neither_keras_nor_a_backend(crowned: Settings, folder: Path) -> None:
    program = (
        "import sys\nfrom flows.cli import main\nmain(standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)"
    )

    result = subprocess.run(
        [sys.executable, "-c", program, "predict", str(folder / "0.png"), "--dataset", NAME],
        cwd=ROOT,
        env=environment(crowned),
        capture_output=True,
    )

    loaded = set(result.stderr.decode().split())
    assert "onnxruntime" in loaded
    assert not loaded & {"keras", "tensorflow", "jax", "onnx", "pandas", "prefect"}


def test_a_card_is_printed_without_loading_a_backend(crowned: Settings) -> None:
    program = (
        "import sys\nfrom flows.cli import main\nmain(standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)"
    )

    result = subprocess.run(
        [sys.executable, "-c", program, "card", "1", "--dataset", NAME],
        cwd=ROOT,
        env=environment(crowned),
        capture_output=True,
    )

    assert result.stdout.decode().startswith("---\nlicense: ")
    assert not set(result.stderr.decode().split()) & {"keras", "tensorflow", "jax", "prefect"}


def test_without_a_champion_nothing_is_loaded_and_the_error_says_what_to_do(
    settings: Settings,
) -> None:
    write_small_dataset(settings)

    result = digits(["predict", "a.png", "--dataset", NAME], settings)

    assert result.returncode == 2
    assert errors(result) == [
        f"Error: {NAME} has no champion yet; `digits run --dataset {NAME}` makes one"
    ]


def test_a_call_without_a_file_is_refused(settings: Settings) -> None:
    result = digits(["predict"], settings)

    assert result.returncode == 2
    assert b"Missing argument" in result.stderr


def test_json_is_one_object_per_line(
    champion: LoadedVersion, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    is_all_labeled = label_all([str(folder)], champion, form="json", as_is=True, folder=None)

    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert not is_all_labeled
    assert [answer["file"] for answer in answers] == [
        str(folder / name) for name in ("0.png", "1.png", "2.png", "text.png")
    ]
    assert [answer.get("label") for answer in answers] == [*LABELS[:3].tolist(), None]
    assert answers[3]["error"] == "is not a PNG, JPEG, WebP, BMP, TIFF or GIF image"
    assert all(set(a) == {"file", "label", "name", "probability", "note"} for a in answers[:3])


def test_csv_has_a_row_per_image_and_supports_any_file_name(
    champion: LoadedVersion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(b'a,"b"\n\xff.png')
    Image.fromarray(IMAGES[0]).save(tmp_path / odd)

    files = [str(tmp_path / odd), "nothing.png"]
    is_all_labeled = label_all(files, champion, form="csv", as_is=True, folder=None)

    out = capsys.readouterr().out
    rows = list(csv.reader(io.StringIO(out)))
    assert not is_all_labeled
    assert rows[0] == ["file", "label", "name", "probability", "error", "note", "part"]
    assert rows[1][0] == str(tmp_path / 'a,"b"\\n\\udcff.png')
    assert rows[1][1:3] == [str(LABELS[0])] * 2
    assert rows[2] == ["nothing.png", "", "", "", "does not exist", "", ""]
    assert len(out.splitlines()) == 3


def test_it_succeeds_if_every_image_is_labeled(champion: LoadedVersion, folder: Path) -> None:
    assert label_all([str(folder / "1.png")], champion, form="text", as_is=True, folder=None)


def test_each_digit_of_a_picture_is_labeled_in_one_line(
    champion: LoadedVersion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = np.full((60, 120), 255, np.uint8)
    page[10:50, 20:26] = page[10:50, 60:66] = page[10:50, 95:101] = 0
    Image.fromarray(page).save(tmp_path / "three.png")
    call = {"as_is": False, "folder": None, "each": True}

    for form in ("text", "json", "csv"):
        assert label_all([str(tmp_path / "three.png")], champion, form=form, **call)

    text, *objects, header, first, second, third = capsys.readouterr().out.splitlines()
    answers = [json.loads(line) for line in objects]
    assert [answer["part"] for answer in answers] == [1, 2, 3]
    assert text.split()[0] == "".join(answer["name"] for answer in answers)
    assert header.endswith(",note,part")
    assert [row.split(",")[-1] for row in (first, second, third)] == ["1", "2", "3"]


def test_several_digits_taken_for_one_are_noted(
    champion: LoadedVersion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = np.full((60, 120), 255, np.uint8)
    page[10:50, 30:36] = page[10:50, 70:76] = 0
    Image.fromarray(page).save(tmp_path / "two.png")

    for form in ("text", "json", "csv"):
        label_all([str(tmp_path / "two.png")], champion, form=form, as_is=False, folder=None)

    note = "2 parts side by side"
    text, answer, _, row = capsys.readouterr().out.splitlines()
    assert text.endswith(f"({note})")
    assert json.loads(answer)["note"] == note
    assert row.split(",")[-2:] == [note, ""]


def test_what_a_folder_has_besides_images_is_counted(
    champion: LoadedVersion, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "text.png").unlink()
    (folder / "notes.txt").touch()

    is_all_labeled = label_all([str(folder)], champion, form="json", as_is=True, folder=None)

    assert is_all_labeled
    assert "not labeled: 1 .txt" in capsys.readouterr().err


def test_a_folder_without_images_is_a_failure(
    champion: LoadedVersion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not label_all([str(tmp_path)], champion, form="text", as_is=True, folder=None)
    assert capsys.readouterr().err == f"{tmp_path}: contains no images\n"


@pytest.mark.slow
def test_it_ends_quietly_when_its_reader_stops(crowned: Settings, tmp_path: Path) -> None:
    for number in range(3000):
        Image.fromarray(np.roll(IMAGES[number % 200], number // 200)).save(
            tmp_path / f"{number}.png"
        )
    command = (
        f'"{sys.executable}" -c "from flows.cli import main; main()" predict "{tmp_path}" '
        f"--as-is --dataset {NAME} | head -n 1"
    )

    result = subprocess.run(
        command, shell=True, cwd=ROOT, env=environment(crowned), capture_output=True
    )

    assert len(result.stdout.splitlines()) == 1
    assert errors(result) == []


@pytest.mark.slow
def test_the_champion_is_exported_and_the_check_is_reported(
    crowned: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    call = ["export", folder, "--format", "keras,savedmodel", "--dataset", NAME]

    result = digits(call, crowned)

    assert result.returncode == 0, result.stderr
    assert result.stdout.decode().splitlines() == [
        f"keras      {folder}/{NAME}-v1.keras",
        f"savedmodel {folder}/{NAME}-v1-savedmodel",
        f"each gives the same label as {NAME} version 1 on all 200 test images",
    ]
    card = digits(["card", "--dataset", NAME], crowned)
    assert (folder / "README.md").read_bytes() == card.stdout
    again = digits(call, crowned)
    assert again.returncode == 2
    assert errors(again) == [
        f"Error: {folder} already exists; choose a new folder, or delete it first"
    ]
