"""Linear maps along single axes: y = A·x with a matrix A, [outputs, L], an axis.

Matrix products are as fast on the CPU as any other form of such a map, often several times faster (Gather's gradient
takes a lock for every entry, Expand's adds up strided), and need no gradient but a product's.  Where A is not written
down here, ONNX Runtime itself computes it: a linear operator f has A = f(1), what it makes of the unit vectors.  The
matrix of an axis of a fixed length is a constant, which ONNX Runtime folds when the session is opened.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.rewrite.nodes import Operand
from dsd_ort.rewrite.site import Site

Matrix: TypeAlias = "ir.Value | npt.NDArray[np.float32]"

LONGEST = 1024
"""Of the axes that are multiplied with a matrix: 4 MiB, if it is square."""


def length(site: Site, x: ir.Value, axis: int) -> ir.Value:
    """The length of *x* along *axis* ≥ 0, int64[1]."""
    size = site.shape(x)[axis]
    return site.constant([size]) if isinstance(size, int) else site.Shape(x, start=axis, end=axis + 1)


def positions(site: Site, count: Operand) -> ir.Value:
    """0, 1, … count - 1, int64[count], for a *count* of int64[1]."""
    return site.Range(0, site.Squeeze(count, [0]), 1)


def identity(site: Site, size: ir.Value) -> ir.Value:
    """The unit matrix, f32[size, size], for a *size* of int64[1]."""
    return site.EyeLike(site.ConstantOfShape(site.Concat(size, size, axis=0)))


def is_short(site: Site, x: ir.Value, axis: int) -> bool:
    """Whether the matrix of *axis* is small; where its length is unknown, an image's is, a sequence's may not be."""
    size = site.shape(x)[axis]
    return size <= LONGEST if isinstance(size, int) else site.rank(x) > 3


def along(site: Site, x: ir.Value, rank: int, axis: int, matrix: Matrix) -> ir.Value:
    """*x*, of *rank* axes, times *matrix*, [outputs, L], along *axis* ≥ 0."""
    if rank == 1:
        return site.Squeeze(site.MatMul(matrix, site.Unsqueeze(x, [1])), [1])
    if axis == rank - 2:
        return site.MatMul(matrix, x)
    transposed = matrix.T.copy() if isinstance(matrix, np.ndarray) else site.Transpose(matrix, perm=[1, 0])
    if axis == rank - 1:
        return site.MatMul(x, transposed)
    swap = [rank - 1 if i == axis else axis if i == rank - 1 else i for i in range(rank)]
    return site.Transpose(site.MatMul(site.Transpose(x, perm=swap), transposed), perm=swap)
