"""What a GPU does to flat buffers between a step and its update; the host has NumPy for it.

Outputs may be bound to the memory of the input that they succeed: each node is elementwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnxscript import FLOAT, script
from onnxscript import opset17 as op

if TYPE_CHECKING:  # onnxscript's annotations describe tensors, which are no types to a checker
    from typing import Any as Flat
    from typing import Any as Scalar
else:
    Flat, Scalar = FLOAT["n"], FLOAT

_IR_VERSION = 8


@script(default_opset=op)
def add(total: Flat, gradient: Flat) -> Flat:
    """The sum of the gradients of several batches."""
    total_new = total + gradient
    return total_new  # noqa: RET504 - the output is called so


@script(default_opset=op)
def keep_finite(current: Flat, following: Flat, loss: Scalar) -> Flat:
    """The following statistics; with a loss that is not finite the current ones."""
    current_new = op.Where((loss - loss) == 0.0, following, current)
    return current_new  # noqa: RET504


def add_graph() -> onnx.ModelProto:
    """``total``, ``gradient`` f32[n] → ``total_new`` f32[n]."""
    model: onnx.ModelProto = add.to_model_proto(ir_version=_IR_VERSION)  # type: ignore[no-untyped-call]
    return model


def keep_finite_graph() -> onnx.ModelProto:
    """``current``, ``following`` f32[n], ``loss`` f32[] → ``current_new`` f32[n]."""
    model: onnx.ModelProto = keep_finite.to_model_proto(ir_version=_IR_VERSION)  # type: ignore[no-untyped-call]
    return model
