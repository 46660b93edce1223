import ast
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest

from digits.models import MODELS, Model
from digits.training import evaluation, trainer
from digits.training.models import cnn, layers, mlp
from digits.training.models.layers import LAYER_SEEDS

Row = tuple[str, tuple[int, ...], int]
DROPOUT = {"mlp": (0.2, 0.2), "cnn": (0.25, 0.25, 0.5)}


def build(
    model: str, shape: tuple[int, int] = (28, 28), classes: int = 10, seed: int = 0
) -> keras.Model:
    return MODELS[model].build((*shape, 1), classes, DROPOUT[model], seed)


def rows(model: keras.Model) -> list[Row]:
    """Each layer's name, output shape for one image, and number of parameters."""
    return [(layer.name, layer.output.shape[1:], layer.count_params()) for layer in model.layers]


def weights(model: keras.Model) -> bytes:
    return b"".join(array.tobytes() for array in model.get_weights())


def test_the_mlp_is_the_reference_layer_by_layer() -> None:
    mlp = build("mlp")

    assert rows(mlp) == [
        ("flatten", (784,), 0),
        ("hidden_1", (512,), 401_920),
        ("dropout_1", (512,), 0),
        ("hidden_2", (128,), 65_664),
        ("dropout_2", (128,), 0),
        ("probabilities", (10,), 1_290),
    ]
    assert mlp.count_params() == 468_874


def test_the_cnn_is_the_reference_layer_by_layer() -> None:
    cnn = build("cnn")

    assert rows(cnn) == [
        ("convolution_1", (26, 26, 32), 320),
        ("dropout_1", (26, 26, 32), 0),
        ("convolution_2", (24, 24, 16), 4_624),
        ("pooling", (12, 12, 16), 0),
        ("dropout_2", (12, 12, 16), 0),
        ("flatten", (2304,), 0),
        ("hidden", (128,), 295_040),
        ("dropout_3", (128,), 0),
        ("probabilities", (10,), 1_290),
    ]
    assert cnn.count_params() == 301_274


@pytest.mark.parametrize(
    ("model", "activations"),
    [("mlp", ["relu", "relu", "softmax"]), ("cnn", ["relu", "relu", "relu", "softmax"])],
)
def test_hidden_layers_are_rectified_and_the_last_gives_probabilities(
    model: str, activations: Sequence[str]
) -> None:
    found = build(model).layers

    assert [layer.activation.__name__ for layer in found if hasattr(layer, "activation")] == list(
        activations
    )


@pytest.mark.parametrize("model", MODELS)
def test_the_recipe_gives_the_dropout_rates(model: str) -> None:
    found = build(model).layers

    assert tuple(layer.rate for layer in found if hasattr(layer, "rate")) == DROPOUT[model]


@pytest.mark.parametrize("model", MODELS.values())
def test_a_dropout_rate_too_many_or_too_few_is_refused(model: Model) -> None:
    for rates in ((0.2,), (0.2,) * 4):
        with pytest.raises(ValueError, match="values to unpack"):
            model.build((28, 28, 1), 10, rates, 0)


@pytest.mark.parametrize("num_classes", [2, 47, 1000])
@pytest.mark.parametrize("shape", [(8, 8), (12, 20), (64, 64)])
@pytest.mark.parametrize("model", MODELS)
def test_other_images_and_classes_change_the_ends_alone(
    model: str, shape: tuple[int, int], num_classes: int
) -> None:
    adapted = build(model, shape, num_classes)
    images = np.zeros((3, *shape, 1), np.float32)

    probabilities = np.asarray(adapted(images))

    assert probabilities.shape == (3, num_classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert [layer.name for layer in adapted.layers] == [layer.name for layer in build(model).layers]
    height, width = shape
    expected = {
        "mlp": (height * width * 512 + 512) + 65_664 + 129 * num_classes,
        "cnn": 320
        + 4_624
        + ((height - 4) // 2 * ((width - 4) // 2) * 16 * 128 + 128)
        + 129 * num_classes,
    }
    assert adapted.count_params() == expected[model]


@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_gives_the_same_weights_whatever_ran_before(model: str) -> None:
    first = weights(build(model, seed=3))
    keras.utils.set_random_seed(99)
    keras.layers.Dense(7).build((None, 7))
    build("cnn", (64, 64), seed=3)

    assert weights(build(model, seed=3)) == first


@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_drops_the_same_units_whatever_ran_before(model: str) -> None:
    images = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)
    first = np.asarray(build(model, seed=3)(images, training=True))
    keras.utils.set_random_seed(99)

    assert (np.asarray(build(model, seed=3)(images, training=True)) == first).all()
    assert (np.asarray(build(model, seed=4)(images, training=True)) != first).any()


@pytest.mark.parametrize("seeds", [(0, 1), (0, 20_260_101), (1, 2**31 - 1)])
@pytest.mark.parametrize("model", MODELS)
def test_another_seed_gives_other_weights_in_every_layer(
    model: str, seeds: tuple[int, int]
) -> None:
    # The large ones are those that a backend would fold, or refuse.
    one, other = (build(model, seed=seed) for seed in seeds)

    for ours, theirs in zip(one.layers, other.layers, strict=True):
        if ours.weights:
            assert (np.asarray(ours.kernel) != np.asarray(theirs.kernel)).mean() > 0.99


@pytest.mark.parametrize("seed", [0, 20_260_101, 2**31 - 1])
@pytest.mark.parametrize(("model", "num_sources"), [("mlp", 5), ("cnn", 7)])
def test_no_two_layers_share_a_source_of_chance(model: str, num_sources: int, seed: int) -> None:
    sources = [
        layer.kernel_initializer.seed if layer.weights else layer.seed
        for layer in build(model, seed=seed).layers
        if layer.weights or hasattr(layer, "seed")
    ]

    assert len(set(sources)) == num_sources
    assert max(sources) < LAYER_SEEDS


@pytest.mark.parametrize("module", [mlp, cnn, layers, trainer, evaluation])
def test_what_trains_and_scores_needs_no_backend_of_its_own(module: ModuleType) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))

    allowed = {"keras", "numpy", "scipy", "digits"} | sys.stdlib_module_names
    assert {name.partition(".")[0] for name in names} <= allowed
    assert not any(name.startswith("keras.src") for name in names)
