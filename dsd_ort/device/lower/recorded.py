"""Forms for CUDA of what it cannot record (:mod:`dsd_ort.rewrite.operators.cuda`), where there is an equal one.

They depend on sizes, so nothing is done where those are not known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import onnx_ir as ir

from dsd_ort.device.lower.form import Choices
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.operators.cuda import PARTS
from dsd_ort.rewrite.shapes import sizes_of
from dsd_ort.rewrite.site import Site

ONE_HOT = 1 << 26
"""Entries of a one-hot matrix up to which a gradient of rows is a product with it."""
SELECTED = 4
"""Most parts that are put together by Where."""
_SELECTED = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.INT32, ir.DataType.INT64}
"""Types that CUDA's Where has."""


def concat(site: Site, choices: Choices) -> ir.Value | None:
    """Concat of unequal parts as one of equal ones, of the length that divides all, in blocks; or by Where.

    By Where: y = Where(here is part i, Gather(part i, place in part i), …), with constant places.
    """
    axis, parts = site.node.attributes.get_int("axis", 0), [value for value in site.node.inputs if value is not None]
    shapes = [sizes_of(value) for value in parts]
    if any(shape is None for shape in shapes):
        return None
    lengths, rank = [shape[axis] for shape in shapes if shape is not None], len(shapes[0] or ())
    if 0 in lengths or (len(set(lengths)) == 1 and len(lengths) <= PARTS):
        return None
    unit = math.gcd(*lengths)
    counts = [length // unit for length in lengths]
    few = len(parts) <= SELECTED and all(value.dtype in _SELECTED | {None} for value in parts)
    if sum(counts) > PARTS and few:
        return _by_place(site, parts, lengths, axis, [1] * (rank - 1 - axis % rank))
    if max(counts) > PARTS:
        return None
    equal: list[ir.Value] = []
    for value, count in zip(parts, counts, strict=True):
        equal += [value] if count == 1 else site.several("Split", count, value, [unit] * count, axis=axis)
    return _in_blocks(site, equal, axis, sum(lengths))


def _in_blocks(site: Site, parts: list[ir.Value], axis: int, length: int) -> ir.Value:
    """Concat of equal parts; blocks are filled up with their last part, which a Slice takes off in the end."""
    filled = False
    while len(parts) > 1:
        block = math.ceil(len(parts) / math.ceil(len(parts) / PARTS))
        missing = -len(parts) % block
        filled |= missing > 0
        parts = parts + [parts[-1]] * missing
        parts = [site.Concat(*parts[at : at + block], axis=axis) for at in range(0, len(parts), block)]
    return site.Slice(parts[0], [0], [length], [axis]) if filled else parts[0]


def _by_place(
    site: Site, parts: Sequence[ir.Value], lengths: Sequence[int], axis: int, behind: Sequence[int]
) -> ir.Value | None:
    begins = [0, *accumulate(lengths)]
    places = np.arange(begins[-1])
    result: ir.Value | None = None
    order = sorted(range(len(parts)), key=lambda i: _number(parts[i]) is not None)  # a number is no Gather
    for i in order:
        number = _number(parts[i])
        if number is None or result is None:
            inside = np.clip(places - begins[i], 0, lengths[i] - 1)
            here = site.Gather(parts[i], site.constant(inside), axis=axis)
        else:
            here = site.constant(number)
        mask = (places >= begins[i]) & (places < begins[i + 1])
        result = here if result is None else site.Where(site.constant(mask.reshape(-1, *behind)), here, result)
    return result


def _number(value: ir.Value) -> np.ndarray | None:
    """The number that all of *value* is."""
    array = constant_value(value)
    one = array is not None and array.size > 0 and bool((array == array.flat[0]).all())
    return array.reshape(-1)[:1].reshape(()) if array is not None and one else None


def split(site: Site, choices: Choices) -> Sequence[ir.Value] | None:
    """Split into unequal parts as one Slice each."""
    axis, outputs = site.node.attributes.get_int("axis", 0), site.node.outputs
    shapes = [sizes_of(value) for value in outputs]
    if any(shape is None for shape in shapes):
        return None
    lengths = [shape[axis] for shape in shapes if shape is not None]
    if len(set(lengths)) == 1 and len(lengths) <= PARTS:
        return None
    ends = list(accumulate(lengths))
    return [site.Slice(site.input(0), [end - length], [end], [axis]) for end, length in zip(ends, lengths, strict=True)]


def gather_nd(site: Site, choices: Choices) -> ir.Value | None:
    """GatherND of one axis as Gather of rows: those of all batches in a row, and indices that count them."""
    x, indices = site.input(0), site.input(1)
    sizes, places = sizes_of(x), sizes_of(indices)
    batch = site.node.attributes.get_int("batch_dims", 0)
    if sizes is None or places is None or places[-1] != 1:
        return None
    batches, count = sizes[:batch], sizes[batch]
    index = site.Mod(site.Reshape(indices, places[:-1]), site.constant(np.array(count)))
    if batch:
        first = np.arange(math.prod(batches)).reshape(*batches, *[1] * (len(places) - 1 - batch)) * count
        index = site.Add(index, site.constant(first))
    rows = site.Reshape(x, [math.prod(batches) * count, *sizes[batch + 1 :]])
    return site.Gather(rows, index, axis=0)


def gather_gradient(site: Site, choices: Choices) -> ir.Value | None:
    """GatherGrad of rows: dX = Hᵀ·dY with H[n, row] = [indices[n] = row]; where H were too large, by additions."""
    shape, places, dy = constant_value(site.input(0)), sizes_of(site.input(1)), site.input(2)
    if shape is None or places is None or site.node.attributes.get_int("axis", 0) != 0:
        return None
    count, sizes = math.prod(places), [int(size) for size in shape]
    table = [sizes[0], math.prod(sizes[1:])]
    rows = site.Reshape(dy, [count, table[1]])
    if count * table[0] <= ONE_HOT:
        off_on = site.constant(np.array([0, 1], np.float32))
        which = site.Cast(site.Reshape(site.input(1), [count]), to=ir.DataType.INT64)  # as OneHot's kernels want it
        hits = site.OneHot(which, [table[0]], off_on, axis=-1)
        return site.Reshape(site.Gemm(hits, rows, transA=1), sizes)
    if choices.deterministic:
        return None
    everywhere = site.Expand(site.Reshape(site.input(1), [count, 1]), [count, table[1]])
    return site.Reshape(site.op("com.microsoft.GatherElementsGrad", rows, table, everywhere, axis=0), sizes)


def turned_product(site: Site, choices: Choices) -> ir.Value | None:
    """(A·Bᵀ)ᵀ = B·Aᵀ: what is faster on the CPU for the products of a step is two copies more on CUDA."""
    product = site.input(0).producer()
    if not _is_turned(site.node) or product is None or product.op_type != "MatMul" or product.domain:
        return None
    a, right = product.inputs[0], product.inputs[1]
    turned = None if right is None else right.producer()
    if a is None or turned is None or not _is_turned(turned) or len(product.outputs[0].uses()) != 1:
        return None
    before = a.producer()
    if before is not None and _is_turned(before):
        return site.Gemm(turned.inputs[0], before.inputs[0])
    return site.Gemm(turned.inputs[0], a, transB=1)


def _is_turned(node: ir.Node) -> bool:
    return node.op_type == "Transpose" and not node.domain and list(node.attributes.get_ints("perm", [])) == [1, 0]
