"""What a network costs: counted (MACs, parameters, bytes) and timed under ONNX Runtime on a device."""
