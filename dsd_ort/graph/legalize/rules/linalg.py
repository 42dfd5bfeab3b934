"""Determinants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.autograd import Operator, operator
from dsd_ort.rewrite.site import Site

LARGEST = 64
"""Rows of a matrix; the gradient takes memory for the fourth power of it."""


def determinant(site: Site) -> ir.Value:
    """Det, whose gradient is the matrix of cofactors: it is right for singular matrices too"""
    x = site.input(0)
    n = site.size(x, -1)
    if n > LARGEST:
        raise site.refusal(f"has a gradient here up to {LARGEST} rows, and this matrix has {n}", "compute it otherwise")
    if n == 1:
        return site.Squeeze(x, [-2, -1])
    (y,) = site.call(_determinants(n), site.Reshape(x, [-1, n, n]))
    return site.Reshape(y, site.Shape(x, end=-2))


def _determinants(n: int) -> Operator:
    """Of matrices [M, n, n]: ∂det X/∂X_ij = (-1)^{i+j} · det(X without row i and column j)."""
    others = [[k for k in range(n) if k != i] for i in range(n)]
    rows = f"int64[{n}, {n - 1}] {{{_numbers(np.ravel(others))}}}"
    signs = (-1) ** np.add.outer(range(n), range(n))
    return operator(
        "Det",
        forward="(x) => (y) { y = Det (x) }",
        backward=f"""(dy, x) => (dx) {{
            others = Constant <value = {rows}> ()
            signs = Constant <value = float[{n}, {n}] {{{_numbers(signs.ravel())}}}> ()
            last = Constant <value_ints = [1, 2]> ()
            rows = Gather <axis = 1> (x, others)
            blocks = Gather <axis = 3> (rows, others)
            minors = Transpose <perm = [0, 1, 3, 2, 4]> (blocks)
            determinants = Det (minors)
            cofactors = Mul (signs, determinants)
            slope = Unsqueeze (dy, last)
            dx = Mul (slope, cofactors)
        }}""",
    )


def _numbers(values: np.ndarray) -> str:
    return ", ".join(map(str, values.tolist()))
