"""One model in ONNX Runtime: class probabilities of images as they are stored."""

import numpy as np
import numpy.typing as npt
import onnxruntime

from digits.errors import DamagedError
from digits.registry.onnx_files import INPUT, OUTPUT

Bytes = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]

PROVIDERS = ["CPUExecutionProvider"]


class OnnxModel:
    """A session of ONNX Runtime on the CPU; it may be called from several threads at once.

    `name` is the model's, `digest` that of its Keras model, `accuracy` that on the test set. It is
    loaded from `content`, so that what was verified is what runs. More `threads` only pay for
    large minibatches on idle machines. Raises DamagedError if ONNX Runtime cannot load it.
    """

    def __init__(
        self, content: bytes, *, name: str, digest: str, accuracy: float, threads: int = 1
    ) -> None:
        self.name, self.digest, self.accuracy = name, digest, accuracy
        try:
            self._session = onnxruntime.InferenceSession(
                content, _options(threads), providers=PROVIDERS
            )
        except Exception as error:
            # Its errors have no base class in common.
            raise DamagedError(
                f"the ONNX form of model {digest[:12]} cannot be loaded: {error}"
            ) from error
        (image,), (output,) = self._session.get_inputs(), self._session.get_outputs()
        self.image_shape: tuple[int, int] = (image.shape[1], image.shape[2])
        self.num_classes: int = output.shape[1]

    def predict(self, images: Bytes) -> Probabilities:
        """Return class probabilities float32 (n, K) of any number of images uint8 (n, H, W)."""
        # The same division as in digits.datasets.normalization.
        return self.probabilities(np.divide(images[..., np.newaxis], np.float32(255)))

    def probabilities(self, pixels: Pixels) -> Probabilities:
        """Return class probabilities float32 (n, K) of pixels float32 (n, H, W, 1) in 0..1."""
        probabilities: Probabilities = self._session.run([OUTPUT], {INPUT: pixels})[0]
        return probabilities


def _options(threads: int) -> onnxruntime.SessionOptions:
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads would take the cores from whatever reads the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
