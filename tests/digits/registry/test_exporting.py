import json
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from digits.errors import DamagedError, DigitsError, UsageError
from digits.registry import exporting
from digits.registry.champion import KerasChampion, load_keras_champion
from digits.registry.export_formats import NEWER_KEYS, without_newer_keys
from digits.registry.exporting import FORMATS, export_champion
from digits.settings import Settings
from digits.storage.files import file_digest
from digits.storage.workspace import Workspace
from flows import options
from tests.support.champions import crown
from tests.support.handwriting import make_splits
from tests.support.small_dataset import NAME, SPEC, write_spec

PIXELS = (make_splits()["test"][0][..., None] / np.float32(255)).astype(np.float32)


@pytest.fixture(scope="module")
def crowned(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Workspace:
    """A workspace whose champion is an MLP, or the model the test requests."""
    root = tmp_path_factory.mktemp("crowned")
    settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
    # Undertrained: if the model were certain of every image, a wrong export could go unnoticed.
    crown(settings, getattr(request, "param", "mlp"), epochs=1)
    return Workspace(settings)


@pytest.fixture(scope="module")
def champion(crowned: Workspace) -> KerasChampion:
    return load_keras_champion(NAME, crowned)


def test_a_replaced_champion_is_not_exported(crowned: Workspace, champion: KerasChampion) -> None:
    whole = champion.path.read_bytes()
    keras.models.clone_model(champion.model).save(champion.path)
    try:
        with pytest.raises(DamagedError, match=r"model\.keras"):
            load_keras_champion(NAME, crowned)
    finally:
        champion.path.write_bytes(whole)


def test_a_champion_for_other_images_is_not_exported(crowned: Workspace) -> None:
    write_spec(crowned.settings, SPEC.replace("[12, 12]", "[16, 12]"))
    try:
        with pytest.raises(DigitsError, match=r"\(expected 16x12x1 and 10\)"):
            load_keras_champion(NAME, crowned)
    finally:
        write_spec(crowned.settings, SPEC)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("crowned", ["mlp", "cnn"], indirect=True)
def test_an_export_gives_the_champions_probabilities(
    champion: KerasChampion, crowned: Workspace, tmp_path: Path, form: str
) -> None:
    for module in FORMATS[form].packages:
        pytest.importorskip(module)
    folder = tmp_path / "out"

    facts = export_champion(champion, folder, [form], crowned)

    predict = FORMATS[form].read(folder / facts["formats"][form])
    expected = champion.model.predict(PIXELS, verbose=0)
    # A single image, and the complete test set.
    for number in (1, 200):
        assert np.abs(predict(PIXELS[:number]) - expected[:number]).max() < 1e-5
    assert facts["num_images_with_the_same_label"] == len(PIXELS)


def test_an_export_is_described_by_its_facts(
    champion: KerasChampion, crowned: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "out"

    facts = export_champion(champion, folder, ["keras", "savedmodel"], crowned)

    assert json.loads((folder / "export.json").read_text()) == json.loads(json.dumps(facts))
    assert facts["digest"] == champion.version.model.digest
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {*facts["sha256"], "export.json"}
    for name, digest in facts["sha256"].items():
        assert file_digest(folder / name) == digest
    assert facts["names"] == {"input": "image", "output": "output_0"}
    assert set(facts["readable_by"]) == {"keras", "savedmodel"}
    assert list(folder.parent.iterdir()) == [folder]


def test_a_keras_file_differs_only_in_what_older_versions_refuse(
    champion: KerasChampion, tmp_path: Path
) -> None:
    path = tmp_path / "champion.keras"
    FORMATS["keras"].write(champion, path)

    with zipfile.ZipFile(champion.path) as old, zipfile.ZipFile(path) as new:
        for name in ("metadata.json", "model.weights.h5"):
            assert new.read(name) == old.read(name)
        config = json.loads(new.read("config.json"))
    layers = [layer["config"] for layer in config["config"]["layers"]]
    initializers = [one["kernel_initializer"]["config"] for one in layers if "units" in one]
    assert initializers
    assert not NEWER_KEYS & {key for one in (*layers, *initializers) for key in one}
    loaded = keras.saving.load_model(path, compile=False)
    assert loaded.get_config() == champion.model.get_config()


def test_a_key_with_a_value_is_kept() -> None:
    config = {"quantization_config": {"mode": "int8"}, "input_axes": None, "layers": [{"units": 3}]}
    assert without_newer_keys(config) == {
        "quantization_config": {"mode": "int8"},
        "layers": [{"units": 3}],
    }


def test_an_onnx_file_has_stable_names_a_free_batch_and_an_old_opset(
    champion: KerasChampion, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "champion.onnx"
    FORMATS["onnx"].write(champion, path)

    model = onnx.load(path)

    values = [*model.graph.input, *model.graph.output]
    assert [value.name for value in values] == ["image", "output_0"]
    assert [value.type.tensor_type.shape.dim[0].dim_param for value in values] == ["batch"] * 2
    # ONNX Runtime 1.12 reads up to opset 17 and IR version 8.
    assert {one.domain: one.version for one in model.opset_import}[""] <= 15
    assert model.ir_version <= 8


def test_a_savedmodel_has_the_signature_that_servers_call(
    champion: KerasChampion, tmp_path: Path
) -> None:
    import tensorflow as tf

    FORMATS["savedmodel"].write(champion, tmp_path / "model")

    signature = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    (image,) = signature.structured_input_signature[1].values()
    assert (image.name, image.dtype, image.shape[0]) == ("image", tf.float32, None)
    assert list(signature.structured_outputs) == ["output_0"]


def test_the_command_line_offers_every_format() -> None:
    assert tuple(FORMATS) == options.FORMATS


def write_another_model(champion: KerasChampion, path: Path) -> None:
    """Write the champion with two classes swapped."""
    model = keras.models.clone_model(champion.model)
    *weights, kernel, bias = champion.model.get_weights()
    order = [1, 0, *range(2, 10)]
    model.set_weights([*weights, kernel[:, order], bias[order]])
    model.save(path)


def test_an_export_with_other_labels_is_refused_and_leaves_nothing(
    champion: KerasChampion, crowned: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(FORMATS["keras"], write=write_another_model)
    monkeypatch.setattr(exporting, "FORMATS", {**FORMATS, "keras": wrong})

    message = r"labels do not match the model's: keras on \d+ of 200 test images; nothing"
    with pytest.raises(DigitsError, match=message):
        export_champion(champion, tmp_path / "out", ["savedmodel", "keras"], crowned)

    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_halfway_leaves_nothing(
    champion: KerasChampion, crowned: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: KerasChampion, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    broken = replace(FORMATS["savedmodel"], write=fail)
    monkeypatch.setattr(exporting, "FORMATS", {**FORMATS, "savedmodel": broken})

    with pytest.raises(OSError, match="No space left"):
        export_champion(champion, tmp_path / "out", ["keras", "savedmodel"], crowned)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_left_alone(
    champion: KerasChampion, crowned: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(UsageError, match="already exists"):
        export_champion(champion, tmp_path, ["keras"], crowned)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_filled(
    champion: KerasChampion, crowned: Workspace, tmp_path: Path
) -> None:
    export_champion(champion, tmp_path, ["keras"], crowned)

    assert (tmp_path / "export.json").is_file()


@pytest.mark.parametrize("formats", [["pickle"], ["keras", "h5"], []])
def test_an_unknown_format_is_refused(
    champion: KerasChampion, crowned: Workspace, tmp_path: Path, formats: list[str]
) -> None:
    with pytest.raises(UsageError, match="choose from keras, savedmodel, onnx, litert"):
        export_champion(champion, tmp_path / "out", formats, crowned)


def test_a_missing_package_is_named_before_anything_is_written(
    champion: KerasChampion, crowned: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = replace(FORMATS["onnx"], packages={"no_such_module": "no-such-package"})
    monkeypatch.setattr(exporting, "FORMATS", {"keras": FORMATS["keras"], "onnx": lacking})

    with pytest.raises(UsageError, match=r"onnx needs no-such-package;.*, or use --format keras$"):
        export_champion(champion, tmp_path / "out", ["keras", "onnx"], crowned)

    assert list(tmp_path.iterdir()) == []


def test_without_its_test_data_nothing_is_exported(
    champion: KerasChampion, crowned: Workspace, tmp_path: Path
) -> None:
    (folder,) = (crowned.settings.prepared_dir / "datasets").glob("[0-9a-f]*")
    hidden = folder.rename(tmp_path / "hidden")
    try:
        with pytest.raises(DigitsError, match="training data of version 1 is missing or corrupted"):
            export_champion(champion, tmp_path / "out", ["keras"], crowned)
    finally:
        hidden.rename(folder)
