"""BentoML, with an array as input; BATCH=yes turns its adaptive batching on."""

import os

import bentoml
import numpy as np
import numpy.typing as npt
import onnxruntime

Floats = npt.NDArray[np.float32]


@bentoml.service(workers=int(os.environ["WORKERS"]), traffic={"timeout": 60})
class Digits:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["ONNX_FILE"], options, providers=["CPUExecutionProvider"]
        )

    @bentoml.api(  # type: ignore[untyped-decorator]
        batchable=os.environ.get("BATCH") == "yes"
    )
    def predict(self, image: Floats) -> Floats:
        (probabilities,) = self.session.run(None, {"image": image.astype(np.float32)})
        answer: Floats = probabilities
        return answer
