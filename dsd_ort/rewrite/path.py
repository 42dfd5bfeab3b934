"""The gradient path: which values carry a gradient from the outputs back to the trainable inputs.

A value v is *active* if it is a floating-point tensor that depends on a trainable input, and *needed* if an output
depends on it, both through differentiable operators only.  ∂output/∂v · ∂v/∂w can differ from zero only where v is
both; such a value *carries* gradient, and only nodes that touch one have to be differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from dsd_ort.rewrite.operators import Does, facts
from dsd_ort.rewrite.parts import reads


class Path:
    """The gradient path through *graph* from the inputs *trainable* to *outputs*."""

    def __init__(self, graph: ir.Graph, trainable: Iterable[ir.Value], outputs: Iterable[ir.Value]) -> None:
        self.graph = graph
        self._active = set(trainable)
        for node in graph:
            if self.reads_active(node) and not _stops(node):
                self._active.update(v for v in node.outputs if _is_floating(v))
        self._needed = set(outputs)
        for node in reversed(graph):
            if not _stops(node) and any(v in self._needed and _is_floating(v) for v in node.outputs):
                self._needed.update(reads(node))

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Lets *new* stand where *old* stood."""
        for values in (self._active, self._needed):
            if old in values:
                values.add(new)

    def is_active(self, value: ir.Value | None) -> bool:
        return value in self._active

    def carries(self, value: ir.Value | None) -> bool:
        return value in self._active and value in self._needed

    def reads_active(self, node: ir.Node) -> bool:
        return any(value in self._active for value in reads(node))

    def nodes(self) -> Iterator[ir.Node]:
        """The nodes that a gradient passes: it arrives from behind, and they stand behind a trainable input."""
        for node in list(self.graph):
            arrives = any(_is_floating(v) and v in self._needed for v in node.outputs)
            if arrives and self.reads_active(node) and not _stops(node):
                yield node

    def steps(self) -> Iterator[ir.Node]:
        """The nodes where a gradient ends.  ONNX Runtime's builder goes on behind them, and does not know them."""
        return (node for node in self.graph if _stops(node) and self.reads_active(node))

    def end_of(self, value: ir.Value) -> ir.Node | None:
        """The first node on the way from *value*, which carries nothing, that no gradient passes."""
        reached = Path(self.graph, [value], [])
        ends = (n for n in self.graph if reached.reads_active(n) and not any(map(reached.is_active, n.outputs)))
        return next(ends, None)


def _stops(node: ir.Node) -> bool:
    return Does.FLAT in facts(node).does


def _is_floating(value: ir.Value) -> bool:
    # An operator unknown to ONNX has outputs of unknown type: taken as floating, so that it is judged.
    return value.dtype is None or value.dtype.is_floating_point()
