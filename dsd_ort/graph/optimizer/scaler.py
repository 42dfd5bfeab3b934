"""Dynamic loss scaling and clipping as a graph: what to multiply the gradients by, and whether to use them at all.

With the loss multiplied by a scale S, a power of two, the flat buffer holds G = S · Σ gᵢ, summed over m micro-batches.
One reduction, Q = Σ G², says all that has to be known::

    keep   = Q < ∞                                 false where an element is Inf or NaN
    norm   = √Q / (S·m)                            of the mean gradient
    factor = min(1, limit / (norm + 1e-6)) / (S·m)    what an update multiplies G by; 0 where it is skipped
    S′     = 2·S after `interval` updates in a row, S/2 after a skipped one, between 1 and 2²⁴

These are the numbers of PyTorch's GradScaler (Micikevicius et al. 2018, Mixed Precision Training, §3.2) and of its
clip_grad_norm_.  Nothing waits for the host: the update graphs (:mod:`~.guard`) read ``gradient_scale``,
``keep`` and ``done`` where this graph writes them.

**Range.**  G is squared as it is, which spares a copy of the buffer.  A norm of G above 1.8e19 counts as an overflow
though all elements be finite; with the greatest S that is a gradient of norm 1e12, and S halves until it fits.  Squares
below 1e-45 vanish, which no clipping needs to see.

**In place**: every ``…_new`` may be bound to the memory of the input that it succeeds.  One node alone reads such an
input, and what is written comes from that node: the scale is read once, as its half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from onnxscript import BOOL, FLOAT, script
from onnxscript import opset17 as op

if TYPE_CHECKING:  # onnxscript's annotations describe tensors, which are no types to a checker
    from typing import Any as Answer
    from typing import Any as Flat
    from typing import Any as Scalar
else:
    Flat, Scalar, Answer = FLOAT["n"], FLOAT, BOOL

_IR_VERSION = 8  # the one that came with opset 17
# ruff: noqa: PLR0917  (the inputs of an ONNX function are positional)

GREATEST = float(np.finfo(np.float32).max)
LARGEST = 2.0**24
"""The greatest scale; and up to here float32 counts updates exactly."""


class Schedule(NamedTuple):
    """How the scale of a precision begins and grows."""

    initial: float
    interval: float
    """Updates in a row after which it doubles."""


SCHEDULES = {"fp16": Schedule(2.0**16, 2000.0), "bf16": Schedule(1.0, np.inf)}
"""bfloat16 reaches as far as float32, and needs no scale."""
UNSCALED = SCHEDULES["bf16"]


@script(default_opset=op)
def scaler(
    gradient: Flat,
    scale: Scalar,
    good: Scalar,
    done: Scalar,
    skipped: Scalar,
    count: Scalar,
    limit: Scalar,
    interval: Scalar,
) -> tuple[Scalar, Answer, Scalar, Scalar, Scalar, Scalar, Scalar]:
    """``good`` counts the updates since the scale changed, ``done`` all that were made, ``skipped`` the others."""
    squares = op.ReduceSumSquare(gradient, keepdims=0)
    keep = squares <= GREATEST  # false for NaN too
    half = 0.5 * scale
    inverse = 0.5 / (half * count)
    norm = op.Sqrt(squares) * inverse
    factor = inverse * op.Min(1.0, limit / (norm + 1e-6))
    zero = op.Constant(value_float=0.0)
    gradient_scale = op.Where(keep, factor, zero)
    next_good = good + 1.0
    grows = next_good >= interval
    grown = op.Where(grows, 4.0 * half, 2.0 * half)
    scale_new = op.Max(op.Min(op.Where(keep, grown, half), LARGEST), 1.0)
    good_new = op.Where(op.And(keep, op.Not(grows)), next_good, zero)
    done_new = done + op.Cast(keep, to=1)
    skipped_new = skipped + op.Cast(op.Not(keep), to=1)
    return gradient_scale, keep, norm, scale_new, good_new, done_new, skipped_new


def scaler_graph() -> onnx.ModelProto:
    """The scaler, as the module says; all but ``gradient`` f32[n] and ``keep`` bool[] are f32[]."""
    model: onnx.ModelProto = scaler.to_model_proto(ir_version=_IR_VERSION)  # type: ignore[no-untyped-call]
    return model
