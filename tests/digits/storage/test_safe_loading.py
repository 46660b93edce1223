import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from digits.errors import DamagedError
from digits.training.evaluation import load_model
from tests.support.trainings import Training

pytestmark = pytest.mark.filterwarnings(
    # An attacker would ignore this warning.
    "ignore:The object being serialized includes a `lambda`"
)

REFUSED = "is not a model that Keras can load safely"
WEIGHTS = "model.weights.h5"

Files = dict[str, bytes]
Attack = Callable[[Files, Path], None]


@pytest.fixture
def sound(trained: dict[str, Training]) -> Files:
    """The files in the archive of a trained model."""
    with zipfile.ZipFile(trained["mlp"].archive) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists only if attack code has run: `touch`ed, or created by `intruder`."""
    path = tmp_path / "ran"
    module = f"from pathlib import Path\nPath({str(path)!r}).touch()\nclass Layer: pass\n"
    (tmp_path / "intruder.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    return path


def pack(files: Files, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def put_layer(files: Files, **layer: Any) -> None:
    """Insert a layer into the model's config."""
    description = json.loads(files["config.json"])
    description["config"]["layers"].insert(2, {"registered_name": None, "config": {}} | layer)
    files["config.json"] = json.dumps(description).encode()


def put_activation(files: Files, **activation: Any) -> None:
    """Replace the activation of a layer in the model's config."""
    description = json.loads(files["config.json"])
    description["config"]["layers"][2]["config"]["activation"] = activation
    files["config.json"] = json.dumps(description).encode()


def put_weights(files: Files, edit: Callable[[h5py.File], None]) -> None:
    """Edit the HDF5 file that contains the weights."""
    content = io.BytesIO(files[WEIGHTS])
    with h5py.File(content, "a") as file:
        edit(file)
    files[WEIGHTS] = content.getvalue()


class Touching:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._path}",)


def run_a_command(files: Files, ran: Path) -> None:
    put_layer(files, module="os", class_name="system", config=f"touch {ran}")


def start_a_process(files: Files, ran: Path) -> None:
    arguments = {"args": ["touch", str(ran)]}
    put_layer(files, module="subprocess", class_name="Popen", config=arguments)


def import_a_module(files: Files, ran: Path) -> None:  # noqa: ARG001
    put_layer(files, module="intruder", class_name="Layer", registered_name="Layer")


def name_a_registered_class(files: Files, ran: Path) -> None:  # noqa: ARG001
    put_layer(files, module="intruder", class_name="Layer", registered_name="intruder>Layer")


def call_a_builtin(files: Files, ran: Path) -> None:  # noqa: ARG001
    put_activation(
        files, module="builtins", class_name="function", config="exec", registered_name="function"
    )


def touching_lambda(ran: Path) -> Callable[[Any], Any]:
    """A self-contained function that touches a file."""
    path = str(ran)
    return lambda x: (__import__("pathlib").Path(path).touch(), x)[1]


def carry_a_lambda(files: Files, ran: Path) -> None:
    config = keras.layers.Lambda(touching_lambda(ran), name="carried").get_config()
    put_layer(files, module="keras.layers", class_name="Lambda", config=config)


def activate_by_a_lambda(files: Files, ran: Path) -> None:
    put_activation(files, **keras.saving.serialize_keras_object(touching_lambda(ran)))


def turn_safe_mode_off(files: Files, ran: Path) -> None:  # noqa: ARG001
    put_activation(
        files,
        module="keras.config",
        class_name="function",
        config="enable_unsafe_deserialization",
        registered_name="function",
    )


def fetch_a_file(files: Files, ran: Path) -> None:  # noqa: ARG001
    put_activation(
        files,
        module="keras.utils",
        class_name="function",
        config="get_file",
        registered_name="function",
    )


def load_a_saved_model(files: Files, ran: Path) -> None:
    put_layer(
        files,
        module="keras.layers",
        class_name="TFSMLayer",
        config={"filepath": str(ran.parent)},
    )


def load_a_torch_module(files: Files, ran: Path) -> None:  # noqa: ARG001
    put_layer(
        files,
        module="keras.layers",
        class_name="TorchModuleWrapper",
        config={"module": "gASVAAAA"},
    )


def read_a_file(files: Files, ran: Path) -> None:
    secret = ran.with_name("secret.txt")
    secret.write_text("word\n")
    put_layer(
        files,
        module="keras.layers",
        class_name="StringLookup",
        config={"vocabulary": str(secret)},
    )


def pickle_the_weights(files: Files, ran: Path) -> None:
    del files[WEIGHTS]
    content = io.BytesIO()
    np.savez(content, __root__=np.array({"x": Touching(ran)}, dtype=object))
    files["model.weights.npz"] = content.getvalue()


def take_weights_from_another_file(files: Files, ran: Path) -> None:
    raw = ran.with_name("raw")
    raw.write_bytes(bytes(4 * 144 * 512))

    def edit(file: h5py.File) -> None:
        del file["layers/dense/vars/0"]
        file.create_dataset(
            "layers/dense/vars/0", (144, 512), "float32", external=[(str(raw), 0, 4 * 144 * 512)]
        )

    put_weights(files, edit)


def link_weights_to_another_file(files: Files, ran: Path) -> None:
    other = ran.with_name("other.h5")
    with h5py.File(other, "w") as file:
        file["x"] = np.ones((144, 512), np.float32)

    def edit(file: h5py.File) -> None:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = h5py.ExternalLink(str(other), "/x")

    put_weights(files, edit)


def unpack_without_bound(files: Files, ran: Path) -> None:  # noqa: ARG001
    def edit(file: h5py.File) -> None:
        del file["layers/dense/vars/0"]
        file.create_dataset("layers/dense/vars/0", (2**20, 2**20), "float32", chunks=(2**10, 2**10))

    put_weights(files, edit)


def carry_more_files(files: Files, ran: Path) -> None:  # noqa: ARG001
    files["assets/vocabulary.txt"] = bytes(1000)


def nest_without_end(files: Files, ran: Path) -> None:  # noqa: ARG001
    files["config.json"] = b'{"config":' * 20_000 + b"1" + b"}" * 20_000


def leave_the_weights_out(files: Files, ran: Path) -> None:  # noqa: ARG001
    del files[WEIGHTS]


def describe_no_model(files: Files, ran: Path) -> None:  # noqa: ARG001
    files["config.json"] = b"[]"


ATTACKS = [
    run_a_command,
    start_a_process,
    import_a_module,
    name_a_registered_class,
    call_a_builtin,
    carry_a_lambda,
    activate_by_a_lambda,
    turn_safe_mode_off,
    fetch_a_file,
    load_a_saved_model,
    load_a_torch_module,
    read_a_file,
    pickle_the_weights,
    take_weights_from_another_file,
    link_weights_to_another_file,
    unpack_without_bound,
    carry_more_files,
    nest_without_end,
    leave_the_weights_out,
    describe_no_model,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_planted_archive_is_refused_and_none_of_its_code_runs(
    attack: Attack, sound: Files, ran: Path, tmp_path: Path
) -> None:
    attack(sound, ran)
    path = pack(sound, tmp_path / "model.keras")

    with pytest.raises(DamagedError, match=REFUSED) as refusal:
        load_model(path)

    assert not ran.exists()
    assert "intruder" not in sys.modules
    assert "\n" not in str(refusal.value)


def test_an_archive_cannot_turn_safe_mode_off_for_the_next_one(
    sound: Files, ran: Path, tmp_path: Path
) -> None:
    opening, running = dict(sound), dict(sound)
    turn_safe_mode_off(opening, ran)
    carry_a_lambda(running, ran)
    for name, files in (("opening", opening), ("running", running)):
        with pytest.raises(DamagedError, match=REFUSED):
            load_model(pack(files, tmp_path / f"{name}.keras"))

    assert not ran.exists()


def test_these_lambdas_and_pickles_would_run_if_they_were_trusted(
    sound: Files, ran: Path, tmp_path: Path
) -> None:
    carry_a_lambda(sound, ran)
    keras.saving.load_model(pack(sound, tmp_path / "model.keras"), safe_mode=False, compile=False)
    assert ran.exists()

    ran.unlink()
    pickle_the_weights(sound, ran)
    weights = np.load(io.BytesIO(sound["model.weights.npz"]), allow_pickle=True)
    assert list(weights) == ["__root__"]
    assert weights["__root__"] is not None
    assert ran.exists()


def test_the_legacy_format_is_refused_even_with_the_new_extension(
    ran: Path, tmp_path: Path
) -> None:
    # Keras's HDF5 models have no safe mode.
    layers = [keras.Input((4,)), keras.layers.Lambda(touching_lambda(ran))]
    keras.Sequential(layers).save(tmp_path / "model.h5")
    ran.unlink()
    path = (tmp_path / "model.h5").rename(tmp_path / "model.keras")

    with pytest.raises(DamagedError, match=REFUSED):
        load_model(path)

    assert not ran.exists()


def test_a_compressed_archive_is_refused(sound: Files, tmp_path: Path) -> None:
    # A small compressed archive could unpack to any size.
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sound.items():
            archive.writestr(name, content)

    with pytest.raises(DamagedError, match="compressed"):
        load_model(path)


@pytest.mark.parametrize("length", [0, 1, 100, 5000, -1, -100, -1000])
def test_a_truncated_archive_is_refused(
    length: int, trained: dict[str, Training], tmp_path: Path
) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(trained["mlp"].archive.read_bytes()[:length])

    with pytest.raises(DamagedError, match=REFUSED):
        load_model(path)


def test_a_missing_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=REFUSED):
        load_model(tmp_path / "model.keras")


def test_a_corrupted_archive_is_refused_or_gives_the_same_model(
    trained: dict[str, Training], tmp_path: Path
) -> None:
    content = trained["mlp"].archive.read_bytes()
    sound = load_model(trained["mlp"].archive).get_weights()
    path, rng, num_refused = tmp_path / "model.keras", np.random.default_rng(0), 0
    # Half of the flipped bits are in the zip directory at the end, which has no checksum.
    anywhere = rng.integers(len(content), size=20)
    at_the_end = rng.integers(len(content) - 400, len(content), size=20)
    for place in (*anywhere, *at_the_end):
        altered = bytearray(content)
        altered[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(altered)
        try:
            weights = load_model(path).get_weights()
        except DamagedError:
            num_refused += 1
        else:
            assert all((a == b).all() for a, b in zip(sound, weights, strict=True))
    assert num_refused > 20
