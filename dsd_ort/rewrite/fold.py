"""What the file fixes is computed, and an If whose condition is fixed gives way to its branch.

A value is *fixed* if constants and static shapes decide it.  Entries are fixed one by one: of the shape of
f32[N, 3, 8] the last two are, so ``Equal(Gather(Shape(x), -1), 8)`` is, whatever N.  Random operators and everything
that reads an input of the model are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from dsd_ort.rewrite.bodies import links
from dsd_ort.rewrite.branches import inline
from dsd_ort.rewrite.inside import enter, leave
from dsd_ort.rewrite.nodes import Nodes, named
from dsd_ort.rewrite.operators import Does, facts
from dsd_ort.rewrite.parts import bodies
from dsd_ort.rewrite.shapes import sizes_of

LARGEST = 1 << 16
"""Entries: larger values are left to be computed at run time."""
UNFIXED = Does.RANDOM | Does.DISPUTED | Does.QUANTISES
"""What keeps an operator from being computed here; a pair that quantises is for training to see."""

Array = npt.NDArray[Any]


class Entries(NamedTuple):
    """A value as far as it is fixed: its entries, and which of them count; the others are 1."""

    values: Array
    fixed: npt.NDArray[np.bool_]

    @property
    def complete(self) -> bool:
        return bool(self.fixed.all())


def fold(model: ir.Model, *, shapes: bool = True) -> None:
    """Does what the module says, in place.

    Requires values that have names of their own, in subgraphs too.

    Args:
        model: is changed.
        shapes: if not, only conditions may be decided by shapes: lengths that are fixed now will not be.
    """
    while True:
        ShapeInferencePass(check_type=False, strict_mode=False)(model)
        opset = model.opset_imports.get("", 18)
        folder = Folder(model.graph, opset, shapes=shapes)
        folder.replace_fixed()
        if not (folder if shapes else Folder(model.graph, opset)).take_branches():
            break
    RemoveUnusedNodesPass()(model)


class Folder:
    """What is fixed in *graph*, and inside of its Ifs and Scans.

    Args:
        graph: sorted.
        opset: its version of ONNX's operators.
        shapes: whether shapes decide values.
        infer: is called with each node, in order, before what is fixed of its outputs is decided; may set their shapes.
            With the nodes inside of an If or a Scan it is called instead of with that node.
        outer: what is fixed around *graph*, if that is inside of a node.
    """

    def __init__(
        self,
        graph: ir.Graph,
        opset: int,
        *,
        shapes: bool = True,
        infer: Callable[[ir.Node, Folder], None] | None = None,
        outer: Folder | None = None,
    ) -> None:
        self.graph, self.opset, self.shapes, self.infer = graph, opset, shapes, infer
        self.known: dict[ir.Value, Entries] = {} if outer is None else outer.known
        self.inner: list[Folder] = []
        for node in self.graph:
            if links(node) is not None:
                self._go_inside(node)
            elif infer is not None:
                infer(node, self)
            results = self.compute(node) or () if _can_be_fixed(node) else ()
            self.known.update(zip(node.outputs, results, strict=bool(results)))

    def _go_inside(self, node: ir.Node) -> None:
        """Not of a Loop: what it carries may have another shape at each step."""
        if self.infer is not None:
            enter(node)
        for body in bodies(node):
            self.inner.append(Folder(body, self.opset, shapes=self.shapes, infer=self.infer, outer=self))
        if self.infer is not None:
            leave(node)

    def replace_fixed(self) -> None:
        """Puts Constants in the place of fixed values."""
        for old, entries in list(self.known.items()):
            node = old.producer()
            if node is None or node.op_type == "Constant" or not entries.complete:
                continue
            if not isinstance(node.graph, ir.Graph) or not old.uses() or old.is_graph_output():
                continue
            new = Nodes()
            constant = named(new.constant(entries.values), f"{old.name}/fixed")
            new.put_before(node)
            self.known[constant] = entries
            old.replace_all_uses_with(constant)

    def take_branches(self) -> bool:
        """Puts branches in the place of Ifs; whether there were any, so that more may be fixed now."""
        nodes = [node for node in self.graph if node.op_type == "If" and not node.domain]
        conditions = {node: self.entries(node.inputs[0]) for node in nodes}
        taken = {node: entries for node, entries in conditions.items() if entries is not None and entries.complete}
        for node, entries in taken.items():
            inline(node, bool(entries.values.reshape(-1)[0]))
        inner = [folder.take_branches() for folder in self.inner]
        return bool(taken) or any(inner)

    def entries(self, value: ir.Value | None) -> Entries | None:
        """What is fixed of *value*; None if nothing is."""
        if value is None or value.is_graph_input():
            return None
        if value not in self.known:
            tensor = ir.convenience.get_const_tensor(value)
            if tensor is None or tensor.size > LARGEST or tensor.dtype == ir.DataType.STRING:
                return None
            array = tensor.numpy()
            self.known[value] = Entries(array, np.ones(array.shape, np.bool_))
        return self.known[value]

    def compute(self, node: ir.Node) -> list[Entries] | None:
        """What is fixed of the outputs of *node*; None if nothing is."""
        if node.op_type in ("Shape", "Size"):
            return _of_shape(node) if self.shapes else None
        inputs = [self.entries(value) for value in node.inputs]
        if any(value is not None and entries is None for value, entries in zip(node.inputs, inputs, strict=True)):
            return None
        values = self.run(node, [entries and entries.values for entries in inputs])
        if values is None or any(array.size > LARGEST for array in values):
            return None
        fixed = self.fixed(node, inputs, values)
        return None if fixed is None else [Entries(*pair) for pair in zip(values, fixed, strict=True)]

    def fixed(
        self, node: ir.Node, inputs: Sequence[Entries | None], values: Sequence[Array]
    ) -> list[npt.NDArray[np.bool_]] | None:
        """Which entries of the outputs of *node* are fixed."""
        given = [entries for entries in inputs if entries is not None]
        if all(entries.complete for entries in given):
            return [np.ones(array.shape, np.bool_) for array in values]
        does = facts(node).does
        if Does.ENTRYWISE in does:
            return [np.logical_and.reduce(np.broadcast_arrays(*(entries.fixed for entries in given)))]
        moved = [given[i] for i in facts(node).data(len(given))] if Does.MOVES in does else []
        if not moved or not all(entries.complete for entries in given[len(moved) :]):
            return None
        marks = [entries.fixed.astype(entries.values.dtype) for entries in moved]
        results = self.run(node, [*marks, *(entries and entries.values for entries in inputs[len(moved) :])])
        return None if results is None else [array.astype(np.bool_) for array in results]

    def run(self, node: ir.Node, inputs: Sequence[Array | None]) -> list[Array] | None:
        """The outputs of *node* by ONNX's reference evaluator; None where it cannot compute them."""
        proto = onnx.NodeProto()
        proto.CopyFrom(ir.to_proto(node))
        given = {name: array for name, array in zip(proto.input, inputs, strict=True) if array is not None}
        graph = onnx.GraphProto(name="node", node=[proto])
        graph.input.extend(onnx.ValueInfoProto(name=name) for name in given)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in proto.output)
        model = onnx.ModelProto(ir_version=8, graph=graph, opset_import=[onnx.OperatorSetIdProto(version=self.opset)])
        try:
            with np.errstate(all="ignore"):
                arrays = ReferenceEvaluator(model).run(None, given)
        except Exception:  # whatever it says: the node stays, and is computed at run time
            return None
        return [np.asarray(array) for array in arrays] if all(not isinstance(a, list) for a in arrays) else None


def _can_be_fixed(node: ir.Node) -> bool:
    small = all(math.prod(sizes_of(value) or ()) <= LARGEST for value in node.outputs)
    return not node.domain and not bodies(node) and small and any(node.inputs) and not UNFIXED & facts(node).does


def _of_shape(node: ir.Node) -> list[Entries] | None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return None
    fixed = np.array([isinstance(size, int) for size in shape], np.bool_)
    sizes = np.array([size if isinstance(size, int) else 1 for size in shape], np.int64)
    if node.op_type == "Size":
        return [Entries(np.asarray(sizes.prod()), np.asarray(True))] if fixed.all() else None
    part = slice(node.attributes.get_int("start", 0), node.attributes.get_int("end", None))
    return [Entries(sizes[part], fixed[part])]
