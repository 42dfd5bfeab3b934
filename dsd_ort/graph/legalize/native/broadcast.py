"""Broadcasting along axes whose length is known at run time only.

A gradient has to be summed over every axis along which its operand was broadcast.  ONNX Runtime's builder decides that
from static shapes, and takes a symbolic length for equal to any other but a fixed 1: an operand that turns out to have
length 1 gets a wrong gradient, without an error.  Only where it does not know an operand's rank does it decide at run
time.  So an operand of an uncertain length goes through a Reshape to its own shape, written so that nobody infers it.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.graph.legalize.rules.broadcast import covers, equal, opaque
from dsd_ort.rewrite.site import Site


def elementwise(site: Site) -> ir.Value | None:
    """The same with broadcasting decided at run time, as some lengths are known then only"""
    operands = [site.input(i) for i in range(len(site.node.inputs))]
    new = decided_at_run_time(site, operands)
    return None if new == operands else site.op(site.node.op_type, *new, **site.attributes())


def gemm(site: Site) -> ir.Value | None:
    """The same with broadcasting decided at run time, as some lengths are known then only"""
    c = site.optional(2)
    if c is None or not site.path.carries(c) or not uncertain(c, site.node.outputs[0]):
        return None
    return site.Gemm(site.input(0), site.input(1), opaque(site, c), **site.attributes())


def expand(site: Site) -> ir.Value | None:
    """The same with broadcasting decided at run time, as some lengths are known then only"""
    value, y = site.input(0), site.node.outputs[0]
    unsure = value.shape is not None and not value.shape.is_static() if y.shape is None else uncertain(value, y)
    return site.Expand(opaque(site, value), site.input(1)) if unsure else None


def uncertain(value: ir.Value, other: ir.Value, *, ignoring: int = 0) -> bool:
    """Whether some length of *value* may turn out to be 1 where *other*'s is longer; the last *ignoring* axes aside."""
    if value.shape is None or other.shape is None:
        return False
    pairs = list(zip(reversed(value.shape), reversed(other.shape), strict=False))[ignoring:]
    return any(not isinstance(a, int) and b != 1 and not equal(a, b) for a, b in pairs)


def decided_at_run_time(site: Site, operands: Sequence[ir.Value], *, ignoring: int = 0) -> list[ir.Value]:
    """*operands*, those opaque that carry gradient and are of an uncertain length."""

    def unsure(value: ir.Value) -> bool:
        return site.path.carries(value) and any(uncertain(value, other, ignoring=ignoring) for other in operands)

    return [opaque(site, value) if unsure(value) else value for value in operands]


def expanded(site: Site, value: ir.Value, *others: ir.Value) -> ir.Value:
    """*value* with the shape that broadcasting against *others* gives it; the gradient of Expand sums rightly."""
    alike = value  # Some value of the same shape, as far as shapes are known.
    for other in others:
        if not covers(alike, other):
            if uncertain(alike, other):
                value = opaque(site, value)
            value = site.Expand(value, site.Shape(other))
            alike = other if covers(other, alike) else value
    return value
