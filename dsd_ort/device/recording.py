"""What a recording of a run on CUDA can hold: kernels, not what the host does for them.

With ``enable_cuda_graph`` ONNX Runtime records the kernels and copies of one run and replays them.  A replay copies
from the same addresses, so a kernel must have no part on the host: none that waits for the device, which capture
refuses; none that decides by data what is launched or how large it is; and none that copies from memory of the host,
as what stood there during capture is overwritten, or gone.  The latter goes unseen: a replay computes with whatever is
there.

Read in ONNX Runtime's sources, ``core/providers/cuda`` and ``orttraining/training_ops/cuda``:

* ``CudaAsyncBuffer`` copies addresses or sizes from pinned memory that goes back to its pool after the run (it is kept
  for a recording since https://github.com/microsoft/onnxruntime/pull/32121): Concat and Split of unequal parts or of
  more than 32, ScatterND, products whose batches are broadcast, cuDNN's recurrent layers.
* A copy from the stack: GatherND and its gradient (until https://github.com/microsoft/onnxruntime/pull/32120), and
  cross entropy that is no mean.
* ``GatherGrad`` waits for the number of different indices.

All others that prepared graphs have take what they need by value (``TArray``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir

from dsd_ort.rewrite.element_types import key
from dsd_ort.rewrite.fold import RANDOM
from dsd_ort.rewrite.site import constant_value, place

PARTS = 32
"""Most parts of a Split or Concat whose addresses are arguments of the kernel."""

_BODY = "the host goes through its body"
_DRAWS = "the host draws its seed"
_SIZE = "data decides how large its output is"
_COPIES = "it copies from the host's memory"

UNSAFE: dict[str, str] = {
    **dict.fromkeys(("If", "Loop", "Scan"), _BODY),
    **dict.fromkeys(sorted(RANDOM - {"Dropout"}), _DRAWS),
    **dict.fromkeys(("Compress", "NonMaxSuppression", "NonZero", "Unique"), _SIZE),
    **dict.fromkeys(("GRU", "GatherND", "LSTM", "RNN", "ScatterND", "com.microsoft.GatherNDGrad"), _COPIES),
    "com.microsoft.GatherGrad": "it waits for the device",
}
"""Operator → why it cannot be in a recording."""


def _uneven(node: ir.Node) -> bool:
    """Are the parts of Concat or Split not all equal, or more than :data:`PARTS`, or not known?"""
    parts = node.inputs if "Concat" in node.op_type else node.outputs
    axis = node.attributes.get_int("axis", 0)
    lengths = {None if value is None or value.shape is None else value.shape[axis] for value in parts}
    return len(parts) > PARTS or len(lengths) > 1 or not isinstance(lengths.pop(), int)


def _broadcast(node: ir.Node) -> bool:
    """Are the batches of a product other than equally many, or one?"""
    shapes = [None if value is None or value.shape is None else list(value.shape) for value in node.inputs[:2]]
    if any(shape is None or not all(isinstance(size, int) for size in shape) for shape in shapes):
        return True
    a, b = (math.prod(shape[:-2]) for shape in shapes if shape is not None)
    return not (b in (1, a) and (b == a or len(shapes[1] or ()) == 2))


def _no_mean(node: ir.Node) -> bool:
    return node.attributes.get_string("reduction", "mean") != "mean"


def _drops(node: ir.Node) -> bool:
    """Does a Dropout drop anything?  In inference it is gone before a session runs."""
    training = node.inputs[2] if len(node.inputs) > 2 else None
    fixed = constant_value(training)
    return training is not None and (fixed is None or bool(fixed.any()))


_LOSSES = ("SoftmaxCrossEntropyLoss", "com.microsoft.SoftmaxCrossEntropyLossGrad")
_LOSSES_TOO = ("com.microsoft.SoftmaxCrossEntropyLossInternal", "com.microsoft.SoftmaxCrossEntropyLossInternalGrad")

UNSAFE_IF: dict[str, tuple[Callable[[ir.Node], bool], str]] = {
    "Dropout": (_drops, _DRAWS),
    "Concat": (_uneven, f"{_COPIES}, as its parts are not equal and {PARTS} at most"),
    "Split": (_uneven, f"{_COPIES}, as its parts are not equal and {PARTS} at most"),
    "MatMul": (_broadcast, f"{_COPIES}, as its batches are broadcast"),
    "com.microsoft.FusedMatMul": (_broadcast, f"{_COPIES}, as its batches are broadcast"),
    **dict.fromkeys((*_LOSSES, *_LOSSES_TOO), (_no_mean, f"{_COPIES}, as it is no mean")),
}
"""Operator → a condition, and why a node that meets it cannot be in a recording."""


def obstacles(model: ir.Model) -> tuple[str, ...]:
    """What keeps *model* from being recorded: one line for each operator and reason, with the first such node.

    Args:
        model: with the sizes of one batch (:mod:`~.specialize`), in the form that a session gets.
    """
    found: dict[tuple[str, str], str] = {}
    for node in model.graph:
        why = UNSAFE.get(key(node))
        condition, reason = UNSAFE_IF.get(key(node), (None, ""))
        if condition is not None and condition(node):
            why = reason
        if why is not None:
            found.setdefault((key(node), why), f"{place(node)}: {why}")
    return tuple(found.values())


def can_be_recorded(model: ir.Model) -> bool:
    """Is there no obstacle?"""
    return not obstacles(model)
