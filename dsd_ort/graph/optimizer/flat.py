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
def scale(gradient: Flat, weight: Scalar) -> Flat:
    """The first batch's gradient by the batch's weight."""
    total_new = gradient * weight
    return total_new  # noqa: RET504 - the output is called so


@script(default_opset=op)
def add(total: Flat, gradient: Flat, weight: Scalar) -> Flat:
    """The sum of the gradients of several batches, each by its weight."""
    total_new = total + gradient * weight
    return total_new  # noqa: RET504


@script(default_opset=op)
def fold(folded: Flat, following: Flat, current: Flat, momenta: Flat, loss: Scalar) -> Flat:
    """Statistics behind one more batch, which made *following* of *current*: see :mod:`dsd_ort.graph.momenta`."""
    folded_new = op.Where((loss - loss) == 0.0, folded * momenta + (following - momenta * current), folded)
    return folded_new  # noqa: RET504


@script(default_opset=op)
def keep_finite(current: Flat, following: Flat, loss: Scalar) -> Flat:
    """The following statistics; with a loss that is not finite the current ones."""
    current_new = op.Where((loss - loss) == 0.0, following, current)
    return current_new  # noqa: RET504


def scale_graph() -> onnx.ModelProto:
    """``gradient`` f32[n], ``weight`` f32[] → ``total_new`` f32[n]."""
    model: onnx.ModelProto = scale.to_model_proto(ir_version=_IR_VERSION)  # type: ignore[no-untyped-call]
    return model


def fold_graph() -> onnx.ModelProto:
    """``folded``, ``following``, ``current``, ``momenta`` f32[n], ``loss`` f32[] → ``folded_new`` f32[n]."""
    model: onnx.ModelProto = fold.to_model_proto(ir_version=_IR_VERSION)  # type: ignore[no-untyped-call]
    return model


def add_graph() -> onnx.ModelProto:
    """``total``, ``gradient`` f32[n], ``weight`` f32[] → ``total_new`` f32[n]."""
    model: onnx.ModelProto = add.to_model_proto(ir_version=_IR_VERSION)  # type: ignore[no-untyped-call]
    return model


def keep_finite_graph() -> onnx.ModelProto:
    """``current``, ``following`` f32[n], ``loss`` f32[] → ``current_new`` f32[n]."""
    model: onnx.ModelProto = keep_finite.to_model_proto(ir_version=_IR_VERSION)  # type: ignore[no-untyped-call]
    return model
