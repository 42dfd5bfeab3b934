"""What keeps a graph from being recorded on CUDA; why that is so of an operator, :mod:`dsd_ort.rewrite.operators.cuda`
says.
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.operators import facts, key


def obstacles(model: ir.Model) -> tuple[str, ...]:
    """What keeps *model* from being recorded: one line for each operator and reason, with the first such node.

    Args:
        model: with the sizes of one batch (:mod:`~.specialize`), in the form that a session gets.
    """
    found: dict[tuple[str, str], str] = {}
    for node in model.graph:
        if (why := facts(node).why_unrecordable(node)) is not None:
            found.setdefault((key(node), why), f"{place(node)}: {why}")
    return tuple(found.values())


def can_be_recorded(model: ir.Model) -> bool:
    """Is there no obstacle?"""
    return not obstacles(model)
