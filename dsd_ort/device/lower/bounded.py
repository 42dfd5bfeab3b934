"""Where a gradient cannot be infinite, so that 0 · dY is 0 and a product may take the place of a choice.

√max(x, 0) has an infinite gradient by its root where x < 0, and the choice makes 0 of it; a product would make NaN.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.operators import Does, Half, facts

MOST = 10_000
"""Nodes to look at."""


def is_bounded(value: ir.Value) -> bool:
    """Is no pole between *value* and sums of products, which would be NaN by an infinite entry anyway?"""
    seen, to_see = set[ir.Value](), [value]
    while to_see:
        node = to_see.pop().producer()
        if node is None or facts(node).half is Half.HALF:
            continue
        if len(seen) > MOST or (Does.POLE in facts(node).does and not _divides_by_a_number(node)):
            return False
        new = [x for x in node.inputs if x is not None and x not in seen]
        seen.update(new)
        to_see += new
    return True


def _divides_by_a_number(node: ir.Node) -> bool:
    divisor = constant_value(node.inputs[1]) if node.op_type == "Div" else None
    return divisor is not None and bool(np.all(divisor != 0))
