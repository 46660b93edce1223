from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from digits.errors import DamagedError, DigitsError
from digits.registry import onnx_forms
from digits.registry.label_checks import Predict
from digits.registry.late_forms import ArraysBundle
from digits.registry.ledger import Ledger, ModelVersion, forms_of
from digits.registry.onnx_forms import make_form
from digits.settings import Settings
from digits.storage.lineage import read_lineage
from digits.storage.references import OnnxRef
from digits.storage.workspace import Workspace
from tests.support.champions import crown
from tests.support.small_dataset import NAME


@pytest.fixture(scope="module")
def crowned(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a champion, whose form is recorded."""
    root = tmp_path_factory.mktemp("crowned")
    settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
    crown(settings, "cnn", epochs=1)
    return Workspace(settings)


@pytest.fixture
def version(crowned: Workspace) -> ModelVersion:
    return Ledger(NAME, crowned.settings).versions()[1]


@pytest.fixture
def arrays(crowned: Workspace, version: ModelVersion) -> ArraysBundle:
    lineage = read_lineage(version.lineage, crowned.store)
    return ArraysBundle(digest=lineage["normalize"].output)


@pytest.fixture
def form(crowned: Workspace) -> OnnxRef:
    (form,) = forms_of(Ledger(NAME, crowned.settings).entries(), 1)
    return form


def test_a_form_has_the_labels_of_its_model(form: OnnxRef, version: ModelVersion) -> None:
    assert (form.model, form.model_digest) == ("cnn", version.model.digest)
    assert form.num_images == version.evaluation.num_images
    assert form.num_correct == version.evaluation.num_correct


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("gpu:NVIDIA H100", marks=pytest.mark.slow)],  # a process of its own
)
def test_a_corrupted_form_is_made_again_from_the_same_bytes(
    crowned: Workspace, version: ModelVersion, arrays: ArraysBundle, form: OnnxRef, device: str
) -> None:
    (crowned.store.folder(form) / "model.onnx").write_text("another model")

    again = make_form(version.model, arrays, device, crowned)

    assert again == form
    assert crowned.store.is_whole(form)


@pytest.mark.slow
def test_a_process_of_another_backend_makes_the_same_form(
    crowned: Workspace,
    version: ModelVersion,
    arrays: ArraysBundle,
    form: OnnxRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")

    assert make_form(version.model, arrays, "cpu", crowned) == form


def swapped(read: Callable[[Path], Predict]) -> Callable[[Path], Predict]:
    """Read a model whose first two classes are swapped."""
    order = [1, 0, *range(2, 10)]
    return lambda path: lambda images: read(path)(images)[:, order]


def test_a_form_with_other_labels_is_refused_and_not_stored(
    crowned: Workspace,
    version: ModelVersion,
    arrays: ArraysBundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_forms, "read_onnx", swapped(onnx_forms.read_onnx))
    before = crowned.store.contents("onnx")

    with pytest.raises(DigitsError, match=r"do not match the model's: onnx on \d+ of 200 test im"):
        make_form(version.model, arrays, "cpu", crowned)

    assert crowned.store.contents("onnx") == before


@pytest.mark.parametrize("device", ["cpu", pytest.param("gpu:x", marks=pytest.mark.slow)])
def test_images_of_another_size_cannot_check_a_form(
    crowned: Workspace, version: ModelVersion, device: str
) -> None:
    with crowned.store.create("arrays") as draft:
        np.save(draft.path / "x_test.npy", np.zeros((3, 14, 12, 1), np.float32))
        np.save(draft.path / "y_test.npy", np.zeros(3, np.int32))

    with pytest.raises(DigitsError, match=r"they are 14x12x1 \(expected 12x12x1\)$"):
        make_form(version.model, ArraysBundle(digest=draft.digest), device, crowned)


def test_a_corrupted_model_is_not_converted(
    crowned: Workspace, version: ModelVersion, arrays: ArraysBundle
) -> None:
    path = crowned.store.folder(version.model) / "model.keras"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    try:
        with pytest.raises(DamagedError, match=r"model\.keras"):
            make_form(version.model, arrays, "cpu", crowned)
    finally:
        path.write_bytes(whole)
