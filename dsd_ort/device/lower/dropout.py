"""Dropout whose masks are a function of a seed that is an input: CUDA can record it, and draws what the CPU would.

ONNX Runtime's own Dropout gets its random numbers from the host, so a recorded step would drop the same elements for
ever.  Here element i of the n-th Dropout of a graph is kept if h(i) ≥ ratio · p, with p = 2³¹ - 1, a prime, and::

    h(i) = ((48271·i + a)² · 69621 + b)² mod p        a, b = the seed's two numbers, moved on by n

All is exact in int64, whatever computes it.  A square modulo a prime is as good as random where its roots differ by
what was drawn at random, and two of them in a row leave no line or lattice to be seen
(tests/device/test_dropout.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.device.lower.form import Choices
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.shapes import sizes_of
from dsd_ort.rewrite.site import Site

SEED = "dsd_ort.seed"
"""The graph input i64[2] that the masks of a step are a function of; each number in [0, PRIME)."""
PRIME = 2**31 - 1
LARGEST = 1 << 22
"""Elements: above this, ONNX Runtime's own is so much less work that launches do not matter."""
_STRIDES = (1_000_003, 998_244_353)
"""By which the seed's numbers are moved on from one Dropout to the next."""


def seed_numbers(seed: int) -> np.ndarray:
    """i64[2] for :data:`SEED`."""
    return np.random.default_rng(seed).integers(0, PRIME, 2)


def dropout(site: Site, choices: Choices) -> Sequence[ir.Value] | None:
    """Dropout(x, ratio, training) as x · mask / (1 - ratio), and the mask, where sizes and ratio are known."""
    x, ratio = site.input(0), constant_value(site.optional(1))
    training = constant_value(site.optional(2))
    sizes = sizes_of(x)
    inner = site.node.graph is not site.path.graph  # where every step of a Scan would drop the same
    if sizes is None or not 0 < math.prod(sizes) <= LARGEST or inner:
        return None
    if ratio is None or training is None or not training:
        return None
    rate = float(ratio)
    mask = site.Reshape(site.GreaterOrEqual(_hash(site, choices, sizes), int(rate * PRIME)), sizes)
    kept = site.Mul(x, 1 / (1 - rate)) if rate < 1 else x
    return site.Where(mask, kept, 0.0), mask


def _seeds(graph: ir.Graph) -> ir.Value:
    """The graph's input for them, the same for all."""
    found = next((value for value in graph.inputs if value.name == SEED), None)
    if found is None:
        found = ir.Value(name=SEED, shape=ir.Shape([2]), type=ir.TensorType(ir.DataType.INT64))
        graph.inputs.append(found)
    return found


def _hash(site: Site, choices: Choices, sizes: Sequence[int]) -> ir.Value:
    """h, as i64[rows, columns]: the number of an element is the sum of its row's and its column's."""
    columns = math.prod(sizes[1:])
    rows = np.arange(sizes[0])[:, None] * columns
    number = site.Add(site.constant(rows * 48271 % PRIME), site.constant(np.arange(columns)[None] * 48271 % PRIME))
    seeds = _seeds(site.path.graph)
    for at, (stride, factor) in enumerate(zip(_STRIDES, (69621, 1), strict=True)):
        seed = site.Gather(seeds, at)
        number = site.Mod(site.Add(number, site.Add(seed, stride * choices.dropouts % PRIME)), PRIME)
        number = site.Mod(site.Mul(number, number), PRIME)
        if factor > 1:
            number = site.Mul(number, factor)
    choices.dropouts += 1
    return number
