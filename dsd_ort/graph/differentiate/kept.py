"""What the way back reads of a body.

A body is computed once, on the way forward: nothing is computed twice, and dropout drops the same on both ways.  So it
hands out what its way back reads; how, :mod:`.rules.branch` and :mod:`.rules.scan` say.  Of what is read for its shape
alone, the body computes the shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.parts import bodies, reads


def kept(body: ir.Graph, nodes: list[ir.Node]) -> list[ir.Value]:
    """The values of *body* that *nodes* read, which go back through it; those that take a shape move into it."""
    taking = [node for node in nodes if _takes_shape(node, body)]
    nodes[:] = [node for node in nodes if not _takes_shape(node, body)]
    shapes: dict[tuple[str, ir.Value | None], ir.Value] = {}
    for node in taking:
        known = shapes.get((key(node), node.inputs[0]))
        if known is None:
            shapes[key(node), node.inputs[0]] = node.outputs[0]
            body.append(node)
        else:
            node.outputs[0].replace_all_uses_with(known)
            node.replace_input_with(0, None)
    return list(dict.fromkeys(value for node in nodes for value in reads(node) if value.graph is body))


def _takes_shape(node: ir.Node, body: ir.Graph) -> bool:
    shape = key(node) in ("Shape", "Size") and not node.attributes
    return shape and node.inputs[0] is not None and node.inputs[0].graph is body


def exchange(nodes: Sequence[ir.Node], new: Mapping[ir.Value, ir.Value]) -> None:
    """Lets *nodes*, and those inside of them, read other values."""
    for node in _all(nodes):
        for i, value in enumerate(node.inputs):
            if value is not None and value in new:
                node.replace_input_with(i, new[value])


def needed(nodes: Sequence[ir.Node], wanted: Sequence[ir.Value | None]) -> list[ir.Node]:
    """Those of *nodes* that *wanted* values are computed by; the others read nothing any more."""
    read, found = set(wanted), []
    for node in reversed(nodes):
        if read.isdisjoint(node.outputs):
            for reader in _all([node]):
                for i in range(len(reader.inputs)):
                    reader.replace_input_with(i, None)
        else:
            read.update(reads(node))
            found.append(node)
    return found[::-1]


def _all(nodes: Sequence[ir.Node]) -> Iterator[ir.Node]:
    for node in nodes:
        yield node
        for body in bodies(node):
            yield from body.all_nodes()
