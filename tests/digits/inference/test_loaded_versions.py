import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from digits.errors import DamagedError, DigitsError, NoOnnxFormError, UsageError
from digits.inference.loaded_versions import LoadedVersion, load_version
from digits.registry.ledger import Ledger, champion_of, forms_of
from digits.settings import ROOT, Settings
from digits.storage.workspace import Workspace
from digits.training.evaluation import load_model, predict
from tests.support.champions import crown
from tests.support.handwriting import make_splits
from tests.support.histories import store_form, write_history
from tests.support.small_dataset import NAME, SPEC, write_spec

IMAGES, LABELS = make_splits()["test"]
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from digits.inference.loaded_versions import load_version
from digits.settings import Settings
from digits.storage.workspace import Workspace
settings = Settings(data_dir=Path(sys.argv[1]), artifacts_dir=Path(sys.argv[2]))
version = load_version(sys.argv[3], Workspace(settings))
version.model.predict(np.zeros((2, *version.layout.image_shape), np.uint8))
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def crowned(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a champion."""
    root = tmp_path_factory.mktemp("crowned")
    settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
    crown(settings, epochs=1)
    return Workspace(settings)


@pytest.fixture(scope="module")
def version(crowned: Workspace) -> LoadedVersion:
    return load_version(NAME, crowned)


def test_a_version_gives_the_probabilities_of_its_keras_model(
    version: LoadedVersion, crowned: Workspace
) -> None:
    champion = Ledger(NAME, crowned.settings).champion()
    assert champion is not None
    model = load_model(crowned.store.folder(champion.model) / "model.keras")

    found = version.model.predict(IMAGES)

    expected = predict(model, IMAGES[..., np.newaxis] / np.float32(255))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
    assert version.model.predict(IMAGES[:0]).shape == (0, 10)
    right = (found.argmax(axis=1) == LABELS).mean()
    assert version.model.accuracy == pytest.approx(right) == champion.evaluation.accuracy


def test_a_version_is_described(version: LoadedVersion, crowned: Workspace) -> None:
    champion = Ledger(NAME, crowned.settings).champion()
    assert champion is not None
    assert (version.dataset, version.number) == (NAME, 1)
    assert version.digest == version.model.digest == champion.model.digest
    assert version.layout.image_shape == version.model.image_shape == (12, 12)
    assert version.model.name == "mlp"
    assert version.others == ()


def test_labeling_never_loads_keras_or_a_backend(crowned: Workspace) -> None:
    settings = crowned.settings
    arguments = (str(settings.data_dir), str(settings.artifacts_dir), NAME)
    printed = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True
    )

    assert printed.returncode == 0, printed.stderr
    loaded = set(printed.stdout.split())
    assert "onnxruntime" in loaded
    heavy = {"keras", "tensorflow", "jax", "torch", "onnx", "tf2onnx", "prefect", "pandas"}
    assert not loaded & heavy


@pytest.fixture
def form_file(crowned: Workspace) -> Path:
    entries = Ledger(NAME, crowned.settings).entries()
    return crowned.store.folder(forms_of(entries, 1)[0]) / "model.onnx"


@pytest.mark.faults
@pytest.mark.parametrize("damage", ["cut", "altered", "missing"])
def test_a_corrupted_form_is_never_used(crowned: Workspace, form_file: Path, damage: str) -> None:
    whole = form_file.read_bytes()
    changed = {"cut": whole[:-1], "altered": bytes([whole[0] ^ 1]) + whole[1:]}
    form_file.unlink()
    if damage in changed:
        form_file.write_bytes(changed[damage])
    try:
        with pytest.raises(DamagedError, match=r"model\.onnx"):
            load_version(NAME, crowned)
    finally:
        form_file.write_bytes(whole)


def test_verified_bytes_that_are_not_a_model_are_corrupted(workspace: Workspace) -> None:
    write_spec(workspace.settings, SPEC)
    ledger = Ledger(NAME, workspace.settings)
    write_history(ledger, "p")
    champion = champion_of(ledger.entries())
    assert champion is not None
    with ledger.deciding() as deciding:
        deciding.append(
            deciding.entries[-1].verdict.model_copy(
                update={"outcome": "unchanged", "champion_before": 1}
            ),
            run="r",
            data_digest="0" * 64,
            forms=[store_form(workspace, champion.model)],
        )

    with pytest.raises(DamagedError, match="cannot be loaded"):
        load_version(NAME, workspace)


def test_a_spec_for_other_images_is_refused(crowned: Workspace) -> None:
    write_spec(crowned.settings, SPEC.replace("[12, 12]", "[16, 12]"))
    try:
        with pytest.raises(
            DigitsError, match=r"12x12 images of 10 classes \(expected 16x12 images of 10 classes"
        ):
            load_version(NAME, crowned)
    finally:
        write_spec(crowned.settings, SPEC)


def test_what_cannot_be_loaded_says_what_to_run(small_dataset: Settings) -> None:
    workspace = Workspace(small_dataset)
    with pytest.raises(UsageError, match=f"no champion yet; `digits run --dataset {NAME}` makes"):
        load_version(NAME, workspace)
    write_history(Ledger(NAME, small_dataset), "pp")
    with pytest.raises(NoOnnxFormError, match=f"`digits run --dataset {NAME}` makes it"):
        load_version(NAME, workspace)
    with pytest.raises(NoOnnxFormError, match=f"`digits rollback 1 --dataset {NAME}` makes it"):
        load_version(NAME, workspace, 1)
    with pytest.raises(UsageError, match=f"{NAME} has no version 3"):
        load_version(NAME, workspace, 3)
