"""The behavior of the champion from `make run` on the real test images."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import ndimage

from digits.registry.ledger import Ledger, ModelVersion
from digits.settings import Settings
from digits.spec import load_spec
from digits.storage.references import ArraysRef, EvaluationRef
from digits.storage.workspace import Workspace
from digits.training.evaluation import load_model, shifted
from tests.model.changes import Images, faded, noisy
from tests.model.conftest import Examinee

pytestmark = pytest.mark.mnist

# A change that does not turn a digit into another one may flip no more answers than the dataset's
# accuracy floor allows mistakes.
FLOOR = 0.97


@pytest.fixture(scope="module")
def workspace() -> Workspace:
    """The checkout's workspace, or the one in its settings."""
    return Workspace(Settings())


@pytest.fixture(scope="module")
def version(workspace: Workspace) -> ModelVersion:
    champion = Ledger("mnist", workspace.settings).champion()
    if champion is None:
        pytest.skip("no champion yet; run `make run`")
    return champion


@pytest.fixture(scope="module")
def champion(workspace: Workspace, version: ModelVersion) -> Examinee:
    arrays = next(
        record.reference
        for record in workspace.records.of_step("normalize")
        if isinstance(record.reference, ArraysRef)
        and record.reference.test_digest == version.evaluation.test_digest
    )
    workspace.store.verify(arrays)
    workspace.store.verify(version.model)
    x_test, y_test = (np.load(workspace.store.folder(arrays) / f"{name}_test.npy") for name in "xy")
    model = load_model(workspace.store.folder(version.model) / "model.keras")
    return Examinee(model, x_test, y_test)


def test_the_floor_matches_the_dataset_spec(workspace: Workspace) -> None:
    assert load_spec("mnist", workspace.settings).floor == FLOOR


def test_the_champion_scores_what_the_ledger_says(
    champion: Examinee, version: ModelVersion
) -> None:
    # On another processor, an image on the border between two classes can get the other label.
    accuracy = champion.accuracy(champion.images)

    assert accuracy == pytest.approx(version.evaluation.accuracy, abs=0.0005)


def test_every_class_has_a_high_recall(champion: Examinee) -> None:
    answers = champion.answers(champion.images)

    recalls = [(answers[champion.labels == label] == label).mean() for label in range(10)]
    assert min(recalls) > 0.9


def drawn() -> Iterator[Images]:
    """Draw a zero, a one, a seven and an eight with strokes two pixels wide."""
    rows, columns = np.mgrid[:28, :28]
    ring = np.hypot((rows - 13.5) / 1.3, columns - 13.5)
    yield (ring > 5.5) & (ring < 7.5)
    yield (rows >= 5) & (rows < 23) & (columns >= 13) & (columns < 15)
    bar = (rows >= 6) & (rows < 8) & (columns >= 8) & (columns < 20)
    slope = columns - (18 - (rows - 8) // 2)
    yield bar | ((rows >= 8) & (rows < 23) & (slope >= -1) & (slope < 1))
    above, below = (np.hypot(rows - row, columns - 13.5) for row in (9, 18))
    yield ((above > 3) & (above < 5)) | ((below > 3.5) & (below < 5.5))


def test_drawn_digits_are_recognized(champion: Examinee) -> None:
    strokes = np.stack(
        [ndimage.gaussian_filter(shape.astype(np.float32), 0.5) for shape in drawn()]
    )

    assert champion.answers(strokes[..., None]).tolist() == [0, 1, 7, 8]


def test_a_blank_image_gets_no_confident_answer(champion: Examinee) -> None:
    assert champion.probabilities(np.zeros((1, 28, 28, 1), np.float32)).max() < 0.5


def test_slight_noise_fading_or_tilt_changes_few_answers(champion: Examinee) -> None:
    tilted = np.clip(ndimage.rotate(champion.images, 5, (1, 2), reshape=False, order=1), 0, 1)

    assert champion.agreement(noisy(champion.images, 0.1)) >= FLOOR
    assert champion.agreement(faded(champion.images, 0.7)) >= FLOOR
    assert champion.agreement(tilted) >= FLOOR


def test_accuracy_falls_as_the_shift_grows(champion: Examinee) -> None:
    accuracies = [champion.accuracy(shifted(champion.images, pixels)) for pixels in range(5)]

    assert accuracies == sorted(accuracies, reverse=True)


def test_the_champion_is_more_confident_when_it_is_right(champion: Examinee) -> None:
    probabilities = champion.probabilities(champion.images)
    is_right = probabilities.argmax(axis=1) == champion.labels

    confidence = probabilities.max(axis=1)
    assert confidence[~is_right].mean() < 0.9 < confidence[is_right].mean()


def test_the_cnn_tolerates_shifts_better_than_the_mlp(
    workspace: Workspace, version: ModelVersion
) -> None:
    best: dict[str, EvaluationRef] = {}
    for record in workspace.records.of_step("evaluate"):
        score = record.reference
        if (
            isinstance(score, EvaluationRef)
            and score.test_digest == version.evaluation.test_digest
            and workspace.store.is_whole(score)
        ):
            best[score.model] = max(best.get(score.model, score), score, key=lambda e: e.accuracy)
    if best.keys() < {"mlp", "cnn"}:
        pytest.skip("one of the models was not evaluated; run `make run`")

    mlp, cnn = (shift_curve(workspace, best[model]) for model in ("mlp", "cnn"))

    # Beyond four pixels, digits leave the image and neither model recognizes them.
    assert all(better > worse for better, worse in zip(cnn[1:5], mlp[1:5], strict=True))


def shift_curve(workspace: Workspace, score: EvaluationRef) -> list[float]:
    metrics = json.loads((workspace.store.folder(score) / "metrics.json").read_bytes())
    return [point["accuracy"] for point in metrics["shift"]]
