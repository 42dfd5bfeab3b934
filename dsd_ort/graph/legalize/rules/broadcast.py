"""Broadcasting: whether it surely leaves a shape as it is, and values whose shape nobody shall infer."""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.site import Site


def covers(value: ir.Value, other: ir.Value) -> bool:
    """Whether broadcasting against *other* surely leaves the shape of *value* as it is."""
    if other.shape is not None and other.shape.rank() == 0:
        return True
    if value.shape is None or other.shape is None:
        return False
    pairs = zip(reversed(value.shape), reversed(other.shape), strict=False)
    return len(value.shape) >= len(other.shape) and all(b == 1 or equal(a, b) for a, b in pairs)


def equal(a: int | ir.SymbolicDim, b: int | ir.SymbolicDim) -> bool:
    """Whether two lengths are surely the same."""
    return a == b and (isinstance(a, int) or a.value is not None)


def opaque(site: Site, value: ir.Value) -> ir.Value:
    """*value* itself, but of a rank that cannot be inferred: Compress keeps all lengths, as none is negative."""
    shape = site.Shape(value)
    return site.Reshape(value, site.Compress(shape, site.GreaterOrEqual(shape, 0)))
