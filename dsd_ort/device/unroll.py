"""Scan → T copies of its body, where the number of steps T is known.

ONNX Runtime goes through the body of a Scan on the host, a node and a step at a time; on a GPU that takes longer than
the small products of a step do, and a graph with a Scan cannot be recorded.  On CUDA a session is opened for one shape
of batch, so T is known, and what is left are kernels.  With the states h, the sequences x and outer values z, a step
computes ``h, y[t] = body(h, x[t], z)``, from the first t to the last or the other way.  Nodes of the body are of one of
three kinds, and only the last comes T times:

* FIXED: what depends on outer values alone is computed once.
* SEQUENCE: what depends entry by entry on the sequences is computed for all steps at once, in front.
* STEP: the rest.

Sequences are cut into steps, and steps put together, by :mod:`~.steps`.

Requires sizes in bodies (:mod:`~.specialize`), and the last form of them: whether a Scan is unrolled must
not change what it computes, so mixed precision comes first.  Ensures the same outputs under the same names, and on the
CPU the same bits.  What stays a Scan has no known T, an If, a Loop or such a Scan inside, or too many nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dsd_ort.device.scan import Kind, Scan, rank_of
from dsd_ort.device.steps import Writer, cut, from_front, put_together, to_front
from dsd_ort.rewrite.names import Names, label
from dsd_ort.rewrite.nodes import Nodes, take_over
from dsd_ort.rewrite.shapes import sizes_of

MOST = 1 << 17
"""New nodes in a model."""
OPSET = 13
"""From here on Split and Slice take what they take here."""

Given = TypeVar("Given")


def unroll(model: ir.Model, *, most: int = MOST) -> tuple[str, ...]:
    """Does what the module says, in place; one line for each Scan.

    Args:
        model: is changed.
        most: new nodes in all; a Scan that would bring more stays what it is.
    """
    opset = model.opset_imports.get("", OPSET)
    notes: list[str] = []
    if opset >= OPSET and any(_is_scan(node) for node in model.graph):
        model.graph.sort()
        _unroll(model.graph, most, Names(model.graph), opset, notes)
        RemoveUnusedNodesPass()(model)
    return tuple(notes)


def _is_scan(node: ir.Node) -> bool:
    return node.op_type == "Scan" and not node.domain


def _unroll(graph: ir.Graph, most: int, names: Names, opset: int, notes: list[str]) -> int:
    """The Scans of *graph*, inner ones first; how many nodes that brought."""
    left = most
    for node in [node for node in graph if _is_scan(node)]:
        left -= _unroll(node.attributes["body"].as_graph(), left, names, opset, notes)
        scan, name = Scan(node), label(node)
        what = scan.obstacle() or (f"{scan.size()} nodes would be too many" if scan.size() > left else None)
        if what is None:
            left -= (count := Unrolled(scan, Writer(f"unrolled{len(notes)}", opset=opset, names=names)).replace())
            what = f"{scan.length} steps in {count} nodes"
        notes.append(f"Scan {name!r}: {what}")
    return most - left


class Unrolled:
    """The nodes that take the place of *scan*."""

    def __init__(self, scan: Scan, new: Nodes) -> None:
        self.scan, self.new = scan, new
        self.outer: dict[ir.Value, ir.Value] = {}
        """FIXED and SEQUENCE values of the body → outside, the latter with all steps along the first axis."""
        self.pieces: dict[ir.Value, list[ir.Value]] = {}
        """SEQUENCE values → what they are at each step, in the order of computation."""

    def replace(self) -> int:
        """Puts them there; how many they are."""
        node = self.scan.node
        self.once()
        results = [self.result(index, values) for index, values in enumerate(self.each())]
        for old, new in zip(node.outputs, results, strict=True):
            if new is None:
                continue
            if old.is_graph_output():
                take_over(old, self.new.Identity(new), None)
            else:
                old.replace_all_uses_with(new)
        count = len(self.new.nodes)
        self.new.put_before(node)
        assert node.graph is not None
        node.graph.remove(node, safe=True)
        return count

    def once(self) -> None:
        """What is computed once, or for all steps at once."""
        scan, new = self.scan, self.new
        for value in scan.body.initializers.values():
            assert value.const_value is not None
            self.outer[value] = new.constant(value.const_value)
        pairs = zip(scan.body.inputs[scan.states :], scan.node.inputs[scan.states :], scan.input_axes, strict=True)
        for inner, sequence, axis in pairs:
            assert sequence is not None
            if inner.uses() or inner.is_graph_output():
                self.outer[inner] = to_front(new, sequence, axis % rank_of(sequence))
        for node in scan.nodes:
            kind = scan.kind(node.outputs[0])
            if kind is Kind.STEP:
                continue
            inputs = [value and self.outer.get(value, value) for value in node.inputs]
            if node.op_type == "Identity" and not node.domain:
                self.outer[node.outputs[0]] = _given(inputs[0])
                continue
            attributes = dict(node.attributes)
            if node.op_type == "Split" and kind is Kind.SEQUENCE:
                axis = node.attributes.get_int("axis", 0)
                attributes["axis"] = ir.AttrInt64("axis", axis + 1 if axis >= 0 else axis)
            for old, output in zip(node.outputs, new.copy(node, inputs, f"{new.name}.once", attributes), strict=True):
                if kind is Kind.SEQUENCE:
                    output.shape = ir.Shape([scan.length, *_given(old.shape)])
                self.outer[old] = output

    def each(self) -> list[list[ir.Value]]:
        """For each output of the body, its value at each step, in the order of computation."""
        scan, steps = self.scan, self.scan.steps()
        outputs: list[list[ir.Value]] = [[] for _ in scan.body.outputs]
        states: list[ir.Value | None] = list(scan.node.inputs[: scan.states])
        for t in range(scan.length):
            here = {inner: state for inner, state in zip(scan.body.inputs, states, strict=False) if state is not None}
            name = f"{self.new.name}.{t}"
            for node in steps:
                inputs = [value and self.at(value, t, here) for value in node.inputs]
                known = _same(node, inputs)
                copies = [known] if known is not None else self.new.copy(node, inputs, name)
                here |= zip(node.outputs, copies, strict=True)
            for i, value in enumerate(scan.body.outputs):
                if value in scan.wanted:
                    outputs[i].append(self.at(value, t, here))
            states = [values[-1] if values else None for values in outputs[: scan.states]]
        return outputs

    def at(self, value: ir.Value, t: int, here: dict[ir.Value, ir.Value]) -> ir.Value:
        """*value* of the body at step *t*."""
        if value in here:
            return here[value]
        if self.scan.kind(value) is not Kind.SEQUENCE:
            return self.outer.get(value, value)
        if value not in self.pieces:
            pieces = cut(self.new, self.outer[value], self.scan.length, _given(sizes_of(value)))
            self.pieces[value] = pieces[::-1] if self.scan.turned[value] else pieces
        return self.pieces[value][t]

    def result(self, index: int, values: list[ir.Value]) -> ir.Value | None:
        """What takes the place of output *index*, the body's being *values*; None if nothing needs it."""
        scan, inner = self.scan, self.scan.body.outputs[index]
        if not values or index < scan.states:
            return values[-1] if values else None
        axis, turned = (flags[index - scan.states] for flags in (scan.output_axes, scan.output_turned))
        if scan.kind(inner) is Kind.SEQUENCE and scan.turned[inner] == bool(turned):
            whole = self.outer[inner]
        else:
            whole = put_together(self.new, values[::-1] if turned else values, _given(sizes_of(inner)))
        return from_front(self.new, whole, axis % rank_of(whole))


def _same(node: ir.Node, inputs: Sequence[ir.Value | None]) -> ir.Value | None:
    """What *node* gives, if that is there already: it copies, or casts back to 16 bit what was cast from there."""
    if node.domain or node.op_type not in {"Cast", "Identity"}:
        return None
    value = _given(inputs[0])
    if node.op_type == "Identity":
        return value
    cast = value.producer()
    narrow = cast.inputs[0] if cast is not None and cast.op_type == "Cast" and not cast.domain else None
    halves = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    back = narrow is not None and narrow.dtype in halves and value.dtype == ir.DataType.FLOAT
    return narrow if back and narrow.dtype == node.attributes.get_int("to", 0) else None  # type: ignore[union-attr]


def _given(value: Given | None) -> Given:
    assert value is not None
    return value
