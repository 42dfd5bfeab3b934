"""Quantisation that a model simulates: QuantizeLinear, DequantizeLinear on floating-point values.

q = clip(round(x / scale) + zero, low, high), y = (q - zero) · scale.  The derivative of y by x is 0 wherever it exists;
training takes that of the clipping alone instead, 1 where q was not clipped and 0 where it was (a straight-through
estimator), as PyTorch's fake quantisation does.  scale and zero are constants to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.autograd import Operator, operator
from dsd_ort.rewrite.nodes import Operand, constant_value
from dsd_ort.rewrite.operators.stops import QUANTISED
from dsd_ort.rewrite.quantised import RANGES
from dsd_ort.rewrite.site import Site

FIX = QUANTISED.fix


@cache
def _fake_quantize(low: int, high: int) -> Operator:
    bounds = f"low = Constant <value_float = {low}.0> () high = Constant <value_float = {high}.0> ()"
    level = f"{bounds} a = Div (x, scale) b = Round (a) q = Add (b, zero)"
    return operator(
        "FakeQuantize",
        forward=f"(x, scale, zero) => (y) {{ {level} c = Clip (q, low, high) d = Sub (c, zero) y = Mul (d, scale) }}",
        backward=f"(dy, x, scale, zero) => (dx) {{ {level} c = GreaterOrEqual (q, low) d = LessOrEqual (q, high) "
        "e = And (c, d) f = Cast <to = 1> (e) dx = Mul (dy, f) }",
    )


def fake_quantize(site: Site) -> Sequence[ir.Value]:
    """Rounded to the quantised numbers, with the gradient 1 inside their range and 0 outside (straight-through)"""
    quantize = site.input(0).producer()
    if quantize is None or quantize.op_type != "QuantizeLinear":
        raise site.refusal("reads quantised numbers, through which no gradient passes", FIX)
    source, (scale, zero) = Site(quantize, site.path), _grid(site.node)
    x = source.input(0)
    if not all(_equal(a, b) for a, b in zip(_grid(quantize), (scale, zero), strict=True)) or scale is None:
        raise site.refusal("has another scale or zero point than the QuantizeLinear in front of it", FIX)
    dtype = zero.dtype if zero is not None else _declared(quantize)
    if dtype not in RANGES or x.dtype not in (None, ir.DataType.FLOAT):
        raise site.refusal(f"with numbers of type {dtype} has no rule", FIX)
    level = 0.0 if zero is None else _broadcast(source, site, zero, x)
    return site.call(_fake_quantize(*RANGES[dtype]), x, _broadcast(source, site, scale, x), level)


def _grid(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """Scale and zero point."""
    inputs = [*node.inputs, None]
    return inputs[1], inputs[2]


def _equal(a: ir.Value | None, b: ir.Value | None) -> bool:
    left, right = constant_value(a), constant_value(b)
    return a is b or (left is not None and right is not None and np.array_equal(left, right))


def _declared(quantize: ir.Node) -> ir.DataType:
    declared = quantize.attributes.get_int("output_dtype", 0)
    return ir.DataType(declared) if declared else ir.DataType.UINT8


def _broadcast(source: Site, site: Site, value: ir.Value, x: ir.Value) -> Operand:
    """A scale or zero point as float32 of a shape that broadcasts against *x*: one, one per entry of an axis, or one
    per block along it.
    """
    known, attributes = constant_value(value), source.node.attributes
    numbers = site.Cast(value, to=ir.DataType.FLOAT) if known is None else site.constant(known.astype(np.float32))
    rank = site.rank(value)
    if rank == 0 or all(d == 1 for d in site.shape(value)):
        return site.Reshape(numbers, np.empty(0, np.int64)) if known is None else known.astype(np.float32).reshape(())
    axis = attributes.get_int("axis", 1)
    if rank == 1:
        trailing = site.rank(x) - axis % site.rank(x) - 1
        return site.Unsqueeze(numbers, list(range(1, trailing + 1))) if trailing else numbers
    block = attributes.get_int("block_size", 0)
    if block == 0:
        raise source.refusal("with a scale of several axes has no block size", FIX)
    return site.Gather(numbers, (np.arange(site.size(x, axis)) // block).tolist(), axis=axis)
