"""What a rule sees of a node that the batch comes to, and writes in front of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import onnx_ir as ir

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.batch_size.marks import BATCH, Mark
from dsd_ort.rewrite.autograd import OPSET
from dsd_ort.rewrite.names import Names, place
from dsd_ort.rewrite.nodes import Nodes
from dsd_ort.rewrite.shapes import sizes_of


def fix(k: int) -> str:
    """What a user can do whose model keeps the batch size *k*."""
    return f"use batch_size = {k} and data.drop_last = true, or export the model with a symbolic batch"


class Batch:
    """The batch on its way along *graph*; until it is through, shapes are those with the batch size *k*.

    Args:
        graph: the main graph.
        inputs: those whose first axis it is.
        k: its length.
    """

    def __init__(self, graph: ir.Graph, inputs: Sequence[ir.Value], k: int) -> None:
        self.inputs, self.k = inputs, k
        self.opset, self.names = graph.opset_imports.get("", OPSET), Names(graph)
        self.marks = {value: Mark(0) for value in inputs}
        """The values that hold it, as far as it has come."""

    @cached_property
    def length(self) -> ir.Value:
        """The batch size at run time, i64[1]."""
        new, first = Nodes(BATCH, opset=self.opset, names=self.names), self.inputs[0]
        length = new.Gather(new.Shape(first), [0], axis=0)
        new.put_behind(first)
        return length


class Site(Nodes):
    """The place of *node*, which reads a value that holds the *batch*."""

    def __init__(self, node: ir.Node, batch: Batch) -> None:
        super().__init__(BATCH, opset=batch.opset, names=batch.names)
        self.node, self.batch, self.marks = node, batch, batch.marks

    def shape(self, value: ir.Value | None) -> list[int]:
        sizes = None if value is None else sizes_of(value)
        if sizes is None:
            raise self.refusal(f"the shape of {value.name if value else None!r} is not known")
        return sizes

    def rank(self, value: ir.Value | None) -> int:
        if value is None or value.shape is None:
            raise self.refusal(f"the rank of {value.name if value else None!r} is not known")
        return len(value.shape)

    def marked(self) -> tuple[ir.Value, Mark]:
        """The first input that holds the batch."""
        return next((value, self.marks[value]) for value in self.node.inputs if value in self.marks)

    def refusal(self, why: str) -> UnsupportedError:
        node, k = self.node, self.batch.k
        what = f"the batch size is fixed at {k}, and {node.op_type} keeps it from being any other: {why}"
        return UnsupportedError(what, where=place(node), fix=fix(k))
