"""Broadcasting along axes whose length is known at run time only.

A gradient has to be summed over every axis along which its operand was broadcast.  ONNX Runtime's builder decides that
from static shapes, and takes a symbolic length for equal to any other but a fixed 1: an operand that turns out to have
length 1 gets a wrong gradient, without an error.  Only where it does not know an operand's rank does it decide at run
time.  So an operand of an uncertain length goes through a Reshape to its own shape, written so that nobody infers it.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.rewrite.site import Site


def covers(value: ir.Value, other: ir.Value) -> bool:
    """Whether broadcasting against *other* surely leaves the shape of *value* as it is."""
    if other.shape is not None and other.shape.rank() == 0:
        return True
    if value.shape is None or other.shape is None:
        return False
    pairs = zip(reversed(value.shape), reversed(other.shape), strict=False)
    return len(value.shape) >= len(other.shape) and all(b == 1 or _equal(a, b) for a, b in pairs)


def uncertain(value: ir.Value, other: ir.Value, *, ignoring: int = 0) -> bool:
    """Whether some length of *value* may turn out to be 1 where *other*'s is longer; the last *ignoring* axes aside."""
    if value.shape is None or other.shape is None:
        return False
    pairs = list(zip(reversed(value.shape), reversed(other.shape), strict=False))[ignoring:]
    return any(not isinstance(a, int) and b != 1 and not _equal(a, b) for a, b in pairs)


def _equal(a: int | ir.SymbolicDim, b: int | ir.SymbolicDim) -> bool:
    return a == b and (isinstance(a, int) or a.value is not None)


def opaque(site: Site, value: ir.Value) -> ir.Value:
    """*value* itself, but of a rank that cannot be inferred: Compress keeps all lengths, as none is negative."""
    shape = site.Shape(value)
    return site.Reshape(value, site.Compress(shape, site.GreaterOrEqual(shape, 0)))


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
