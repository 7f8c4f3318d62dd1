"""Texts to token vectors with an exported ONNX model. Knows nothing of indexes, scoring or HTTP."""
