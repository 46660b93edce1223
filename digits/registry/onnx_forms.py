"""A model's ONNX form: made from its Keras archive, checked on a test set, stored as a bundle."""

import os
import subprocess
import sys
from pathlib import Path

from digits.errors import DigitsError
from digits.registry.onnx_files import FILE, read_onnx, write_onnx
from digits.settings import ROOT
from digits.storage.references import ModelRef, OnnxRef, Reference
from digits.storage.workspace import Workspace
from digits.training.devices import TRACING, backend, configure_backend
from digits.training.streams import native_errors_in

PART = 1000
# For a process that converts with TensorFlow on the CPU, whatever this one uses.
CONVERTER = "import sys; from digits.registry.onnx_forms import main; main(sys.argv[1:])"
TENSORFLOW = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}


def make_form(model: ModelRef, arrays: Reference, device: str, workspace: Workspace) -> OnnxRef:
    """Store a model's ONNX form; it gives the model's label to every test image of `arrays`.

    Conversion needs TensorFlow; if this process uses another backend or `device` is a GPU, a
    process of its own converts. Raises DamagedError if the model or the arrays are not intact, and
    DigitsError if labels differ or the model cannot be converted.
    """
    store = workspace.store
    store.verify(model)
    store.verify(arrays)
    is_here = backend() == "tensorflow" and device == "cpu"
    convert = _convert if is_here else _convert_in_child
    log = workspace.settings.artifacts_dir / "logs" / "convert.log"
    with store.create("onnx") as draft:
        num_images, num_correct = convert(
            store.folder(model) / "model.keras", store.folder(arrays), draft.path / FILE, log
        )
    return OnnxRef(
        digest=draft.digest,
        model=model.model,
        model_digest=model.digest,
        num_images=num_images,
        num_correct=num_correct,
    )


def _convert(archive: Path, arrays: Path, output: Path, log: Path) -> tuple[int, int]:
    """Write a Keras archive as ONNX and compare the labels.

    Returns the number of test images and the number of right labels.
    """
    configure_backend("cpu")
    from digits.registry.label_checks import check_labels
    from digits.training.arrays import StoredArray
    from digits.training.evaluation import load_model

    with TRACING:
        model = load_model(archive)
    x_test, y_test = (StoredArray(arrays / f"{name}_test.npy") for name in ("x", "y"))
    if x_test.shape[1:] != model.input_shape[1:]:
        raise DigitsError(
            f"the {model.name} cannot be checked on these test images: they are "
            f"{'x'.join(map(str, x_test.shape[1:]))} (expected "
            f"{'x'.join(map(str, model.input_shape[1:]))})"
        )
    with TRACING, native_errors_in(log):
        write_onnx(model, output)
        labels = check_labels(model, {"onnx": read_onnx(output)}, x_test.parts(PART))
    return len(labels), int((labels == y_test.part(0, len(labels))).sum())


def _convert_in_child(archive: Path, arrays: Path, output: Path, log: Path) -> tuple[int, int]:
    finished = subprocess.run(
        [sys.executable, "-c", CONVERTER, *map(str, (archive, arrays, output, log))],
        cwd=ROOT,  # where `digits` is imported from, whatever the current folder
        env=os.environ | TENSORFLOW,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        problem = finished.stderr.strip().rpartition("\n")[2] or f"exit code {finished.returncode}"
        raise DigitsError(f"{archive} cannot be converted to ONNX: {problem}")
    num_images, num_correct = map(int, finished.stdout.split()[-2:])
    return num_images, num_correct


def main(arguments: list[str]) -> None:
    """Convert in a process of its own: print the numbers of images, or why it failed."""
    archive, arrays, output, log = map(Path, arguments)
    try:
        num_images, num_correct = _convert(archive, arrays, output, log)
    except DigitsError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{num_images} {num_correct}\n")
