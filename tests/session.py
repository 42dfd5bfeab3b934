"""A graph in a session of the ONNX Runtime that is installed, whichever that is."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime

from dsd_ort import runtime
from dsd_ort.device import portable
from dsd_ort.graph.legalize.opset import to_opset
from dsd_ort.rewrite.autograd import OPSET, inline

TRAINING_BUILD = bool({*runtime.distributions()} & {*runtime.TRAINING_DISTRIBUTIONS})
"""Is it the training build?  By what is installed, not by what that can: where it is broken, its tests fail."""
RELEASE = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
"""What some operators compute differs from one to another."""
TRAINS = runtime.trains()
"""What it can: tests that play another one replace the function."""


def runnable(model: ir.Model) -> onnx.ModelProto:
    """*model*, which stays as it is; where this ONNX Runtime cannot train, its training operators as standard ones."""
    if TRAINS:
        return ir.to_proto(model)
    copy = model.clone()
    if copy.opset_imports.get("", 0) < OPSET:  # of what is written in their place
        copy = to_opset(copy)
    inline(copy)
    portable.expand(copy)
    return ir.to_proto(copy)


def opened(model: ir.Model) -> Any:
    """A session of it on the CPU, with one thread."""
    return runtime.session(runnable(model), runtime.session_options(1))
