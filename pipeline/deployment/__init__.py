"""ONNX, INT8, latency, the model that ships, and what it says of an image."""
