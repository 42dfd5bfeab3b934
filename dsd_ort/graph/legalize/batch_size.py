"""A batch size that the file fixes becomes any batch size.

The first axis of every input is k, the same for all.  Along the graph, a *mark* says where the batch stands in a value:
its axis has the length before · k · after (as in [k, T, C] → [k·T, C], where after = T).  Most operators carry the mark
as ONNX's shape inference carries the name of a dimension.  Where a constant holds the batch size it is written anew:

- Reshape: the entry of the axis that the batch is in becomes -1;
- Expand, Resize, Slice, Tile: that axis keeps its length;
- a constant that meets the batch (Concat, the initial state of a recurrent layer, an operand of that length) is
  repeated for the batch, or stands once for all of it; it has to be the same for each example.

Where the batch would be mixed or lost (Gather or Squeeze of its axis, a sum over it) the node is refused.  By length
alone, a Reshape may leave open where the batch goes; the common reading is taken, so the result has to be compared with
the model (:mod:`dsd_ort.graph.adapt` does it).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from dsd_ort.errors import UnsupportedError
from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.operators import Does, facts, key

BATCH = "batch"
_END = 2**63 - 1
_NO_DATA = {"Shape", "Size"}

Array = npt.NDArray[Any]


class Mark(NamedTuple):
    """Where the batch stands: in the axis of length ``before * k * after``."""

    axis: int
    before: int = 1
    after: int = 1


def fixed_batch(inputs: Sequence[ir.Value]) -> int | None:
    """The length of the first axis of all *inputs*, if it is fixed and the same for all."""
    sizes = {value.shape[0] for value in inputs if value.shape is not None and value.shape.rank()}
    size = sizes.pop() if len(sizes) == 1 else None
    return size if isinstance(size, int) and size > 0 else None


def fix(k: int) -> str:
    """What a user can do whose model keeps the batch size *k*."""
    return f"use batch_size = {k} and data.drop_last = true, or export the model with a symbolic batch"


def free(model: ir.Model, inputs: Sequence[ir.Value], k: int) -> None:
    """Makes the first axis of *inputs*, of length *k*, symbolic, in place.

    Requires that what constants alone fix is folded.

    Raises:
        UnsupportedError: a node that needs this batch size.
    """
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    _Freer(model, inputs, k).free()


class _Freer:
    def __init__(self, model: ir.Model, inputs: Sequence[ir.Value], k: int) -> None:
        self.model, self.graph, self.k, self.inputs = model, model.graph, k, inputs
        self.opset = model.opset_imports.get("", 18)
        self.shapes = {value: _static(value) for value in _values(model.graph)}
        self.marks = {value: Mark(0) for value in inputs}
        self.length: ir.Value | None = None
        self.count = 0

    def free(self) -> None:
        for node in list(self.graph):
            marked = [value for value in node.inputs if value in self.marks]
            if not marked or node.op_type in _NO_DATA:
                continue
            if any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()):
                raise self.refusal(node, "it computes with a subgraph")
            self.rule(node)(self, node)
            if not any(value in self.marks for value in node.outputs):
                raise self.refusal(node, "it mixes or picks examples of the batch")
        for output in self.graph.outputs:
            mark = self.marks.get(output)
            if mark != Mark(0):
                what = f"the batch size is fixed at {self.k}: the first axis of an output is not the batch"
                raise UnsupportedError(what, where=f"output {output.name!r}", fix=fix(self.k))
        for value in _values(self.graph):
            if value in self.inputs:
                value.shape = ir.Shape([BATCH, *(value.shape or ())[1:]])
            elif value in self.graph.outputs:
                value.shape = ir.Shape([BATCH, *(self.shapes.get(value) or value.shape or ())[1:]])
            elif (maker := value.producer()) is not None and maker.op_type != "Constant":
                value.shape = None
        RemoveUnusedNodesPass()(self.model)  # an Expand that nothing reads would still be run, and fail
        ShapeInferencePass(check_type=False, strict_mode=False)(self.model)

    @staticmethod
    def rule(node: ir.Node) -> Rule:
        """What carries the batch through *node*: a rule of its own, or of its kind."""
        known = facts(node)
        of_kind = _Freer.by_entry if Does.ENTRYWISE in known.does else _Freer.recurrent if known.gates else _Freer.carry
        return RULES.get(key(node), of_kind)

    def refusal(self, node: ir.Node, why: str) -> UnsupportedError:
        what = f"the batch size is fixed at {self.k}, and {node.op_type} keeps it from being any other: {why}"
        return UnsupportedError(what, where=place(node), fix=fix(self.k))

    # --- what each operator does

    def carry(self, node: ir.Node) -> None:
        """The mark goes where shape inference has it."""
        found = self.infer(node)
        if not found:  # an operator of another domain: an axis that keeps place and length keeps the batch
            value, mark = self.marked(node)
            shape = self.shapes.get(value)
            for output in node.outputs:
                other = self.shapes.get(output)
                if shape and other and len(shape) == len(other) and shape[mark.axis] == other[mark.axis]:
                    found[output] = mark
        self.marks.update(found)

    def infer(self, node: ir.Node) -> dict[ir.Value, Mark]:
        """The marks of the outputs, by ONNX's inference of the name of a dimension."""
        if node.domain or not onnx.defs.has(node.op_type, max_inclusive_version=self.opset):
            return {}
        schema = onnx.defs.get_schema(node.op_type, self.opset)
        types = {str(v.name): self.type_of(v) for v in node.inputs if v is not None and v.name}
        constants = ((v, constant_value(v)) for v in node.inputs if v is not None and v.name)
        data = {str(v.name): onnx.numpy_helper.from_array(a) for v, a in constants if a is not None and a.ndim < 2}
        opsets = [onnx.OperatorSetIdProto(version=self.opset)]
        try:
            inferred = onnx.shape_inference.infer_node_outputs(
                schema, ir.to_proto(node), types, data, opset_imports=opsets, ir_version=10
            )
        except Exception:  # whatever it cannot do: the mark is not found
            return {}
        marks = {}
        for output in node.outputs:
            proto = inferred.get(str(output.name))
            for axis, size in enumerate(proto.tensor_type.shape.dim if proto is not None else ()):
                if size.dim_param.startswith(f"{BATCH}:"):
                    _, before, after = size.dim_param.split(":")
                    marks[output] = Mark(axis, int(before), int(after))
        return marks

    def type_of(self, value: ir.Value) -> onnx.TypeProto:
        proto, shape, mark = onnx.TypeProto(), self.shapes.get(value), self.marks.get(value)
        proto.tensor_type.elem_type = int(value.dtype or 0)
        for axis, size in enumerate(shape or ()):
            if mark is not None and axis == mark.axis:
                proto.tensor_type.shape.dim.add(dim_param=f"{BATCH}:{mark.before}:{mark.after}")
            else:
                proto.tensor_type.shape.dim.add(dim_value=size)
        if shape == ():
            proto.tensor_type.shape.SetInParent()
        return proto

    def by_entry(self, node: ir.Node) -> None:
        """Operands that have the batch's length stand once for all of it."""
        value, mark = self.marked(node)
        from_end = mark.axis - len(self.shape(node, value))
        for i, other in enumerate(node.inputs):
            if other is None or other in self.marks or -from_end > len(self.shape(node, other)):
                continue
            size = self.shape(node, other)[from_end]
            if size > 1:
                node.replace_input_with(i, self.once(node, other, from_end + len(self.shape(node, other)), mark))
        self.carry(node)

    def concat(self, node: ir.Node) -> None:
        """Operands without the batch are repeated for it."""
        value, mark = self.marked(node)
        axis = node.attributes.get_int("axis", 0) % len(self.shape(node, value))
        if axis == mark.axis:
            raise self.refusal(node, "it joins examples")
        for i, other in enumerate(node.inputs):
            if other is not None and other not in self.marks:
                node.replace_input_with(i, self.repeated(node, other, mark))
        self.marks[node.outputs[0]] = mark

    def recurrent(self, node: ir.Node) -> None:
        """Initial states and lengths are repeated for the batch."""
        for i, axis in ((4, 0), (5, 1), (6, 1)):
            other = node.inputs[i] if i < len(node.inputs) else None
            if other is not None and other not in self.marks:
                node.replace_input_with(i, self.repeated(node, other, Mark(axis)))
        self.carry(node)

    def reshape(self, node: ir.Node) -> None:
        x, target = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
        shape, other = self.shape(node, x), self.shape(node, node.outputs[0])
        assert x is not None
        mark = _reshaped(self.marks[x], shape, other, self.k)
        if mark is None:
            raise self.refusal(node, f"from {list(shape)} to {list(other)} the batch is not one axis")
        entries = constant_value(target)
        if node.op_type == "Reshape" and entries is not None and entries[mark.axis] != -1:
            new = [-1 if axis == mark.axis else size for axis, size in enumerate(other)]
            node.replace_input_with(1, self.constant(node, new))
        self.marks[node.outputs[0]] = mark

    def expand(self, node: ir.Node) -> None:
        """1 in the target shape keeps a length."""
        x, target = node.inputs[0], constant_value(node.inputs[1])
        if x not in self.marks:
            return
        shape, other, mark = self.shape(node, x), self.shape(node, node.outputs[0]), self.marks[x]
        axis = mark.axis + len(other) - len(shape)
        if other[axis] != shape[mark.axis]:
            raise self.refusal(node, "it repeats examples")
        if target is not None and (at := axis - len(other) + len(target)) >= 0:
            node.replace_input_with(1, self.constant(node, [1 if i == at else n for i, n in enumerate(target)]))
        self.marks[node.outputs[0]] = mark._replace(axis=axis)

    def slice_(self, node: ir.Node) -> None:
        x = node.inputs[0]
        if x not in self.marks:
            return
        mark, shape = self.marks[x], self.shape(node, x)
        starts, ends, axes, steps = (constant_value(v) for v in [*node.inputs[1:], *[None] * 4][:4])
        if self.shape(node, node.outputs[0])[mark.axis] != shape[mark.axis]:
            raise self.refusal(node, "it picks examples")
        listed = list(range(len(shape))) if axes is None else [int(axis) % len(shape) for axis in axes]
        if ends is not None and mark.axis in listed:
            at = listed.index(mark.axis)
            if (steps is not None and steps[at] < 0) or starts is None or starts[at] != 0:
                raise self.refusal(node, "it changes the order of examples")
            node.replace_input_with(2, self.constant(node, [_END if i == at else n for i, n in enumerate(ends)]))
        self.marks[node.outputs[0]] = mark

    def resize(self, node: ir.Node) -> None:
        x = node.inputs[0]
        sizes = constant_value(node.inputs[3]) if len(node.inputs) > 3 else None
        axes = node.attributes.get_ints("axes", range(len(self.shape(node, x))))
        assert x is not None
        if sizes is not None and self.marks[x].axis in axes:
            at = list(axes).index(self.marks[x].axis)
            batch = self.batch(node) if self.marks[x] == Mark(self.marks[x].axis) else None
            if batch is None:
                raise self.refusal(node, "its sizes hold the batch in part of an axis")
            parts = [self.constant(node, sizes[:at]), batch, self.constant(node, sizes[at + 1 :])]
            node.replace_input_with(3, self.add(node, "Concat", parts, axis=0))
        self.marks[node.outputs[0]] = self.marks[x]

    def einsum(self, node: ir.Node) -> None:
        terms, _, result = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
        for value, term in zip(node.inputs, terms.split(","), strict=False):
            if value in self.marks and "." not in term and (letter := term[self.marks[value].axis]) in result:
                self.marks[node.outputs[0]] = self.marks[value]._replace(axis=result.index(letter))

    # --- values without the batch that meet it

    def once(self, node: ir.Node, value: ir.Value, axis: int, mark: Mark) -> ir.Value:
        """*value*, which is the same for every example along *axis*, with length 1 there."""
        if self.shape(node, value)[axis] == 1:
            return value
        if mark.before * mark.after > 1 or not self.is_same(node, value, axis):
            raise self.refusal(node, f"{value.name!r} has a part for each example")
        maker = value.producer()
        if (
            maker is not None
            and maker.op_type == "Expand"
            and self.shapes.get(self.read(maker, 0)) == self.shapes[value]
        ):
            return self.once(node, self.read(maker, 0), axis, mark)  # with another batch it would not fit its target
        numbers = [self.constant(node, [n]) for n in (0, 1, axis)]
        first = self.add(node, "Slice", [value, *numbers])
        first.type = value.type
        self.shapes[first] = tuple(1 if i == axis else n for i, n in enumerate(self.shape(node, value)))
        return first

    def repeated(self, node: ir.Node, value: ir.Value, mark: Mark) -> ir.Value:
        """*value*, which is the same for every example, repeated for the batch."""
        if mark.before * mark.after > 1:
            raise self.refusal(node, f"{value.name!r} has to be repeated within an axis")
        one = self.once(node, value, mark.axis, mark)
        rank = len(self.shape(node, value))
        parts = [self.constant(node, [1] * n) for n in (mark.axis, rank - mark.axis - 1)]
        shape = self.add(node, "Concat", [parts[0], self.batch(node), parts[1]], axis=0)
        new = self.add(node, "Expand", [one, shape])
        new.type = value.type
        self.shapes[new], self.marks[new] = self.shape(node, value), mark
        return new

    def is_same(self, node: ir.Node, value: ir.Value, axis: int) -> bool:
        """Whether *value* is known to be the same all along *axis*."""
        array = constant_value(value)
        if array is not None:
            return bool((array == array.take([0], axis)).all())
        operands = self.along(node, value, axis)
        return operands is not None and all(
            self.shape(node, other)[at] == 1 or self.is_same(node, other, at) for other, at in operands
        )

    def along(self, node: ir.Node, value: ir.Value, axis: int) -> list[tuple[ir.Value, int]] | None:
        """The operands of what computes *value*, and their axes, that decide how it changes along *axis*."""
        maker = value.producer()
        if maker is None or maker.domain:
            return None
        if maker.op_type == "Gemm" and axis == 0 and not maker.attributes.get_int("transA", 0):
            return [(self.read(maker, 0), 0)]
        if maker.op_type == "Gather":
            indices, at = self.read(maker, 1), axis - maker.attributes.get_int("axis", 0)
            return [(indices, at)] if 0 <= at < len(self.shape(node, indices)) else None
        operands: Sequence[ir.Value | None] = maker.inputs[:1] if maker.op_type == "Expand" else maker.inputs
        if Does.ENTRYWISE not in facts(maker).does and maker.op_type not in ("Expand", "Identity"):
            return [] if maker.op_type == "ConstantOfShape" else None
        rank = len(self.shape(node, value))
        places = [(other, axis - rank + len(self.shape(node, other))) for other in operands if other is not None]
        return [(other, at) for other, at in places if at >= 0]

    # --- nodes

    def shape(self, node: ir.Node, value: ir.Value | None) -> tuple[int, ...]:
        shape = self.shapes.get(value) if value is not None else None
        if shape is None:
            raise self.refusal(node, f"the shape of {value.name if value else None!r} is not known")
        return shape

    def read(self, node: ir.Node, index: int) -> ir.Value:
        value = node.inputs[index]
        assert value is not None
        return value

    def marked(self, node: ir.Node) -> tuple[ir.Value, Mark]:
        """The first input that holds the batch."""
        value = next(value for value in node.inputs if value in self.marks)
        assert value is not None
        return value, self.marks[value]

    def batch(self, node: ir.Node) -> ir.Value:
        """The batch size, i64[1], at run time."""
        if self.length is None:
            first = next(iter(self.graph))
            whole = self.add(first, "Shape", [self.inputs[0]])
            zero = self.constant(first, [0])
            self.length = self.add(first, "Gather", [whole, zero], axis=0)
        return self.length

    def constant(self, node: ir.Node, numbers: Sequence[int] | Array) -> ir.Value:
        value = self.add(node, "Constant", [], value=ir.tensor(np.asarray(numbers, np.int64)))
        self.shapes[value] = (len(numbers),)
        return value

    def add(self, node: ir.Node, op_type: str, inputs: Sequence[ir.Value], **attributes: Any) -> ir.Value:
        """A new node in front of *node*."""
        self.count += 1
        new = ir.node(op_type, inputs, attributes, name=f"{BATCH}/{op_type}_{self.count}")
        new.outputs[0].name = new.name
        self.graph.insert_before(node, new)
        return new.outputs[0]


Rule: TypeAlias = Callable[[_Freer, ir.Node], None]

RULES: Mapping[str, Rule] = {
    "Concat": _Freer.concat,
    "Einsum": _Freer.einsum,
    "Expand": _Freer.expand,
    "Flatten": _Freer.reshape,
    "Reshape": _Freer.reshape,
    "Resize": _Freer.resize,
    "Slice": _Freer.slice_,
}


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]


def _static(value: ir.Value) -> tuple[int, ...] | None:
    """The shape of *value*, if all of it is known."""
    tensor = ir.convenience.get_const_tensor(value)
    shape = tensor.shape if tensor is not None else value.shape
    sizes = [size for size in shape or () if isinstance(size, int)]
    return None if shape is None or len(sizes) < len(shape) else tuple(sizes)


def _reshaped(mark: Mark, shape: Sequence[int], other: Sequence[int], k: int) -> Mark | None:
    """Where the batch stands after a Reshape from *shape* to *other*, both with the batch size k.

    In memory, in front of the batch stand before · (the lengths of the axes in front) parts.  They have to be made by
    whole axes of *other* and a factor of the next one.
    """
    front = math.prod(shape[: mark.axis]) * mark.before
    found = []
    for axis, size in enumerate(other):
        whole = math.prod(other[:axis])
        if whole and front % whole == 0 and size % (front // whole * k) == 0:
            before = front // whole
            found.append(Mark(axis, before, size // (before * k)))

    def rank(new: Mark) -> tuple[bool, ...]:
        exact = new.before == new.after == 1
        behind = tuple(other[new.axis + 1 :]) == tuple(shape[mark.axis + 1 :])  # [T, k, C] → [T·k, C]
        left = new.after == 1 and behind
        features = new.axis == len(other) - 1
        return not (exact and new.axis == mark.axis), not exact, new != mark, features, not left, new.before != 1

    return min(found, key=rank) if found else None
