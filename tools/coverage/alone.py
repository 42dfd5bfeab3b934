"""ONNX Runtime's own gradient builder, with nothing of dsd-ort around it; it can end the process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnxruntime
from onnxruntime.capi import _pybind_state as native


class Step:
    """A model with the scalar output *loss*, differentiated by the inputs *trainable*; called with all inputs.

    Raises:
        RuntimeError: the builder refuses the graph, or ONNX Runtime what it built.
    """

    def __init__(self, model: onnx.ModelProto, trainable: Sequence[str], loss: str, *, threads: int = 1) -> None:
        self.loss, self.trainable = loss, list(trainable)
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, threads
        inferred = onnx.shape_inference.infer_shapes(model)
        builder = native.GradientGraphBuilder(inferred.SerializeToString(), {loss}, set(trainable), loss, options)
        builder.build()
        self.session = onnxruntime.InferenceSession(builder.get_model(), options, providers=["CPUExecutionProvider"])

    def __call__(self, inputs: dict[str, Any], *others: str) -> tuple[float, dict[str, Any], list[Any]]:
        """The loss, the gradients, and the values of the outputs *others*."""
        feeds = {value.name: inputs[value.name] for value in self.session.get_inputs()}
        names = [self.loss, *(f"{name}_grad" for name in self.trainable), *others]
        loss, *rest = self.session.run(names, feeds)
        count = len(self.trainable)
        return float(np.asarray(loss)), dict(zip(self.trainable, rest[:count], strict=True)), rest[count:]
