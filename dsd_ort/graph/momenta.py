"""How much of a running statistic one step keeps: its momentum, read from the graph that moves it.

A step makes of a statistic s the value ``m·s + (1 - m)·b``, where b is the batch's and does not depend on s.  So the
steps of one update may all read the same s, at the same time, and what each made of it is put together afterwards::

    f ← m·f + (y - m·s)          for y, what a step made of s, in the order of the batches; f begins as s
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.nodes import constant_value


def momentum(model: ir.Model, statistic: str, successor: str) -> float | None:
    """The m of *successor* = m·*statistic* + …; None where the graph does not say it so.

    Args:
        model: a step graph.
        statistic: an input of it.
        successor: the output that holds the statistic's new value.
    """
    value = next((output for output in model.graph.outputs if output.name == successor), None)
    kept = 1.0
    while value is not None and value.name != statistic:
        value, factor = _before(value)
        kept *= factor
    return None if value is None else kept


def _before(value: ir.Value) -> tuple[ir.Value | None, float]:
    """The value v and the number m of *value* = v·m + …; a module that is applied twice moves its statistics twice."""
    node = value.producer()
    if node is None or node.op_type != "Add" or node.inputs[0] is None:
        return None, 0.0
    product = node.inputs[0].producer()
    if product is None or product.op_type != "Mul":
        return None, 0.0
    factor = constant_value(product.inputs[1])
    return (None, 0.0) if factor is None or factor.size != 1 else (product.inputs[0], float(factor.reshape(-1)[0]))
