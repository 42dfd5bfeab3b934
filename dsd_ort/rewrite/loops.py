"""When a Loop is a Scan: its number of steps is no matter of data.

``Loop(M, c, state…) => (state…, stacked…)`` computes its body ``(i, c, state…) => (c, state…, step…)`` at most M times,
and as long as c is true.
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.parts import bodies


def why_no_scan(node: ir.Node) -> str | None:
    """Why the Loop *node* is none, in words that follow its name; None where M is known, or follows from lengths."""
    (body,) = bodies(node)
    steps, first = (node.inputs[i] if i < len(node.inputs) else None for i in range(2))
    if not (first is None or _is_true(first)) or not _is_true(body.outputs[0], body.inputs[1]):
        return "goes on as long as a condition holds that is only known with the data"
    known = constant_value(steps)
    if steps is None or (known is not None and known.item() < 1):
        return "has no step, or no end"
    if not _is_length(steps):
        return "takes as many steps as the data say"
    if not all(value is None or isinstance(value.type, ir.TensorType | None) for value in node.inputs[2:]):
        return "carries what is no tensor"
    return None


def _is_true(value: ir.Value | None, assumed: ir.Value | None = None) -> bool:
    """Whether *value* is always true, if *assumed* is."""
    known = constant_value(value)
    if value is None or known is not None:
        return known is not None and bool(known.all())
    node = value.producer()
    if node is not None and key(node) in ("Identity", "Cast"):
        return _is_true(node.inputs[0], assumed)
    return value is assumed


def _is_length(value: ir.Value | None) -> bool:
    """Whether *value* follows from constants and shapes alone."""
    node = None if value is None else value.producer()
    if value is None or constant_value(value) is not None or (node is not None and key(node) in ("Shape", "Size")):
        return True
    return node is not None and not bodies(node) and all(map(_is_length, node.inputs))
