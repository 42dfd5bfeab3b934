"""ONNX in, ONNX out: pure functions on graphs; no session, no training data."""
