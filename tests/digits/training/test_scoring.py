from collections.abc import Iterator

import numpy as np
import pytest

from digits.models import MODELS
from digits.training.devices import configure_backend
from digits.training.scoring import Scorer

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (700, 28, 28), np.uint8)
DROPOUT = {"mlp": (0.2, 0.2), "cnn": (0.25, 0.25, 0.5)}


@pytest.fixture(scope="module", autouse=True)
def backend() -> None:
    configure_backend("cpu")


@pytest.mark.parametrize("name", MODELS)
def test_scores_match_predict_with_its_defaults(name: str) -> None:
    model = MODELS[name].build((28, 28, 1), 10, DROPOUT[name], 0)
    expected = model.predict(IMAGES[..., None].astype(np.float32) / np.float32(255), verbose=0)

    found = Scorer(model).score(IMAGES)

    assert found.dtype == np.float32
    # float32 sums of 2,304 terms in a different order.
    assert np.abs(found - expected).max() < 1e-5
    assert (found.argmax(1) == expected.argmax(1)).all()


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(MODELS["mlp"].build((28, 28, 1), 10, DROPOUT["mlp"], 0))


def test_no_images_give_no_scores(scorer: Scorer) -> None:
    assert scorer.score(IMAGES[:0]).shape == (0, 10)


def test_the_minibatch_size_makes_no_difference(scorer: Scorer) -> None:
    one_by_one = np.concatenate([scorer.score(IMAGES[n : n + 1]) for n in range(20)])

    assert np.abs(one_by_one - scorer.score(IMAGES[:20])).max() < 1e-5


def test_scores_come_in_the_order_of_the_items(scorer: Scorer) -> None:
    starts = [0, 500, 3, 40, 41, 41, 42, 680]
    # The first items are the largest, so that later ones finish first.
    batches = {n: IMAGES[start : start + 200 // (n + 1)] for n, start in enumerate(starts)}

    answers = list(scorer.score_each(batches, batches.__getitem__))

    assert [item for item, _ in answers] == list(batches)
    for item, probabilities in answers:
        assert np.abs(probabilities - scorer.score(batches[item])).max() < 1e-5


def test_items_are_consumed_lazily(scorer: Scorer, monkeypatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    taken = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    answers = scorer.score_each(endless(), lambda _: IMAGES[:1])
    for _ in range(5):
        next(answers)

    assert len(taken) <= 5 + 2


def test_an_error_while_reading_is_raised(scorer: Scorer) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        list(scorer.score_each(broken(), lambda _: IMAGES[:1]))
