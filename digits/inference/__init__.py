"""Model versions in use: their ONNX forms, verified and run by ONNX Runtime without Keras."""
