"""The ONNX Runtime that something is measured with."""

from __future__ import annotations

import onnxruntime

from tests.session import TRAINING_BUILD


def onnx_runtime() -> str:
    """Its name and version."""
    return f"ONNX Runtime {'Training ' * TRAINING_BUILD}{onnxruntime.__version__}"
