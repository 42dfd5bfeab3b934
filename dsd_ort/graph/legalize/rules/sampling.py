"""Values of an image at computed points (GridSample, RoiAlign), and such points (AffineGrid).

Along each axis a point reads a few *taps*: positions i_k with weights w_k(point).  Over all axes the taps are all
combinations and the weights their products, y[p] = Σ_k w_k(p)·x[i_k(p)]: one GatherND for the values, whose gradient
adds into the image, and one product with the weights, whose gradient reaches the points.  Positions are whole numbers,
through which no gradient passes: their derivative is 0 almost everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.legalize.rules.separable import length, positions
from dsd_ort.rewrite.site import Site

_A = -0.75
"""GridSample's cubic coefficient."""


class Taps(NamedTuple):
    """What points read along one axis."""

    places: ir.Value
    """int64[B, P, K], inside of the image."""
    weights: ir.Value
    """f32[B, P, K]"""
    size: ir.Value
    """The axis' length, int64[1]."""


def grid_sample(site: Site) -> ir.Value:
    """A GatherND of the pixels around each point, times their weights"""
    x, grid, attributes = site.input(0), site.input(1), site.node.attributes
    rank, mode = site.rank(x), attributes.get_string("mode", "bilinear")
    if mode == "nearest" and site.path.carries(grid):
        raise site.refusal(
            "with mode = 'nearest' has a derivative of zero with respect to its grid, which depends on a parameter",
            "use another mode, or freeze the parameters that the grid depends on",
        )
    points = site.several("Split", rank - 2, grid, axis=-1, num_outputs=rank - 2)
    taps = [_grid_taps(site, length(site, x, axis), points[rank - 1 - axis], mode) for axis in range(2, rank)]
    index, weight = combined(site, taps)
    read = site.GatherND(_pixels(site, x), site.Unsqueeze(index, [-1]), batch_dims=1)
    sampled = _weighted_sum(site, weight, read)
    shape = site.Concat(site.Shape(x, end=2), site.Shape(grid, start=1, end=-1), axis=0)
    return site.Reshape(site.Transpose(sampled, perm=[0, 2, 1]), shape)


def _whole(site: Site, x: ir.Value) -> ir.Value:
    return site.Cast(x, to=ir.DataType.INT64)


def _real(site: Site, x: ir.Value) -> ir.Value:
    return site.Cast(x, to=ir.DataType.FLOAT)


def _pixels(site: Site, x: ir.Value) -> ir.Value:
    """[N, C, …] → [N, pixels, C]"""
    return site.Transpose(site.Reshape(x, [0, 0, -1]), perm=[0, 2, 1])


def _weighted_sum(site: Site, weight: ir.Value, read: ir.Value) -> ir.Value:
    """f32[B, P, K] and f32[B, P, K, C] → f32[B, P, C]"""
    return site.Squeeze(site.MatMul(site.Unsqueeze(weight, [2]), read), [2])


def combined(site: Site, taps: Sequence[Taps]) -> tuple[ir.Value, ir.Value]:
    """Position in the flattened image, and weight, of all combinations: both [B, P, ΠK]."""
    index, weight, _ = taps[0]
    for axis in taps[1:]:
        rows = site.Mul(site.Unsqueeze(index, [3]), axis.size)
        index = site.Reshape(site.Add(rows, site.Unsqueeze(axis.places, [2])), [0, 0, -1])
        weight = site.Mul(site.Unsqueeze(weight, [3]), site.Unsqueeze(axis.weights, [2]))
        weight = site.Reshape(weight, [0, 0, -1])
    return index, weight


def _grid_taps(site: Site, size: ir.Value, point: ir.Value, mode: str) -> Taps:
    """The taps of normalised coordinates: -1 and 1 are the image's ends, or the centres of its outermost pixels."""
    attributes = site.node.attributes
    corners = attributes.get_int("align_corners", 0)
    extent = _real(site, size)
    at = site.Add(site.Reshape(point, [0, -1, 1]), 1.0)
    if corners:
        at = site.Mul(site.Div(at, 2.0), site.Sub(extent, 1.0))
    else:
        at = site.Div(site.Sub(site.Mul(at, extent), 1.0), 2.0)
    if mode == "nearest":
        first, offsets = _whole(site, site.Round(at)), [0]
        weight = site.Expand(1.0, site.Shape(first))
    else:
        first = _whole(site, site.Floor(at))
        offsets, weight = _weights(site, site.Sub(at, _real(site, first)), mode)
    index = site.Add(first, offsets)
    last = site.Sub(size, [1])
    padding = attributes.get_string("padding_mode", "zeros")
    if padding == "zeros":
        inside = site.And(site.GreaterOrEqual(index, [0]), site.LessOrEqual(index, last))
        weight = site.Mul(weight, _real(site, inside))
    elif padding == "reflection":
        index = _reflected(site, index, size, corners)
    return Taps(site.Min(site.Max(index, [0]), last), weight, size)


def _weights(site: Site, t: ir.Value, mode: str) -> tuple[list[int], ir.Value]:
    """Offsets from the pixel in front of the point, and weights, f32[…, K], at distance *t* behind it."""
    u = site.Sub(1.0, t)
    if mode in ("bilinear", "linear"):
        return [0, 1], site.Concat(u, t, axis=-1)
    near, far = (
        [_polynomial(site, d, [_A + 2, -_A - 3, 0.0, 1.0]) for d in (t, u)],
        [_polynomial(site, site.Add(d, 1.0), [_A, -5 * _A, 8 * _A, -4 * _A]) for d in (t, u)],
    )
    return [-1, 0, 1, 2], site.Concat(far[0], near[0], near[1], far[1], axis=-1)


def _polynomial(site: Site, t: ir.Value, coefficients: Sequence[float]) -> ir.Value:
    """Horner's scheme, as ONNX Runtime computes it."""
    y = site.Mul(t, coefficients[0])
    for coefficient in coefficients[1:-1]:
        y = site.Mul(site.Add(y, coefficient) if coefficient else y, t)
    return site.Add(y, coefficients[-1])


def _reflected(site: Site, index: ir.Value, size: ir.Value, corners: int) -> ir.Value:
    """There and back: around the outermost pixels, with period 2L - 2, or around the image's ends, with 2L."""
    period = site.Sub(site.Mul(size, [2]), [2 * corners])
    there = site.Mod(index, site.Max(period, [1]))  # An image of one pixel has a period of 0.
    return site.Min(there, site.Sub(site.Sub(period, [1 - corners]), there))


def roi_align(site: Site) -> ir.Value:
    """A GatherND of the pixels around each sample, times their weights, averaged or the greatest of them"""
    x, rois, batch, attributes = site.input(0), site.input(1), site.input(2), site.node.attributes
    sizes = [attributes.get_int(name, 1) for name in ("output_height", "output_width")]
    bins = np.indices(sizes).reshape(2, -1, 1).astype(np.float32)
    scaled = site.Mul(rois, attributes.get_float("spatial_scale", 1.0))
    if half := attributes.get_string("coordinate_transformation_mode", "half_pixel") == "half_pixel":
        scaled = site.Sub(scaled, 0.5)
    x0, y0, x1, y1 = (site.Unsqueeze(corner, [2]) for corner in site.several("Split", 4, scaled, axis=1, num_outputs=4))
    axes = [
        _roi_taps(site, length(site, x, 2), (y0, y1), bins[0], sizes[0], half=half),
        _roi_taps(site, length(site, x, 3), (x0, x1), bins[1], sizes[1], half=half),
    ]
    index, weight = combined(site, [taps for taps, _ in axes])
    image = site.Mul(site.Unsqueeze(batch, [1, 2]), site.Mul(axes[0][0].size, axes[1][0].size))
    pixels = site.Reshape(_pixels(site, x), site.Concat([-1], length(site, x, 1), axis=0))
    read = site.GatherND(pixels, site.Unsqueeze(site.Add(index, image), [-1]))
    if attributes.get_string("mode", "avg") == "avg":
        pooled = _weighted_sum(site, weight, read)
    else:
        pooled = _greatest(site, site.Mul(site.Unsqueeze(weight, [3]), read), [exists for _, exists in axes])
    shape = site.Concat(site.Shape(rois, end=1), length(site, x, 1), sizes, axis=0)
    return site.Reshape(site.Transpose(pooled, perm=[0, 2, 1]), shape)


def _roi_taps(
    site: Site, size: ir.Value, ends: tuple[ir.Value, ir.Value], bins: np.ndarray, count: int, *, half: bool
) -> tuple[Taps, ir.Value]:
    """The taps of all samples in *bins*, f32[P, 1], of *count* a region, and which of them exist, bool[R, 1, K].

    Where their number is not given it is ⌈length of a bin⌉, different for each region: then as many as for the longest,
    most of which do not exist, have no weight.
    """
    attributes = site.node.attributes
    extent = site.Sub(ends[1], ends[0])
    if not half:
        extent = site.Max(extent, 1.0)
    width = site.Div(extent, float(count))
    given = attributes.get_int("sampling_ratio", 0)
    whole = site.constant(np.full((1, 1, 1), given)) if given > 0 else _whole(site, site.Ceil(width))
    most = site.Max(site.Reshape(site.ReduceMax(whole, keepdims=0), [1]), [1])
    number, sample = _real(site, whole), _real(site, positions(site, most))
    step = site.Div(width, site.Max(number, 1.0))
    at = site.Add(site.Add(ends[0], site.Mul(width, bins)), site.Mul(site.Add(sample, 0.5), step))
    limit = _real(site, size)
    exists = site.Less(sample, number)
    counts = site.And(exists, site.And(site.GreaterOrEqual(at, -1.0), site.LessOrEqual(at, limit)))
    at = site.Min(site.Max(at, 0.0), site.Sub(limit, 1.0))
    low = _whole(site, site.Floor(at))
    share = _real(site, counts)
    if attributes.get_string("mode", "avg") == "avg":
        share = site.Div(share, site.Max(number, 1.0))
    t = site.Sub(at, _real(site, low))
    weight = site.Concat(site.Mul(site.Sub(1.0, t), share), site.Mul(t, share), axis=-1)
    index = site.Concat(low, site.Min(site.Add(low, [1]), site.Sub(size, [1])), axis=-1)
    return Taps(index, weight, size), site.Concat(exists, exists, axis=-1)


def _greatest(site: Site, values: ir.Value, exists: Sequence[ir.Value]) -> ir.Value:
    """The greatest of *values*, f32[R, P, K, C], that exist; 0 where there is none.

    As ONNX defines it, of the weighted pixels, not of the samples interpolated from them.
    """
    rows, columns = exists
    both = site.And(site.Unsqueeze(rows, [3]), site.Unsqueeze(columns, [2]))  # bool[R, 1, K_h, K_w]
    both = site.Reshape(both, [0, 1, -1, 1])
    greatest = site.ReduceMax(site.Where(both, values, float("-inf")), [2], keepdims=0)
    some = site.Cast(site.ReduceMax(_whole(site, both), [2], keepdims=0), to=ir.DataType.BOOL)
    return site.Where(some, greatest, 0.0)


def affine_grid(site: Site) -> ir.Value:
    """A product of the homogeneous coordinates of all pixels with the transformations"""
    theta, size = site.input(0), site.input(1)
    axes = site.size(theta, 1)
    lengths = site.Slice(size, [2], [2 + axes])
    coordinates = []
    for axis in range(axes):
        count = site.Slice(lengths, [axis], [axis + 1])
        span = site.Sub(count, [1])
        twice = site.Sub(site.Mul(positions(site, count), [2]), span)  # -(L - 1), …, L - 1
        whole = count
        if site.node.attributes.get_int("align_corners", 0):
            whole = site.Max(span, [1])
            # An axis of length 1 is at 1 in ONNX Runtime; at -1 in ONNX, at 0 in PyTorch.
            twice = site.Add(twice, site.Cast(site.Equal(span, [0]), to=ir.DataType.INT64))
        centres = site.Div(_real(site, twice), _real(site, whole))
        column = site.Reshape(centres, [-1 if k == axis else 1 for k in range(axes)])
        coordinates.append(site.Reshape(site.Expand(column, lengths), [-1, 1]))
    ones = site.Add(site.Mul(coordinates[0], 0.0), 1.0)
    points = site.Concat(*reversed(coordinates), ones, axis=1)  # f32[pixels, axes + 1]
    moved = site.MatMul(points, site.Transpose(theta, perm=[0, 2, 1]))
    return site.Reshape(moved, site.Concat([-1], lengths, [axes], axis=0))
