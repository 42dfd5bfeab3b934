"""Forms for CUDA, of what ONNX Runtime has no CUDA kernel for, neither in 1.19's training build nor in later ones.

Recurrent layers in inference become the Scan that training runs: cuDNN's kernels know no clip and no activations of
their own, and what training and measuring compute should be the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dsd_ort.device.lower.form import Choices
from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize import opset
from dsd_ort.graph.legalize.rules import recurrent
from dsd_ort.rewrite.operators import facts
from dsd_ort.rewrite.shapes import sizes_of
from dsd_ort.rewrite.site import Site

FLAT = [-1]


class Windows(NamedTuple):
    """Those of a pool: window o covers o·stride + t·dilation - pad for t in 0 … kernel - 1, along each axis."""

    kernel: Sequence[int]
    strides: Sequence[int]
    dilations: Sequence[int]
    pads: Sequence[int]
    """In front."""

    @property
    def overlap(self) -> bool:
        """May two windows cover the same element?"""
        reach = [(k - 1) * d for k, d in zip(self.kernel, self.dilations, strict=True)]
        return any(r >= s for r, s in zip(reach, self.strides, strict=True))


def max_pool_gradient(site: Site, choices: Choices) -> ir.Value:
    """MaxPoolGrad(dY, I): dX is 0, and dY is added at I, the places of the maxima in the flattened X.

    Where windows do not overlap each place has one addition at most, and writing does.  Where they do, additions are
    atomic, in any order; deterministic is the sum over the places of a window.
    """
    dy, indices = site.input(0), site.input(1)
    pool = indices.producer()
    assert pool is not None and pool.inputs[0] is not None  # the builder reads the indices of the pool itself
    x, windows = pool.inputs[0], _windows(pool)
    lengths, outputs = sizes_of(x), sizes_of(dy)
    if windows is None or windows.overlap:
        if choices.deterministic and windows and lengths and outputs:
            return _by_places(site, windows, lengths, outputs)
        size: ir.Value | list[int] = [math.prod(lengths)] if lengths else site.Reshape(site.Size(x), FLAT)
        flat = site.op("com.microsoft.GatherElementsGrad", site.Reshape(dy, FLAT), size, site.Reshape(indices, FLAT))
    else:
        size = [math.prod(lengths)] if lengths else site.Reshape(site.Size(x), FLAT)
        zeros = site.ConstantOfShape(size, value=ir.tensor(np.zeros(1, np.float32)))
        flat = site.ScatterElements(zeros, site.Reshape(indices, FLAT), site.Reshape(dy, FLAT), axis=0)
    return site.Reshape(flat, list(lengths) if lengths else site.Shape(x))


def _windows(pool: ir.Node) -> Windows | None:
    """None where padding is left to the runtime."""
    attributes = pool.attributes
    if attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    kernel = attributes["kernel_shape"].as_ints()
    ones, zeros = [1] * len(kernel), [0] * (2 * len(kernel))
    strides, dilations = attributes.get_ints("strides", ones), attributes.get_ints("dilations", ones)
    return Windows(kernel, strides, dilations, attributes.get_ints("pads", zeros)[: len(kernel)])


def _inside(windows: Windows, at: Sequence[int], lengths: Sequence[int], counts: Sequence[int]) -> np.ndarray | None:
    """Is the place *at* of each window in the image? bool[1, 1, O…]; None where its number alone tells.

    Numbers of places in the flattened X are apart but where a window is as wide as the image, padding included.
    """
    reach = [(k - 1) * d for k, d in zip(windows.kernel, windows.dilations, strict=True)]
    if all(r < length for r, length in zip(reach[1:], lengths[1:], strict=True)):
        return None
    axes = [np.arange(n) * s + a - p for n, s, a, p in zip(counts, windows.strides, at, windows.pads, strict=True)]
    inside = [(axis >= 0) & (axis < length) for axis, length in zip(axes, lengths, strict=True)]
    return np.asarray(np.logical_and.reduce(np.meshgrid(*inside, indexing="ij")))[None, None]


def _by_places(site: Site, windows: Windows, lengths: Sequence[int], outputs: Sequence[int]) -> ir.Value:
    """dX[o·s + t·d - p] += dY[o] · [I[o] is the place t of window o], summed over t in a fixed order.

    With t·d = s·u + r, place t of window o is entry o + u of those whose number in the padded X is r modulo s.  So for
    each r the sum is one of dY's moved by u, and the sums for all r are interleaved.
    """
    dy, indices = site.input(0), site.input(1)
    images, spatial, counts = lengths[:2], lengths[2:], outputs[2:]
    steps = [math.prod(spatial[axis + 1 :]) for axis in range(len(spatial))]
    begins = _numbers([math.prod(spatial) * n for n in range(math.prod(images))], images, len(spatial))
    grids = [np.arange(n) * s * step for n, s, step in zip(counts, windows.strides, steps, strict=True)]
    corners = np.add.reduce(np.meshgrid(*grids, indexing="ij"))[None, None]
    place = site.Sub(site.Sub(indices, begins), corners.astype(np.int64))
    offsets = [np.arange(k) * d for k, d in zip(windows.kernel, windows.dilations, strict=True)]
    sizes = [
        max(-(-(p + length) // s), n + int(at[-1]) // s)
        for p, length, s, n, at in zip(windows.pads, spatial, windows.strides, counts, offsets, strict=True)
    ]
    moved: dict[tuple[int, ...], list[ir.Value]] = {}
    for at in product(*(map(int, each) for each in offsets)):
        number = sum((a - p) * step for a, p, step in zip(at, windows.pads, steps, strict=True))
        hit = site.Equal(place, site.constant(np.array(number)))
        if (inside := _inside(windows, at, spatial, counts)) is not None:
            hit = site.And(hit, inside)
        here = site.Where(hit, dy, 0.0)
        front = [a // s for a, s in zip(at, windows.strides, strict=True)]
        behind = [size - n - f for size, n, f in zip(sizes, counts, front, strict=True)]
        residue = tuple(a % s for a, s in zip(at, windows.strides, strict=True))
        moved.setdefault(residue, []).append(site.Pad(here, [0, 0, *front, 0, 0, *behind]))
    sums = {residue: site.Sum(*values) if len(values) > 1 else values[0] for residue, values in moved.items()}
    padded = _interleaved(site, sums, windows.strides, images, sizes)
    ends = [p + length for p, length in zip(windows.pads, spatial, strict=True)]
    return site.Slice(padded, list(windows.pads), ends, list(range(2, len(lengths))))


def _numbers(values: Sequence[int], images: Sequence[int], axes: int) -> np.ndarray:
    return np.array(values, np.int64).reshape(*images, *[1] * axes)


def _interleaved(
    site: Site,
    sums: dict[tuple[int, ...], ir.Value],
    strides: Sequence[int],
    images: Sequence[int],
    sizes: Sequence[int],
) -> ir.Value:
    """f32[N, C, s·G…] whose entry s·m + r is entry m of *sums*[r]: f32[N, C, G…]."""
    if max(strides) == 1:
        return next(iter(sums.values()))
    rank = len(strides)
    residues = list(product(*map(range, strides)))
    nothing = None
    if len(sums) < len(residues):
        nothing = site.ConstantOfShape([*images, *sizes], value=ir.tensor(np.zeros(1, np.float32)))
    planes = [site.Unsqueeze(value if (value := sums.get(r)) is not None else nothing, [2]) for r in residues]
    apart = site.Reshape(site.Concat(*planes, axis=2), [*images, *strides, *sizes])
    perm = [0, 1, *(axis for i in range(rank) for axis in (2 + rank + i, 2 + i))]
    whole = [size * s for size, s in zip(sizes, strides, strict=True)]
    return site.Reshape(site.Transpose(apart, perm=perm), [*images, *whole])


def lstm(site: Site, choices: Choices) -> Sequence[ir.Value] | None:
    """LSTM as the Scan of :func:`dsd_ort.graph.legalize.rules.recurrent.lstm`."""
    return _scan(recurrent.lstm, site, choices)


def gru(site: Site, choices: Choices) -> Sequence[ir.Value] | None:
    """GRU as the Scan of :func:`dsd_ort.graph.legalize.rules.recurrent.gru`."""
    return _scan(recurrent.gru, site, choices)


def rnn(site: Site, choices: Choices) -> Sequence[ir.Value] | None:
    """RNN as the Scan of :func:`dsd_ort.graph.legalize.rules.recurrent.rnn`."""
    return _scan(recurrent.rnn, site, choices)


def _scan(rule: Callable[[Site], Sequence[ir.Value]], site: Site, choices: Choices) -> Sequence[ir.Value] | None:
    try:
        built = rule(site)
    except UnsupportedError:  # a layer that training would refuse: it stays, on the CPU
        return None
    choices.operators |= site.operators
    return built


def raise_opset(model: ir.Model) -> None:
    """The forms of recurrent layers are of opset 18: an older model that has one is brought there."""
    layers = any(facts(node).gates for node in model.graph)
    if layers and model.opset_imports.get("", opset.TARGET) < opset.TARGET:
        opset.to_opset(model)
