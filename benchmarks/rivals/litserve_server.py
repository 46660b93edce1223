"""LitServe, with its fast queue and as many API servers as workers."""

import os
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime


class Digits(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:  # noqa: ARG002
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["ONNX_FILE"], options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request: dict[str, Any]) -> Any:
        return np.asarray(request["image"], dtype=np.float32).reshape(1, 28, 28, 1)

    def predict(self, x: Any) -> Any:
        return self.session.run(None, {"image": x})[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"probabilities": output[0].tolist(), "label": int(output[0].argmax())}


if __name__ == "__main__":
    workers = int(os.environ["WORKERS"])
    server = litserve.LitServer(
        Digits(), accelerator="cpu", devices=1, workers_per_device=workers, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=workers,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
