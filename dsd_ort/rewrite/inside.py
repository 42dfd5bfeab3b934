"""Types and shapes inside of Ifs and Scans, and behind them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.rewrite import element_types
from dsd_ort.rewrite.bodies import Scan, links
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.parts import bodies
from dsd_ort.rewrite.shapes import Content, Dims, infer, refine


def infer_all(graph: ir.Graph, content: Content, opset: int) -> None:
    """Infers those of all nodes of *graph*, and of those inside of them, whose outputs have no shape yet.

    Inside, all have types then: an If or a Scan hands out values by them.
    """
    for node in graph:
        if links(node) is not None:
            enter(node)
            for body in bodies(node):
                infer_all(body, content, opset)
                element_types.infer(body)
            leave(node)
        elif any(output.shape is None for output in node.outputs):
            infer(node, content, opset)


def enter(node: ir.Node) -> None:
    """Sets types and shapes of what the body of a Scan is given, as far as those of its inputs are known."""
    if key(node) != "Scan":  # What branches read is around them.
        return
    scan = Scan(node)
    for state in scan.states:
        _pass(state.first, state.before, state.first.shape)
    for x in scan.read:
        _pass(x.whole, x.step, None if x.whole.shape is None else _without(x.whole.shape, x.axis))


def leave(node: ir.Node) -> None:
    """Sets types and shapes of what an If or a Scan gives, as far as those inside of it are known.

    States keep their shapes; what is stacked is as long as the sequences.
    """
    if key(node) == "If":
        for i, output in enumerate(node.outputs):
            inner = [body.outputs[i] for body in bodies(node)]
            _pass(inner[0], output, _common([value.shape for value in inner]))
        return
    scan = Scan(node)
    for state in scan.states:
        _pass(state.after, state.last, state.first.shape)
    for y in scan.stacked:
        _pass(y.step, y.whole, None if y.step.shape is None else _with(y.step.shape, y.axis, scan.length))


def _pass(giving: ir.Value, taking: ir.Value, dims: Dims | None) -> None:
    taking.type = taking.type or giving.type
    refine(taking, dims)


def _without(shape: ir.Shape, axis: int) -> Dims:
    dims = list(shape)
    del dims[axis]
    return dims


def _with(shape: ir.Shape, axis: int, length: int | str | None) -> Dims:
    dims = list(shape)
    dims.insert(axis % (len(dims) + 1), length if isinstance(length, int) else ir.SymbolicDim(length))
    return dims


def _common(shapes: Sequence[ir.Shape | None]) -> Dims | None:
    """What is true of all *shapes*."""
    first = shapes[0]
    if first is None or any(shape is None or len(shape) != len(first) for shape in shapes):
        return None
    columns = zip(*(shape for shape in shapes if shape is not None), strict=True)
    return [sizes[0] if len(set(sizes)) == 1 else ir.SymbolicDim(None) for sizes in columns]
