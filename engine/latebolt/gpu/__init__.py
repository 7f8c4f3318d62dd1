"""What runs on a CUDA device beside ONNX Runtime. Nothing of it is imported where there is no GPU to use."""
