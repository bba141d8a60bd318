"""ONNX files, their checks, and model cards."""
