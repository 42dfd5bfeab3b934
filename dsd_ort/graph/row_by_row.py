"""Models whose outputs have a row for each example, whatever their number: shown by operators, without running them.

Examples are rows, the first axis of every input.  A node keeps them apart if its operator does so along that axis,
however long it is, and nothing that it reads beside them has an extent there::

    entry by entry      operands without rows are shorter than the others, or have one
    Conv, pools, norms  of channels and places of their first input
    products            rows times a matrix
    Flatten, Softmax, Concat, ReduceMean, …    over other axes

What is not in the table, as what computes shapes, may well keep rows apart; it is tried out (:mod:`.trial`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import onnx_ir as ir

from dsd_ort.rewrite.autograd import OPSET
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.operators import Does, facts, key
from dsd_ort.rewrite.parts import bodies
from dsd_ort.rewrite.shapes import dims_of

Ranks: TypeAlias = Mapping[ir.Value, int]
"""Of the values that have the rows, the number of their axes."""
Rule: TypeAlias = Callable[[ir.Node, Ranks], int | None]
"""The rank of a node's first output, where it keeps rows apart; None where that is not sure."""

_SINCE = 13
"""Before this opset, operands broadcast by attributes, and Softmax joined axes."""


def keeps_rows(model: ir.Model, inputs: Sequence[ir.Value]) -> bool:
    """Whether every output of *model* has a row for each row of *inputs*, those whose first axis is of any length."""
    if not model.opset_imports.get("", OPSET) >= _SINCE:
        return False
    shapes = {value: dims for value in inputs if (dims := dims_of(value))}
    ranks = {value: len(dims) for value, dims in shapes.items() if not isinstance(dims[0], int)}
    lost: set[ir.Value] = set()
    for node in model.graph:
        read = {value for value in node.inputs if value is not None}
        if bodies(node) or read & lost:
            return False
        if read & ranks.keys():
            rank = _rule(node)(node, ranks)
            if rank is None:
                return False
            ranks[node.outputs[0]] = rank
            lost |= {*node.outputs[1:]}
    return all(value in ranks for value in model.graph.outputs)


def _rule(node: ir.Node) -> Rule:
    return RULES.get(key(node), _by_entry if Does.ENTRYWISE in facts(node).does and not node.domain else _unknown)


def _unknown(node: ir.Node, ranks: Ranks) -> None:
    return None


def _by_entry(node: ir.Node, ranks: Ranks) -> int | None:
    operands = [value for value in node.inputs if value is not None]
    found = {ranks[value] for value in operands if value in ranks}
    rank = max(found)
    beside = [dims_of(value) for value in operands if value not in ranks]
    fits = all(dims is not None and (len(dims) < rank or (len(dims) == rank and dims[0] == 1)) for dims in beside)
    return rank if found == {rank} and fits else None


def _alone(node: ir.Node, ranks: Ranks) -> int | None:
    """The rank of the first input, where no other one has rows."""
    first, *others = node.inputs
    return None if first is None or any(value in ranks for value in others) else ranks.get(first)


def _flatten(node: ir.Node, ranks: Ranks) -> int | None:
    return 2 if node.attributes.get_int("axis", 1) == 1 else None


def _over_an_axis(node: ir.Node, ranks: Ranks) -> int | None:
    """Softmax, LayerNormalization and Concat: over an axis, or from one on, that is not that of the rows."""
    values = [value for value in node.inputs if value is not None]
    rank = ranks.get(values[0], 0)
    same = {ranks.get(value) for value in values} == {rank} if node.op_type == "Concat" else _alone(node, ranks)
    default = {"Concat": 0}.get(node.op_type, -1)
    return rank if same and rank and node.attributes.get_int("axis", default) % rank else None


def _product(node: ir.Node, ranks: Ranks) -> int | None:
    """Rows times a matrix, or a matrix for each of them."""
    left, right = node.inputs[:2]
    if left is None or left not in ranks or right is None:
        return None
    if right in ranks:
        return ranks[left] if ranks[left] == ranks[right] > 2 else None
    dims = dims_of(right)
    return ranks[left] if dims is not None and len(dims) == 2 and ranks[left] >= 2 else None


def _gemm(node: ir.Node, ranks: Ranks) -> int | None:
    bias = dims_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else ()
    wide = bias is None or (len(bias) == 2 and bias[0] != 1)
    return None if wide or node.attributes.get_int("transA", 0) != 0 else _alone(node, ranks)


def _transpose(node: ir.Node, ranks: Ranks) -> int | None:
    order = node.attributes.get_ints("perm", [1])
    return _alone(node, ranks) if order[0] == 0 else None


def _reduce(node: ir.Node, ranks: Ranks) -> int | None:
    rank, given = _alone(node, ranks), node.attributes.get_ints("axes")
    if given is None and len(node.inputs) > 1 and (content := constant_value(node.inputs[1])) is not None:
        given = content.tolist()
    if rank is None or not given or any(axis % rank == 0 for axis in given):
        return None
    return rank if node.attributes.get_int("keepdims", 1) else rank - len(given)


_OF_THEIR_FIRST = (
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "Gelu",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LpPool",
    "MaxPool",
    "Mish",
)
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_OF_THEIR_FIRST, _alone),
    **dict.fromkeys(("Concat", "LayerNormalization", "LogSoftmax", "Softmax"), _over_an_axis),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), _reduce),
    "Flatten": _flatten,
    "Gemm": _gemm,
    "MatMul": _product,
    "Transpose": _transpose,
}
