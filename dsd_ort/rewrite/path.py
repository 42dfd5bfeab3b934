"""The gradient path: which values carry a gradient from the outputs back to the trainable inputs.

A value v is *active* if it is a floating-point tensor that depends on a trainable input, and *needed* if an output
depends on it, both through differentiable operators only.  ∂output/∂v · ∂v/∂w can differ from zero only where v is
both; such a value *carries* gradient, and only nodes that touch one have to be differentiated.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import onnx_ir as ir

from dsd_ort.rewrite.autograd import OPSET
from dsd_ort.rewrite.bodies import Pair, links
from dsd_ort.rewrite.operators import Does, facts
from dsd_ort.rewrite.parts import bodies, reads


class Path:
    """The gradient path through *graph* from the inputs *trainable* to *outputs*."""

    def __init__(self, graph: ir.Graph, trainable: Iterable[ir.Value], outputs: Iterable[ir.Value]) -> None:
        self.graph = graph
        self.opset = graph.opset_imports.get("", OPSET)
        self.is_inside = False
        """Whether :attr:`graph` is the body of a node."""
        self._active, self._needed = set(trainable), set(outputs)
        self._go(graph)
        self._go_back(graph)

    def _go(self, graph: ir.Graph) -> None:
        """Marks what is active in *graph*."""
        for node in graph:
            if (linked := links(node)) is not None:
                _spread(self._active, linked.entering)
                self._pass(node, linked.around)
                _spread(self._active, linked.leaving)
            elif self.reads_active(node) and not _stops(node):
                self._active.update(v for v in node.outputs if _is_floating(v))

    def _pass(self, node: ir.Node, around: Iterable[Pair]) -> None:
        for body in bodies(node):
            self._go(body)
        if _spread(self._active, around):
            self._pass(node, around)

    def _go_back(self, graph: ir.Graph) -> None:
        """Marks what is needed in *graph*."""
        for node in reversed(graph):
            if (linked := links(node)) is not None:
                _spread(self._needed, map(_reversed, linked.leaving))
                self._pass_back(node, list(map(_reversed, linked.around)))
                _spread(self._needed, map(_reversed, linked.entering))
            elif not _stops(node) and any(v in self._needed and _is_floating(v) for v in node.outputs):
                self._needed.update(reads(node))

    def _pass_back(self, node: ir.Node, around: Iterable[Pair]) -> None:
        for body in bodies(node):
            self._go_back(body)
        if _spread(self._needed, around):
            self._pass_back(node, around)

    def inside(self, node: ir.Node) -> list[Path]:
        """The same through the bodies of *node*, an If or a Scan."""
        views = []
        for body in bodies(node) if links(node) is not None else ():
            view = copy.copy(self)
            view.graph, view.is_inside = body, True
            views.append(view)
        return views

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

    def nodes_within(self) -> Iterator[ir.Node]:
        """Likewise, with those inside of nodes."""
        for node in self.nodes():
            yield node
            for path in self.inside(node):
                yield from path.nodes_within()

    def steps(self) -> Iterator[ir.Node]:
        """The nodes where a gradient ends.  ONNX Runtime's builder goes on behind them, and does not know them."""
        return (node for node in self.graph if _stops(node) and self.reads_active(node))

    def end_of(self, value: ir.Value) -> ir.Node | None:
        """The first node on the way from *value*, which carries nothing, that no gradient passes."""
        return next(Path(self.graph, [value], [])._ends(), None)

    def _ends(self) -> Iterator[ir.Node]:
        for node in self.graph:
            if self.reads_active(node) and not any(map(self.is_active, node.outputs)):
                inner = [end for path in self.inside(node) for end in path._ends()]
                yield inner[0] if inner else node


def _spread(marked: set[ir.Value], pairs: Iterable[Pair]) -> bool:
    """Marks the second of each pair whose first is; whether that was news."""
    new = {b for a, b in pairs if a in marked and b not in marked and _is_floating(b)}
    marked |= new
    return bool(new)


def _reversed(pair: Pair) -> Pair:
    return pair[1], pair[0]


def _stops(node: ir.Node) -> bool:
    return Does.FLAT in facts(node).does


def _is_floating(value: ir.Value) -> bool:
    # An operator unknown to ONNX has outputs of unknown type: taken as floating, so that it is judged.
    return value.dtype is None or value.dtype.is_floating_point()
