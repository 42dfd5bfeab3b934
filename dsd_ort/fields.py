"""What a graph wants to be fed: named arrays with a type and a shape, and which axis the batch is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Shape: TypeAlias = "Sequence[int | str | None]"
"""Sizes, names or None for the axes."""

_BATCH = re.compile(r"batch|^(n|b|bs|bsz)$", re.IGNORECASE)
"""What people and exporters call the dimension of the batch, though points and boxes are counted by n too."""


@dataclass(frozen=True)
class Field:
    """One of a model's inputs, or a label.

    ``shape[0]`` is the batch; an axis is a size, or a name or None where any size will do.  Class labels lie in
    [0, ``classes``) or equal ``ignore_index``.
    """

    name: str
    dtype: str
    """NumPy's name: ``"float32"``, ``"int64"``, …"""
    shape: tuple[int | str | None, ...]
    label: bool = False
    classes: int | None = None
    ignore_index: int | None = None
    blank: int | None = None
    """The class that is no label of ctc's."""


class BatchAxes(NamedTuple):
    """Input → the axis of the batch, where that is not the first."""

    axes: dict[str, int]
    certain: bool
    """Whether more than a letter or the place of a symbol says so."""
    name: str | None = None
    """What the dimension is called, where that says more than its place."""


def batch_axes(inputs: Mapping[str, Shape], outputs: Sequence[Shape]) -> BatchAxes:
    """What a signature says of the batch: the one name that *inputs* and *outputs* share for a dimension.

    It is the first axis of all inputs, unless another name says that it is not: one that is called a batch where the
    first axis is not, or that stands first in one input and behind a fixed axis in another, as in a state
    ``[layers, batch, hidden]``, or that is the only one there is.
    """
    open_ones = {name: shape for name, shape in inputs.items() if any(isinstance(size, str) for size in shape)}
    shared = set.intersection(*(_names(shape) for shape in open_ones.values())) if open_ones else set()
    behind = set.union(set(), *map(_names, outputs)) & set.union(set(), *map(_names, inputs.values()))
    shared &= behind or shared
    first = {shape[0] for shape in open_ones.values() if isinstance(shape[0], str)}
    called = {name for name in shared if _BATCH.search(name)}
    if not any(_BATCH.search(name) for name in first) and len(called) == 1:
        (name,) = called
    elif len(first & shared) == 1:
        (name,) = first & shared
    elif len(shared) == 1 and not first:
        (name,) = shared
    else:
        return BatchAxes({}, certain=True)
    certain = name in first or "batch" in name.lower()
    if not certain and all(shape[0] == 1 for shape in open_ones.values()):
        return BatchAxes({}, certain=True)  # one example, of any length
    axes = {key: shape.index(name) for key, shape in inputs.items() if list(shape).count(name) == 1}
    return BatchAxes({key: axis for key, axis in axes.items() if axis}, certain, name)


def shown(shape: Shape) -> str:
    """*shape* for people: ``[7, n, ?]``."""
    return f"[{', '.join(str(size or '?') for size in shape)}]"


def _names(shape: Shape) -> set[str]:
    return {size for size in shape if isinstance(size, str)}
