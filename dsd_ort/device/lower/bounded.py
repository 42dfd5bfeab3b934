"""Where a gradient cannot be infinite, so that 0 · dY is 0 and a product may take the place of a choice.

√max(x, 0) has an infinite gradient by its root where x < 0, and the choice makes 0 of it; a product would make NaN.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.operators import Does, Half, facts

MOST = 10_000
"""Nodes to look at."""
DEPTH = 8
"""Nodes in front of a number that is to be told from 0."""


def is_bounded(value: ir.Value) -> bool:
    """Is no pole between *value* and sums of products, which would be NaN by an infinite entry anyway?"""
    seen, to_see = set[ir.Value](), [value]
    while to_see:
        node = to_see.pop().producer()
        if node is None or facts(node).half is Half.HALF:
            continue
        if len(seen) > MOST or (Does.POLE in facts(node).does and not _is_off_its_pole(node)):
            return False
        new = [x for x in node.inputs if x is not None and x not in seen]
        seen.update(new)
        to_see += new
    return True


def _is_off_its_pole(node: ir.Node) -> bool:
    """As what is divided by, or a root is taken of, is a number that is not 0, or more than one."""
    does = facts(node).does
    if Does.POLE_AT_0 not in does:
        return False
    base = node.inputs[1 if Does.JOINS in does else 0]
    number = constant_value(base)
    return is_positive(base) if number is None else bool(np.all(number != 0))


def is_positive(value: ir.Value | None, depth: int = DEPTH) -> bool:
    """Are all entries of *value* at least some number above 0, whatever the inputs are (other than NaN)?"""
    node, number = None if value is None else value.producer(), constant_value(value)
    if number is not None:
        return bool(np.all(number > 0))
    if node is None or depth == 0:
        return False
    positive, natural = partial(is_positive, depth=depth - 1), partial(is_nonnegative, depth=depth - 1)
    match node.op_type:
        case "Add":
            return any(positive(x) and natural(y) for x, y in (node.inputs, node.inputs[::-1]))
        case "Conv":
            return len(node.inputs) == 3 and positive(node.inputs[2]) and all(map(natural, node.inputs[:2]))
        case "Mul" | "Sqrt":
            return all(map(positive, node.inputs))
        case _:
            return False


def is_nonnegative(value: ir.Value | None, depth: int = DEPTH) -> bool:
    """Are all entries of *value* 0 or more?"""
    node, number = None if value is None else value.producer(), constant_value(value)
    if number is not None:
        return bool(np.all(number >= 0))
    if node is None or depth == 0:
        return False
    does = facts(node).does
    if Does.NATURAL in does or (node.op_type == "Mul" and node.inputs[0] is node.inputs[1]):
        return True
    if node.op_type == "Pow":
        exponent = constant_value(node.inputs[1])
        return exponent is not None and bool(np.all(exponent % 2 == 0))
    return Does.KEEPS_NATURAL in does and all(is_nonnegative(x, depth - 1) for x in node.inputs if _counts(x))


def _counts(value: ir.Value | None) -> bool:
    """Axes are no numbers that are summed."""
    return value is not None and value.dtype != ir.DataType.INT64
