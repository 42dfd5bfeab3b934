"""Products.  ``Aᵀ`` has its last two axes exchanged; batches, the axes in front, are broadcast."""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.graph.differentiate.adjoint import Adjoint, Gradients
from dsd_ort.rewrite.shapes import dims_of


def matmul(at: Adjoint) -> Gradients:
    """Y = A·B: dA = dY·Bᵀ and dB = Aᵀ·dY.  A vector is a row of A, or a column of B."""
    (a, b), dy = at.operands, at.dy
    row, column = dims_of(a) is not None and at.rank(a) == 1, dims_of(b) is not None and at.rank(b) == 1
    if not (row or column):
        return _of_matrices(at, a, b, dy)
    a, b = at.Unsqueeze(a, [0]) if row else a, at.Unsqueeze(b, [1]) if column else b
    da, db = _of_matrices(at, a, b, at.Unsqueeze(dy, [-2] * row + [-1] * column))
    return at.Squeeze(da, [0]) if row else da, at.Squeeze(db, [1]) if column else db


def _of_matrices(at: Adjoint, a: ir.Value, b: ir.Value, dy: ir.Value) -> tuple[ir.Value, ir.Value]:
    ranks = [None if value.shape is None else len(value.shape) for value in (a, b)]
    if ranks == [2, 2]:
        return at.Gemm(dy, b, transB=1), at.Gemm(a, dy, transA=1)
    da = _summed(at, at.microsoft("FusedMatMul", dy, b, transB=1), a, dy)
    if ranks[0] is not None and ranks[1] == 2:  # the same B for all rows of A
        return da, at.Gemm(_rows(at, a), _rows(at, dy), transA=1)
    return da, _summed(at, at.microsoft("FusedMatMul", a, dy, transA=1), b, dy)


def _summed(at: Adjoint, product: ir.Value, x: ir.Value, dy: ir.Value) -> ir.Value:
    """*product*, which has the batches of *dy*, summed over those along which *x* was broadcast."""
    batches, sizes = dims_of(dy), dims_of(x)
    return at.summed(product, x, None if batches is None or sizes is None else [*batches[:-2], *sizes[-2:]])


def _rows(at: Adjoint, value: ir.Value) -> ir.Value:
    """*value* as one matrix of all its rows."""
    columns = (dims_of(value) or [None])[-1]
    if isinstance(columns, int) and columns:
        return at.Reshape(value, [-1, columns])
    return at.Reshape(value, at.Concat([-1], at.Gather(at.Shape(value), [-1]), axis=0))


def gemm(at: Adjoint) -> Gradients:
    """Y = α·A'·B' + β·C, where A' is A or Aᵀ and B' is B or Bᵀ: dA' = α·dY·B'ᵀ, dB' = α·A'ᵀ·dY, dC = β·dY."""
    a, b, c, dy = at.input(0), at.input(1), at.optional(2), at.dy
    attributes = at.node.attributes
    ta, tb = attributes.get_int("transA", 0), attributes.get_int("transB", 0)
    alpha, beta = attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0)

    def product(left: ir.Value, right: ir.Value, trans_left: int, trans_right: int) -> ir.Value:
        flags = {"transA": trans_left, "transB": trans_right, "alpha": alpha}
        return at.Gemm(left, right, **{name: value for name, value in flags.items() if value != (name == "alpha")})

    da = product(b, dy, tb, 1) if ta else product(dy, b, 0, 1 - tb)
    db = product(dy, a, 1, ta) if tb else product(a, dy, 1 - ta, 0)
    if c is None:
        return da, db
    dc = at.summed(dy, c)
    return da, db, dc if beta == 1 else at.Mul(dc, beta)
