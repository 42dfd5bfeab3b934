"""What of a graph some of its outputs need."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from dsd_ort.graph.legalize.path import reads


def cut_to(model: ir.Model, outputs: Collection[str]) -> ir.Model:
    """*model*, changed: the *outputs*, and the nodes that they are computed from; all inputs stay.

    onnx-ir's own pass leaves what only the body of a removed node reads, such as that of the Scan in a ctc.  Here too,
    such a body still counts among the uses of a value.
    """
    graph = model.graph
    graph.outputs[:] = [value for value in graph.outputs if value.name in outputs]
    needed, unused = set(graph.outputs), []
    for node in reversed(graph):
        if needed.isdisjoint(node.outputs):
            unused.append(node)
        else:
            needed.update(reads(node))
    graph.remove(unused)
    return model
