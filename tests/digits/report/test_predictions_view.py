import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from digits.errors import DamagedError
from digits.report.predictions_view import Answers
from digits.training.predictions import write_predictions

NAMES = ("zero", "one", "two")
TRUE = np.array([0, 1, 2, 0, 1, 2], np.int32)
PREDICTED = np.array([0, 2, 2, 1, 0, 2], np.int32)
SURE = np.array([0.9, 0.7, 0.5, 0.8, 0.7, 0.6])
IMAGES = np.random.default_rng(3).integers(0, 256, (6, 8, 10)).astype(np.uint8)

Damage = Callable[[Path], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    probabilities = np.repeat((1 - SURE[:, np.newaxis]) / 2, 3, axis=1)
    probabilities[np.arange(6), PREDICTED] = SURE
    write_predictions(tmp_path / "predictions.parquet", TRUE, PREDICTED, probabilities)
    return tmp_path / "predictions.parquet"


def answers(path: Path, images: npt.NDArray[np.generic] = IMAGES) -> Answers:
    return Answers(path, images, TRUE, NAMES)


def decoded(uri: str) -> npt.NDArray[np.uint8]:
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)).convert("L"))


def test_an_answer_belongs_to_its_image(path: Path) -> None:
    [first, second] = answers(path).first(2)

    assert (first.true, first.predicted, first.is_right) == ("zero", "zero", True)
    assert (second.true, second.predicted, second.is_right) == ("one", "two", False)
    assert [first.probability, second.probability] == pytest.approx([0.9, 0.7])
    assert [first.index, second.index] == [0, 1]
    assert (decoded(second.image) == IMAGES[1]).all()


def test_images_in_the_models_input_format_look_the_same(path: Path) -> None:
    scaled = (IMAGES.astype(np.float32) / np.float32(255))[..., np.newaxis]

    assert answers(path, scaled).first(6) == answers(path).first(6)


def test_there_are_no_more_answers_than_images(path: Path) -> None:
    assert len(answers(path).first(100)) == 6


def test_worst_mistakes_are_the_most_confident_ones(path: Path) -> None:
    assert [answer.index for answer in answers(path).worst(10)] == [3, 1, 4]
    assert [answer.index for answer in answers(path).worst(2)] == [3, 1]
    assert not any(answer.is_right for answer in answers(path).worst(10))


def test_equally_confident_mistakes_are_in_image_order(tmp_path: Path) -> None:
    true, images = np.zeros(100, np.int32), np.zeros((100, 8, 8), np.uint8)
    sure = np.resize([0.6, 0.7, 0.8], 100)
    probabilities = np.stack([1 - sure, sure, 0 * sure], axis=1)
    write_predictions(tmp_path / "p", true, true + 1, probabilities)

    worst = Answers(tmp_path / "p", images, true, NAMES).worst(50)

    assert [answer.index for answer in worst] == [*range(2, 100, 3), *range(1, 54, 3)][:50]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[12] ^= 1
    path.write_bytes(content)


def lose_a_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["probability"]), path)


def relabel(path: Path) -> None:
    replace_column(path, "label", pa.array(np.roll(TRUE, 1)))


def lose_a_row(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(1), path)


def predict_an_unknown_class(path: Path) -> None:
    replace_column(path, "predicted", pa.array([0, 2, 3, 1, 0, 2], pa.int32()))


def predict_a_negative_class(path: Path) -> None:
    replace_column(path, "predicted", pa.array([0, 2, -1, 1, 0, 2], pa.int32()))


def predict_nothing(path: Path) -> None:
    replace_column(path, "predicted", pa.array([0, 2, None, 1, 0, 2], pa.int32()))


def replace_column(path: Path, name: str, values: pa.Array) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(name), name, values), path)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (Path.unlink, "cannot be read as predictions"),
        (truncate, "cannot be read as predictions"),
        (flip_a_bit, "cannot be read as predictions"),
        (lose_a_column, "cannot be read as predictions"),
        (relabel, "labels do not match the 6 test images"),
        (lose_a_row, "labels do not match the 6 test images"),
        (predict_an_unknown_class, r"row 2: unknown predicted class 3 \(expected 0 to 2\)"),
        (predict_a_negative_class, r"row 2: unknown predicted class -1 \(expected 0 to 2\)"),
        (predict_nothing, r"row 2: unknown predicted class nan \(expected 0 to 2\)"),
    ],
)
def test_corrupted_predictions_are_reported_with_their_place(
    path: Path, damage: Damage, found: str
) -> None:
    damage(path)

    with pytest.raises(DamagedError, match=found) as raised:
        answers(path)

    assert str(raised.value).startswith(str(path))
