"""Resize, and the Upsample that it was before opset 10.

Whatever its mode, Resize is separable, and linear in what it resizes: along each axis y = A·x, with the matrix A that
Resize itself makes of the unit matrix.  So all modes, coordinate transformations and policies are those of the ONNX
Runtime that the model ships to, with all its roundings, whether the lengths are fixed or known at run time only.

It is affine with ``tf_crop_and_resize``: what lies outside of the image is ``extrapolation_value``, which is what
Resize makes of zeros.

Entries that are only repeated, each as often, need no matrix: the gradient of those that come of one is added up.

The matrix may have a coordinate transformation of opset 19 (``half_pixel_symmetric``): to ONNX it is an attribute's
value, not part of the operator's signature, and ONNX Runtime's Resize of opset 18 knows it too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.legalize.extents import entry
from dsd_ort.graph.legalize.rules.separable import LONGEST, along, identity, is_short, length, positions
from dsd_ort.rewrite.autograd import Operator, operator
from dsd_ort.rewrite.nodes import Operand, constant_value
from dsd_ort.rewrite.site import Site

_ROI, _SCALES, _SIZES = 1, 2, 3
_REPEATS = {("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil")}
"""By which transformations and roundings output i of an axis k times as long is entry ⌊i/k⌋."""


def resize(site: Site) -> ir.Value:
    """A product with one interpolation matrix an axis; along sequences, a Gather of each tap; whole repeats stay"""
    x, attributes = site.input(0), site.node.attributes
    rank = site.rank(x)
    if (times := _repeats(site)) is not None:
        return site.call(_repeated(times), x)[0]
    axes = attributes.get_ints("axes", range(rank))
    if any(axis < 0 for axis in axes):
        raise site.refusal(
            "has negative axes, which ONNX Runtime 1.19 does not resize", "export the model with axes counted from 0"
        )
    y = x
    for i, axis in enumerate(axes):
        if not _keeps(site, i, axis):
            y = _resized(site, y, axes, i)
    outside = attributes.get_float("extrapolation_value", 0.0)
    if outside and _crops(site):
        zeros = site.ConstantOfShape(site.Shape(x))
        y = site.Add(y, site.Resize(zeros, *(_given(site, k) for k in (_ROI, _SCALES, _SIZES)), **site.attributes()))
    return site.Identity(y) if y is x else y


def _repeats(site: Site) -> tuple[int, ...] | None:
    """How often each entry is repeated along the axes behind the first two; None where it is not all that is done."""
    attributes, x = site.node.attributes, site.input(0)
    transformation = attributes.get_string("coordinate_transformation_mode", "half_pixel")
    rounding = attributes.get_string("nearest_mode", "round_prefer_floor")
    if attributes.get_string("mode", "nearest") != "nearest" or (transformation, rounding) not in _REPEATS:
        return None
    rank = site.rank(x)
    if rank not in (3, 4, 5) or "axes" in attributes or _policy(site) != "stretch":
        return None
    factors, sizes = constant_value(_given(site, _SCALES)), constant_value(_given(site, _SIZES))
    if factors is None and sizes is not None:
        lengths = [size if isinstance(size, int) else 0 for size in site.shape(x)]
        known = [asked / length if length else 0 for asked, length in zip(sizes[2:], lengths[2:], strict=True)]
        factors = np.array([float(_keeps(site, 0, 0)), float(_keeps(site, 1, 1)), *known])
    if factors is None or (factors[:2] != 1).any() or (factors < 1).any() or (factors != np.rint(factors)).any():
        return None
    if (factors == 1).all():
        return None
    return tuple(int(factor) for factor in factors[2:])


@cache
def _repeated(times: tuple[int, ...]) -> Operator:
    """Y[n, c, i, …] = X[n, c, ⌊i/k⌋, …]: dX is k times the mean of the k entries of dY that come of one."""
    scales, kernel = ", ".join(map(str, (1, 1, *times))), ", ".join(map(str, times))
    how = 'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"'
    return operator(
        "Repeated",
        forward=f"(x) => (y) {{ s = Constant <value = float[{len(times) + 2}] {{ {scales} }}> () "
        f"y = Resize <{how}> (x, , s) }}",
        backward=f"(dy) => (dx) {{ m = AveragePool <kernel_shape = [{kernel}], strides = [{kernel}]> (dy) "
        f"k = Constant <value_float = {math.prod(times)}.0> () f = CastLike (k, m) dx = Mul (m, f) }}",
    )


def _resized(site: Site, y: ir.Value, axes: Sequence[int], i: int) -> ir.Value:
    """*y* resized along ``axes[i]``."""
    x, axis, attributes = site.input(0), axes[i], site.node.attributes
    mode = attributes.get_string("mode", "nearest")
    wide = mode == "cubic" or attributes.get_int("antialias", 0) == 1
    size = site.shape(x)[axis]
    if is_short(site, x, axis) or (wide and not isinstance(size, int)) or _policy(site) != "stretch":
        return along(site, y, site.rank(x), axis, _matrix(site, axes, i))
    if wide:
        raise site.refusal(
            f"with mode = {mode!r} or antialias cannot be rewritten for training along an axis longer than {LONGEST}",
            "use another mode",
        )
    return _tap_by_tap(site, y, axes, i, nearest=mode == "nearest")


def _tap_by_tap(site: Site, y: ir.Value, axes: Sequence[int], i: int, *, nearest: bool) -> ir.Value:
    """*y* resized along a long axis: of the entries 0, 1, … L - 1 Resize makes the position c of each output.

    Linear interpolation reads at most the entries ⌊c⌉ - 1, ⌊c⌉ and ⌊c⌉ + 1.  The weight of each is what Resize makes
    of every third entry, as no two of them are in the same third.
    """
    size = length(site, site.input(0), axes[i])
    numbers = positions(site, size)
    thirds = site.Equal(site.Mod(numbers, [3]), np.arange(3)[:, None])
    rows = [site.Unsqueeze(numbers, [0])] if nearest else [site.Unsqueeze(numbers, [0]), _whole(site, thirds)]
    made = site.Resize(_real(site, site.Concat(*rows, axis=0)), *_of_axis(site, axes, i), axes=[1], **_options(site))
    middle = _whole(site, site.Round(site.Squeeze(site.Slice(made, [0], [1], [0]), [0])))
    if nearest:
        picked = site.Gather(y, middle, axis=axes[i])
        return site.Mul(picked, _inside(site, axes, i)) if _crops(site) else picked
    weights, terms = site.Slice(made, [1], [4], [0]), []
    behind = site.rank(site.input(0)) - axes[i] - 1
    for offset in (-1, 0, 1):
        place = site.Add(middle, [offset])
        third = site.Unsqueeze(site.Mod(place, [3]), [0])
        weight = site.Reshape(site.GatherElements(weights, third, axis=0), [-1, *[1] * behind])
        place = site.Min(site.Max(place, [0]), site.Sub(size, [1]))
        terms.append(site.Mul(site.Gather(y, place, axis=axes[i]), weight))
    return site.Add(site.Add(terms[0], terms[1]), terms[2])


def _inside(site: Site, axes: Sequence[int], i: int) -> ir.Value:
    """What Resize makes of ones: 0 outside of a crop."""
    ones = site.Expand(1.0, site.Concat([1], length(site, site.input(0), axes[i]), axis=0))
    made = site.Resize(ones, *_of_axis(site, axes, i), axes=[1], **_options(site))
    return site.Reshape(made, [-1, *[1] * (site.rank(site.input(0)) - axes[i] - 1)])


def _whole(site: Site, x: ir.Value) -> ir.Value:
    return site.Cast(x, to=ir.DataType.INT64)


def _real(site: Site, x: ir.Value) -> ir.Value:
    return site.Cast(x, to=ir.DataType.FLOAT)


def _policy(site: Site) -> str:
    return site.node.attributes.get_string("keep_aspect_ratio_policy", "stretch")


def _options(site: Site) -> dict[str, ir.Attr]:
    return site.attributes("axes", "extrapolation_value", "keep_aspect_ratio_policy")


def _of_axis(site: Site, axes: Sequence[int], i: int) -> tuple[Operand, Operand, Operand]:
    """Region, scale and size of axis ``axes[i]``."""
    roi, scales, sizes = (_given(site, k) for k in (_ROI, _SCALES, _SIZES))
    return _entries(site, roi, [i, len(axes) + i]), _entries(site, scales, [i]), _entries(site, sizes, [i])


def _crops(site: Site) -> bool:
    return site.node.attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize"


def _given(site: Site, index: int) -> ir.Value | None:
    """Input *index*, which counts as absent if it is empty, as before opset 13."""
    value = site.optional(index)
    known = constant_value(value)
    return None if known is not None and not known.size else value


def _matrix(site: Site, axes: Sequence[int], i: int) -> ir.Value:
    """The matrix of axis ``axes[i]``, f32[outputs, L]."""
    x = site.input(0)
    unit = identity(site, length(site, x, axes[i]))
    sizes, policy, options = _given(site, _SIZES), _policy(site), _options(site)
    if policy == "stretch" or sizes is None or len(axes) == 1:
        return site.Resize(unit, *_of_axis(site, axes, i), axes=[0], **options)
    if _crops(site):
        raise site.refusal(
            f"with tf_crop_and_resize and keep_aspect_ratio_policy = {policy!r} cannot be rewritten for training",
            "export the model with scales in place of the policy",
        )
    # The policy takes one scale from all axes: the unit matrix stands along this one, ones along the others.
    alone = [2 + k for k in range(len(axes)) if k != i]
    others = [site.constant([1]) if k == i else length(site, x, axis) for k, axis in enumerate(axes)]
    spread = site.Expand(site.Unsqueeze(unit, [0, *alone]), site.Concat([1, 1], *others, axis=0))
    options |= {"keep_aspect_ratio_policy": site.node.attributes["keep_aspect_ratio_policy"]}
    resized = site.Resize(spread, None, None, sizes, axes=list(range(2, 2 + len(axes))), **options)
    rows = site.Slice(resized, [0] * len(alone), [1] * len(alone), alone)
    return site.Transpose(site.Squeeze(rows, [0, *alone]), perm=[1, 0])


def _entries(site: Site, value: ir.Value | None, places: list[int]) -> Operand:
    known = constant_value(value)
    if value is None or known is not None:
        return None if known is None else np.asarray(known[places])
    return site.Gather(value, places)


def _keeps(site: Site, i: int, axis: int) -> bool:
    """Whether *axis*, the *i*-th that may be resized, surely stays as it is."""
    roi, scales, sizes = (_given(site, k) for k in (_ROI, _SCALES, _SIZES))
    if _crops(site):
        window = constant_value(roi)
        if window is None or window[i] != 0 or window[len(window) // 2 + i] != 1:
            return False
    if sizes is None:
        factors = constant_value(scales)
        return factors is not None and bool(factors[i] == 1)
    if _policy(site) != "stretch":
        return False
    x, y = site.input(0), site.node.outputs[0]
    here, there = site.shape(x)[axis], None if y.shape is None else site.shape(y)[axis]
    asked = entry(sizes, i)
    return asked == (x, axis) or (here is not None and here in (there, asked))


def resize_before_11(site: Site) -> ir.Value:
    """Resize as it was before opset 11, and Upsample: asymmetric; nearest rounds down

    ONNX's converter leaves these attributes to their defaults, which say otherwise.  Along axes that it scales down
    ONNX Runtime rounds up, whatever ONNX said then.
    """
    x, scales, mode = site.input(0), site.input(_SCALES), site.node.attributes.get_string("mode", "nearest")

    def resized(x: ir.Value, factors: Operand, rounding: str) -> ir.Value:
        options = {"nearest_mode": rounding} if mode == "nearest" else {}
        return site.Resize(x, None, factors, mode=mode, coordinate_transformation_mode="asymmetric", **options)

    if mode != "nearest":
        return resized(x, scales, "")
    known = constant_value(scales)
    if known is None:
        return resized(resized(x, site.Max(scales, 1.0), "floor"), site.Min(scales, 1.0), "ceil")
    up, down = np.maximum(known, 1), np.minimum(known, 1)
    y = resized(x, up, "floor") if (down == 1).all() or (up != 1).any() else x
    return y if (down == 1).all() else resized(y, down, "ceil")
