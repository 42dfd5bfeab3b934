"""Sequences in steps: f32[T, …] cut into T values, and put together again, in a form that CUDA can record.

The CUDA kernels of Split and Concat take the addresses of their parts by value only if the parts are equal and at most
32; others are copied from the host's memory at each run (:mod:`~.recording`).  So a long sequence is cut by
Slice into blocks of 32 first; and put together block by block, all as long as the first, the last one filled up with
its last step, which a Slice takes off in the end.

Steps are joined along the first axis that they have: [T, N, …] is [T·N, …] in memory, and Reshape copies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.rewrite.names import Names
from dsd_ort.rewrite.nodes import Nodes

PARTS = 32
"""Most parts of a Split or Concat."""


class Writer(Nodes):
    """Nodes in which the same whole numbers are one constant, however often steps are cut and joined by them."""

    def __init__(self, name: str = "", *, opset: int, names: Names | None = None) -> None:
        super().__init__(name, opset=opset, names=names)
        self._numbers: dict[tuple[int, ...], ir.Value] = {}

    def constant(self, value: float | Sequence[int] | npt.NDArray[Any] | ir.TensorProtocol) -> ir.Value:
        if not isinstance(value, list):
            return super().constant(value)
        if (numbers := tuple(value)) not in self._numbers:
            self._numbers[numbers] = super().constant(value)
        return self._numbers[numbers]


def cut(new: Nodes, sequence: ir.Value, length: int, shape: Sequence[int]) -> list[ir.Value]:
    """The *length* steps of *sequence*, which has them along its first axis, each of *shape*."""
    rows, rest = (shape[0], list(shape[1:])) if shape else (1, [])
    flat = new.Reshape(sequence, [length * rows, *rest]) if shape else sequence
    steps: list[ir.Value] = []
    for at in range(0, length, PARTS):
        count = min(PARTS, length - at)
        block = flat if count == length else _part(new, flat, at * rows, (at + count) * rows)
        steps += _split(new, block, count) if count > 1 else [block]
    return steps if shape else [new.Reshape(step, []) for step in steps]


def put_together(new: Nodes, steps: Sequence[ir.Value], shape: Sequence[int]) -> ir.Value:
    """The sequence of *steps*, each of *shape*, along a new first axis: the inverse of :func:`cut`."""
    rows = shape[0] if shape else 1
    parts, size = list(steps) if shape else [new.Reshape(step, [1]) for step in steps], rows
    while len(parts) > 1:
        block = math.ceil(len(parts) / math.ceil(len(parts) / PARTS))
        parts += [parts[-1]] * (-len(parts) % block)
        size *= block
        parts = [new.Concat(*parts[at : at + block], axis=0) for at in range(0, len(parts), block)]
    (whole,) = parts
    if size > len(steps) * rows:
        whole = _part(new, whole, 0, len(steps) * rows)
    return new.Reshape(whole, [len(steps), *shape]) if shape else whole


def to_front(new: Nodes, value: ir.Value, axis: int) -> ir.Value:
    """*value* with its axis *axis* in front of the others."""
    perm = [axis, *(i for i in range(_rank(value)) if i != axis)]
    return new.Transpose(value, perm=perm) if axis else value


def from_front(new: Nodes, value: ir.Value, axis: int) -> ir.Value:
    """*value* with its first axis as axis *axis*: the inverse of :func:`to_front`."""
    perm = [*range(1, axis + 1), 0, *range(axis + 1, _rank(value))]
    return new.Transpose(value, perm=perm) if axis else value


def _rank(value: ir.Value) -> int:
    assert value.shape is not None
    return len(value.shape)


def _part(new: Nodes, value: ir.Value, start: int, end: int) -> ir.Value:
    return new.Slice(value, [start], [end], [0])


def _split(new: Nodes, value: ir.Value, count: int) -> Sequence[ir.Value]:
    several = {"num_outputs": count} if new.opset >= 18 else {}
    return new.several("Split", count, value, axis=0, **several)
