import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.training.evaluation import load_model, predict
from tests.support.trainings import Arrays, Training, start_python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed"),
]

WITHOUT_TENSORFLOW = """
import sys
from pathlib import Path
sys.modules["tensorflow"] = None  # as if it were not installed
from tests.support.other_backend import main
main(Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jax")


@pytest.fixture(scope="module")
def facts(folder: Path) -> dict[str, Any]:
    """The output of a process with another backend; its trainings are in `folder`."""
    process = start_python(
        "-c",
        WITHOUT_TENSORFLOW,
        str(folder),
        KERAS_BACKEND="jax",
        # With this little training, optimized compilation costs more time than it saves.
        XLA_FLAGS="--xla_backend_optimization_level=0",
    )
    output, _ = process.communicate()
    assert process.returncode == 0
    printed: dict[str, Any] = json.loads(output)
    return printed


def test_both_models_have_the_reference_sizes_on_another_backend(facts: dict[str, Any]) -> None:
    assert facts == {"backend": "jax", "num_parameters": {"mlp": 468_874, "cnn": 301_274}}


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_model_from_another_backend_has_learned_and_predicts_the_same_here(
    model: str, folder: Path, small_arrays: Arrays
) -> None:
    training = Training.of(small_arrays, folder / model, model)
    trained = load_model(training.archive)

    probabilities = predict(trained, np.load(small_arrays.folder / "x_test.npy"))

    # float32 sums in a different order differ in the last digits.
    there = np.load(training.folder / "probabilities.npy")
    np.testing.assert_allclose(probabilities, there, atol=1e-5)
    # Guessing gives 0.1.
    assert training.curve[-1]["val_accuracy"] > 0.5
    predicted, y_test = probabilities.argmax(axis=1), np.load(small_arrays.folder / "y_test.npy")
    assert training.curve[-1]["val_accuracy"] == pytest.approx((predicted == y_test).mean())


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize(("straight", "resumed"), [("mlp", "resumed"), ("best", "resumed best")])
def test_another_backend_resumes_bit_for_bit(
    straight: str, resumed: str, folder: Path, small_arrays: Arrays
) -> None:
    one, other = (Training.of(small_arrays, folder / name, "mlp") for name in (straight, resumed))

    assert other.output == one.output


@pytest.mark.usefixtures("facts")
def test_another_backend_learns_with_the_fast_recipe(folder: Path, small_arrays: Arrays) -> None:
    training = Training.of(small_arrays, folder / "fast", "cnn")

    first, last = training.curve
    assert last["loss"] < first["loss"]
    # Guessing gives 0.1.
    assert last["val_accuracy"] > 0.3
    assert load_model(training.archive).dtype_policy.name == "float32"
