"""The same arithmetic on many short vectors is done on one long one.

Beside each batch norm stand some twenty nodes that let its running statistics follow; each takes microseconds for a few
hundred numbers, which at small batches is a tenth of a step.  What leads to outputs of one dimension, entry by entry
and in the same operators, is computed on all of them at once::

    Concat ─ the operators, once ─ Split

Every entry is computed as before, to the bit.  Single numbers of each, as how many entries a batch norm has, are a
vector with an entry for each of them, from which Gather makes one for each entry of the long one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dsd_ort.rewrite.names import Names
from dsd_ort.rewrite.nodes import Nodes, constant_value, take_over
from dsd_ort.rewrite.operators import Does, facts
from dsd_ort.rewrite.shapes import sizes_of

LONGEST = 1 << 14
"""Entries of a vector that is taken along."""
FEWEST = 3
"""Nodes of a vector that are worth it."""


def compute_together(model: ir.Model) -> int:
    """Does what the module says, in place; how many outputs it was done for."""
    graph = model.graph
    groups = defaultdict[Hashable, list[ir.Value]](list)
    for output in dict.fromkeys(graph.outputs):
        if (sizes := _short(output)) and not output.uses() and _nodes(output) >= FEWEST:
            groups[_kind(output, sizes[0])].append(output)
    names, count = Names(graph), 0
    for outputs in groups.values():
        if len(outputs) > 1:
            _Together(outputs, names).replace(graph)
            count += len(outputs)
    if count:
        RemoveUnusedNodesPass()(model)
    return count


class _Together:
    """*outputs* of one kind, computed at once."""

    def __init__(self, outputs: Sequence[ir.Value], names: Names) -> None:
        self.outputs, self.sizes = outputs, [_length(output) for output in outputs]
        self.new = Nodes("together", names=names)
        self.whose = np.repeat(np.arange(len(outputs)), self.sizes)
        self.built: dict[tuple[ir.Value, ...], tuple[ir.Value | np.ndarray, bool]] = {}

    def replace(self, graph: ir.Graph) -> None:
        whole, _ = self.build(tuple(self.outputs))
        parts = self.new.several("Split", len(self.outputs), whole, self.sizes, axis=0)
        self.new.append_to(graph)
        for old, part in zip(self.outputs, parts, strict=True):
            take_over(old, part)

    def build(self, values: tuple[ir.Value, ...]) -> tuple[ir.Value | np.ndarray, bool]:
        """What each has in the place of one of *values*, and whether that has an entry for each entry of a vector."""
        if values not in self.built:
            self.built[values] = self._build(values)
        return self.built[values]

    def _build(self, values: tuple[ir.Value, ...]) -> tuple[ir.Value | np.ndarray, bool]:
        first, new = values[0], self.new
        numbers = [number for value in values if (number := _number(value)) is not None]
        if numbers:
            same = all(number == numbers[0] for number in numbers)
            return (numbers[0].reshape(()) if same else np.concatenate([n.reshape(1) for n in numbers])), False
        if not _inside(first):
            if _short(first):
                return new.Concat(*values, axis=0), True
            return new.Concat(*(new.Reshape(value, [1]) for value in values), axis=0), False
        makers = [maker for value in values if (maker := value.producer()) is not None]
        node, inputs = makers[0], zip(*(maker.inputs for maker in makers), strict=True)
        operands = [self.build(tuple(value for value in row if value is not None)) for row in inputs]
        long = any(whole for _, whole in operands)
        spread = [self._spread(operand) if long and not whole else operand for operand, whole in operands]
        return new.op(node.op_type, *spread, **node.attributes), long

    def _spread(self, value: ir.Value | np.ndarray) -> ir.Value | np.ndarray:
        """An entry for each entry of a vector; a number that is the same everywhere stays one."""
        if isinstance(value, np.ndarray):
            return value[self.whose] if value.ndim else value
        return self.new.Gather(value, self.whose, axis=0)


def _kind(value: ir.Value, length: int) -> Hashable:
    """What two values have in common that can be computed together: operators, and where vectors and numbers go in."""
    if (number := _number(value)) is not None:
        return str(number.dtype)
    if not _inside(value):
        kind = "vector" if _short(value) == [length] else "number" if _single(value) else None
        return (kind, value.dtype) if kind else object()
    node = value.producer()
    if node is None or not (_short(value) == [length] or _single(value)):
        return object()  # like nothing else
    attributes = tuple(sorted((name, str(attribute)) for name, attribute in node.attributes.items()))
    return node.op_type, attributes, tuple(_kind(x, length) for x in node.inputs if x is not None)


def _nodes(value: ir.Value) -> int:
    node = value.producer()
    if node is None or _number(value) is not None or not _inside(value):
        return 0
    return 1 + sum(_nodes(x) for x in node.inputs if x is not None)


def _inside(value: ir.Value) -> bool:
    """Is it computed entry by entry, a short vector or a single number, of such or of numbers of the file?"""
    node = value.producer()
    if node is None or node.domain or Does.ENTRYWISE not in facts(node).does or Does.RANDOM in facts(node).does:
        return False
    return bool(_short(value)) or _single(value)


def _short(value: ir.Value) -> list[int]:
    """The shape of a vector that is taken along; empty for anything else."""
    sizes = sizes_of(value)
    return sizes if sizes is not None and len(sizes) == 1 and 0 < sizes[0] <= LONGEST else []


def _length(value: ir.Value) -> int:
    return _short(value)[0]


def _single(value: ir.Value) -> bool:
    return sizes_of(value) == []


def _number(value: ir.Value) -> np.ndarray | None:
    array = constant_value(value)
    return array if array is not None and array.size == 1 else None
