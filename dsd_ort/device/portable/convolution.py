"""The gradients of a convolution Y = X ∗ W + b with strides s, dilations d, pads p and groups g.

X: f32[N, C, H…], W: f32[M, C/g, K…], Y: f32[N, M, H'…].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dsd_ort.device.lower import Convolution, convolution_of, flip_transpose
from dsd_ort.rewrite.shapes import refine
from dsd_ort.rewrite.site import Site


class Way(NamedTuple):
    """How the gradients are computed."""

    many: float = 32
    """Places in a kernel from which on its gradient is computed as a convolution."""
    wide: int = 96
    """Rows of a product, about: what several places in the kernel read of few channels is multiplied together."""
    transposed: bool = True
    """dX is a ConvTranspose; otherwise, where sizes are known, a Conv."""


CPU = Way()
CUDA = Way(many=math.inf, wide=512)
"""cuDNN has no good algorithm for kernels as large as an image; a product of few rows leaves most of a GPU idle."""
CUDA_DETERMINISTIC = CUDA._replace(transposed=False)
"""cuDNN adds a ConvTranspose in any order, unless ONNX Runtime asked it not to, and that it does not."""


def convolution(site: Site, way: Way = CPU) -> Sequence[ir.Value | None]:
    """ConvGrad(dY, X, W): dX, dW and db, those of them that are read."""
    dy, x, weight = (site.input(i) for i in range(3))
    conv = convolution_of(site.node, weight)
    if conv is None:
        raise site.refusal("has a kernel of unknown shape, or automatic padding", "prepare the model again")
    for value in (dy, x):  # as many axes as the kernel, whatever else is known of them
        refine(value, ir.Shape([None] * (2 + len(conv.kernel))))
    rules: tuple[Callable[..., ir.Value], ...] = (partial(_data, way=way), partial(_kernel, way=way), _bias)
    wanted = [bool(output.name) and (bool(output.uses()) or output.is_graph_output()) for output in site.node.outputs]
    return [rule(site, dy, x, weight, conv) if want else None for rule, want in zip(rules, wanted, strict=False)]


def _data(site: Site, dy: ir.Value, x: ir.Value, weight: ir.Value, conv: Convolution, *, way: Way) -> ir.Value:
    """The gradient dX = ConvTranspose(dY, W): dY spread out again.

    With a stride s > 1, up to s - 1 last rows of X are read by no window; they are made and cut where X's length is
    only known with the data.
    """
    reach = [p + q - d * (k - 1) - 1 for p, q, d, k in zip(*_sides(conv), conv.dilations, conv.kernel, strict=True)]
    lengths = site.shape(x)[2:]
    known = all(isinstance(n, int) for n in lengths)
    if known and not way.transposed and all(isinstance(n, int) for n in site.shape(dy)):
        return _data_as_convolution(site, dy, x, weight, conv)
    unread = [
        (n + r) % s if isinstance(n, int) else s - 1 for n, r, s in zip(lengths, reach, conv.strides, strict=True)
    ]
    full = site.ConvTranspose(dy, weight, output_padding=unread, **conv.attributes)
    if known or max(conv.strides) == 1:
        return full
    spatial = list(range(2, 2 + len(lengths)))
    return site.Slice(full, [0] * len(lengths), site.Shape(x, start=2), spatial)


def _data_as_convolution(site: Site, dy: ir.Value, x: ir.Value, weight: ir.Value, conv: Convolution) -> ir.Value:
    """The gradient dX = stuffed(dY) ∗ flip(Wᵀ) with stride 1, where stuffed puts s - 1 zeros behind each entry of dY.

    Its pads are d·(k - 1) - p in front, and behind what makes it as long as X; a negative one cuts.
    """
    images, counts = site.shape(dy)[:2], [site.size(dy, axis) for axis in range(2, site.rank(dy))]
    lengths, stuffed = [site.size(x, axis) for axis in range(2, site.rank(x))], dy
    if max(conv.strides) > 1:
        apart = site.Reshape(dy, [*images, *(n for count in counts for n in (count, 1))])
        zeros = [n for s in conv.strides for n in (0, s - 1)]
        spread = site.Pad(apart, [0] * (2 + len(zeros)) + [0, 0, *zeros])
        stuffed = site.Reshape(spread, [*images, *(n * s for n, s in zip(counts, conv.strides, strict=True))])
    reach = [d * (k - 1) for d, k in zip(conv.dilations, conv.kernel, strict=True)]
    front = [r - p for r, p in zip(reach, conv.pads, strict=False)]
    behind = [n + r - f - c * s for n, r, f, c, s in zip(lengths, reach, front, counts, conv.strides, strict=True)]
    if min(*front, *behind) < 0:
        stuffed = site.Pad(stuffed, [0, 0, *front, 0, 0, *behind])
        front = behind = [0] * len(front)
    settings = conv._replace(strides=[1] * len(front), pads=[*front, *behind]).attributes
    return site.Conv(stuffed, flip_transpose(site, weight, conv), **settings)


def _kernel(site: Site, dy: ir.Value, x: ir.Value, weight: ir.Value, conv: Convolution, *, way: Way) -> ir.Value:
    """dW[:, :, k…] = Σ over n and h' of dY[n, :, h'] · X[n, :, s·h' + d·k - p]: matrix products.

    Channels first, batch and positions are one axis: dY is [M, N·H'…], and what the place k of the kernel reads of X is
    [C, N·H'…].
    """
    first = [1, 0, *range(2, 2 + len(conv.kernel))]
    dy_first, x_first = site.Transpose(dy, perm=first), site.Transpose(x, perm=first)
    if conv.group > 1:
        return _by_groups(site, dy, dy_first, x_first, conv)
    if math.prod(conv.kernel) >= way.many:
        return _as_convolution(site, dy_first, x_first, conv)
    if _suits_frames(site, dy, conv):
        lefts, moved = _frames(site, dy_first, x_first, conv)
    else:
        lefts, moved = [_rows(site, dy_first, conv.out_channels)], _windows(site, dy, x_first, conv)
    products = [
        site.Gemm(left, right, transB=1) for left, right in product(lefts, _joined(site, moved, conv, way.wide))
    ]
    shape = [conv.out_channels, conv.in_channels, *conv.kernel]
    if len(products) == 1 and max(conv.kernel) == 1:
        return site.Reshape(products[0], shape)
    together = site.Concat(*products, axis=1) if len(products) > 1 else products[0]
    by_place = site.Reshape(together, [conv.out_channels, math.prod(conv.kernel), conv.in_channels])
    return site.Reshape(site.Transpose(by_place, perm=[0, 2, 1]), shape)


def _as_convolution(site: Site, dy: ir.Value, x: ir.Value, conv: Convolution) -> ir.Value:
    """The same as X ∗ dY, batch and channels exchanged, s and d too: dY is the kernel.  What no window reads is cut.

    Good where the kernel, here the result, is large: it is the narrow side of the matrix product inside.
    """
    wide = site.Conv(x, dy, strides=conv.dilations, dilations=conv.strides, pads=conv.pads)
    rank = len(conv.kernel)
    exact = site.Slice(wide, [0] * rank, conv.kernel, list(range(2, 2 + rank)))
    return site.Transpose(exact, perm=[1, 0, *range(2, 2 + rank)])


def _suits_frames(site: Site, dy: ir.Value, conv: Convolution) -> bool:
    """Is that less to copy than windows, and adds it few zeros to multiply?"""
    length, k = site.shape(dy)[2], conv.kernel[0]
    few = not isinstance(length, int) or conv.dilations[0] * (k - 1) <= length / 8
    others = math.prod(conv.kernel[1:])
    less = k * conv.out_channels + others * conv.in_channels < k * others * conv.in_channels
    return max(conv.strides) == 1 and few and less


def _frames(site: Site, dy: ir.Value, x: ir.Value, conv: Convolution) -> tuple[list[ir.Value], list[ir.Value]]:
    """For stride 1: dY is moved along the first spatial axis, inside a frame as long as X's, and X along the others.

    That makes k + k… copies where windows are k·k….  A negative pad cuts.
    """
    before, after = _sides(conv)
    reach = [d * (k - 1) for d, k in zip(conv.dilations, conv.kernel, strict=True)]
    lefts = []
    for i in range(conv.kernel[0]):
        shift, rest = i * conv.dilations[0], [0] * (len(reach) - 1)
        framed = site.Pad(dy, [0, 0, shift, *rest, 0, 0, reach[0] - shift, *rest])
        lefts.append(_rows(site, framed, conv.out_channels))
    rights = []
    for place in product(*(range(k) for k in conv.kernel[1:])):
        shifts = [i * d for i, d in zip(place, conv.dilations[1:], strict=True)]
        starts = [p - shift for p, shift in zip(before[1:], shifts, strict=True)]
        ends = [p - r + shift for p, r, shift in zip(after[1:], reach[1:], shifts, strict=True)]
        rights.append(site.Pad(x, [0, 0, before[0], *starts, 0, 0, after[0], *ends]))
    return lefts, rights


def _windows(site: Site, dy: ir.Value, x: ir.Value, conv: Convolution) -> list[ir.Value]:
    """For each place in the kernel, what it reads of *x*: f32[C, N, H'…]."""
    rank, (before, after) = len(conv.kernel), _sides(conv)
    if any(conv.pads):
        x = site.Pad(x, [0, 0, *before, 0, 0, *after])
    if max(conv.kernel) == 1 and max(conv.strides) == 1:
        return [x]
    spatial = list(range(2, 2 + rank))
    positions = site.shape(dy)[2:]
    span: np.ndarray | ir.Value
    if all(isinstance(n, int) for n in positions):
        span = (np.array(positions, np.int64) - 1) * conv.strides + 1
    else:
        span = site.Add(site.Mul(site.Sub(site.Shape(dy, start=2), [1]), conv.strides), [1])
    windows = []
    for place in product(*(range(k) for k in conv.kernel)):
        start = np.multiply(place, conv.dilations)
        end = start + span if isinstance(span, np.ndarray) else site.Add(span, start)
        windows.append(site.Slice(x, start, end, spatial, conv.strides))
    return windows


def _joined(site: Site, windows: list[ir.Value], conv: Convolution, wide: int) -> list[ir.Value]:
    """As matrices, of few channels several in one: a narrow product reads all of dY for little."""
    count = max(1, wide // conv.in_channels)
    groups = [windows[i : i + count] for i in range(0, len(windows), count)]
    joined = [site.Concat(*group, axis=0) if len(group) > 1 else group[0] for group in groups]
    return [_rows(site, value, len(group) * conv.in_channels) for value, group in zip(joined, groups, strict=True)]


def _rows(site: Site, value: ir.Value, count: int) -> ir.Value:
    return site.Reshape(value, [count, -1])


def _by_groups(site: Site, dy: ir.Value, dy_first: ir.Value, x_first: ir.Value, conv: Convolution) -> ir.Value:
    """[g, M/g, N·H'…] and [g, C/g, N·H'…]: one product a group and place."""
    group, out_channels, in_channels = conv.group, conv.out_channels // conv.group, conv.in_channels // conv.group
    left = site.Reshape(dy_first, [group, out_channels, -1])
    windows = [site.Reshape(w, [group, in_channels, -1]) for w in _windows(site, dy, x_first, conv)]
    products = [site.op("com.microsoft.FusedMatMul", left, window, transB=1) for window in windows]
    shape = [conv.out_channels, in_channels, *conv.kernel]
    if len(products) == 1:
        return site.Reshape(products[0], shape)
    by_place = site.Reshape(site.Concat(*products, axis=0), [len(products), -1])
    return site.Reshape(site.Transpose(by_place, perm=[1, 0]), shape)


def _bias(site: Site, dy: ir.Value, x: ir.Value, weight: ir.Value, conv: Convolution) -> ir.Value:
    """The gradient db = Σ dY over all but the channels."""
    return site.ReduceSum(dy, [0, *range(2, 2 + len(conv.kernel))], keepdims=0)


def _sides(conv: Convolution) -> tuple[list[int], list[int]]:
    rank = len(conv.kernel)
    return conv.pads[:rank], conv.pads[rank:]
