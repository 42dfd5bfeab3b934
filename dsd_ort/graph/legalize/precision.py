"""One floating-point type for training: what is float16, bfloat16 or double becomes float32.

What ships stays in the file's types: its weights are rounded to them when they are exported, and the evaluate graph,
which is the source itself, computes in them (:mod:`dsd_ort.graph.evaluation`), from weights that are rounded
as they ship; only doubles that training did not touch are measured as their float32.  Training computes in float32
throughout, from float32 weights: it is the same function but for rounding, with the gradients of that function.  This
is what mixed-precision training calls master weights, without the mixing.  So

- a Cast between floating-point types is no rounding any more, and goes;
- a constant keeps its value; one of type double is rounded, but what is finite stays finite (masks like -1e308), and
  what is not zero stays not zero;
- what overflowed in float16 does not overflow in training, but may in evaluation.

What does not depend on floating-point data or weights is no part of it: shapes and positions that the model computes in
double or float16 from integers and constants stay as they are, as a rounded one can be another.  They become float32
where they meet the rest.  Only what ONNX Runtime's CPU has no kernels for goes everywhere: all of bfloat16, and the
operators that have no kernel for double.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dsd_ort.file.payload import to_float32 as in_float32
from dsd_ort.notes import Note
from dsd_ort.rewrite.names import make_unique
from dsd_ort.rewrite.nodes import Nodes, cast, constant_value, named
from dsd_ort.rewrite.operators import Does, facts
from dsd_ort.rewrite.parts import all_values, bodies, inner_nodes, reads

OTHERS = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}
"""The types that become float32."""
_TYPE_ATTRIBUTES = {"to", "dtype", "stash_type", "output_datatype", "output_dtype", "softmax_precision"}
"""Attributes that are a ``TensorProto.data_type``."""


def to_float32(model: ir.Model) -> Note | None:
    """*model*, in place, computing in float32; the note that says so, or None where that changed nothing.

    Inputs keep their types.  Requires types of values (:func:`~dsd_ort.graph.legalize.opset.to_opset` infers them).
    """
    if not other_types(model):
        return None
    converter = _Converter(model.graph)
    converter.run()
    RemoveUnusedNodesPass()(model)
    make_unique(model)
    found = sorted(dtype.name.lower() for dtype in converter.types)
    words = f"{' and '.join(found)}: computed in float32 for training"
    return Note(kind="training", words=words) if found else None


def other_types(model: ir.Model) -> list[str]:
    """The floating-point types but float32 that values of *model* have, as ONNX calls them."""
    return sorted({value.dtype.name.lower() for value in all_values(model.graph) if value.dtype in OTHERS})


def round_inputs(model: ir.Model, types: Mapping[str, ir.DataType]) -> None:
    """Lets the nodes of *model* read each input in *types* as it is after rounding to that type, still in float32.

    One Cast to that type would not do: ONNX Runtime computes float16 in float32 on the CPU, by Casts of its own around
    each node, and drops the rounding between a Cast and these.
    """
    graph = model.graph
    for value in graph.inputs:
        dtype = types.get(str(value.name))
        if dtype is not None:
            uses = tuple(value.uses())
            wide = cast(cast(value, dtype), ir.DataType.FLOAT)
            for node, i in uses:
                node.replace_input_with(i, wide)
    make_unique(model)


class _Converter:
    """The walk through the main graph, from its inputs on; a subgraph goes with the node that it belongs to."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.converted: set[ir.Value] = set()
        """Values that depend on floating-point data or weights, and are float32 now."""
        self.copies: dict[ir.Value, ir.Value] = {}
        """Other values of :data:`OTHERS` → the same in float32."""
        self.types: set[ir.DataType] = set()
        """What values had that are float32 now."""

    def run(self) -> None:
        for value in self.graph.inputs:
            if value.dtype in OTHERS:
                uses = tuple(value.uses())
                wide = cast(value, ir.DataType.FLOAT)
                for node, i in uses:
                    node.replace_input_with(i, wide)
                self.types.add(value.dtype)
                self.converted.add(wide)
            elif value.dtype is None or value.dtype.is_floating_point():
                self.converted.add(value)
        for value in self.graph.initializers.values():
            if value.dtype == ir.DataType.BFLOAT16:
                self.retype(value)
                self.converted.add(value)
        for node in list(self.graph):
            if not self.converted.isdisjoint(reads(node)) or _has_no_kernel(node):
                self.convert(node)

    def convert(self, node: ir.Node) -> None:
        inner = list(inner_nodes(node))
        for reader in (node, *inner):
            for i, value in enumerate(reader.inputs):
                if value is not None and value.dtype in OTHERS and value.graph is self.graph:
                    reader.replace_input_with(i, self.copy(value))
        for value in (value for body in bodies(node) for value in all_values(body)):
            self.retype(value)
        for each in (node, *inner):
            _convert_attributes(each)
        for value in node.outputs:
            self.retype(value)
            if value.dtype is None or value.dtype.is_floating_point():
                self.converted.add(value)
        for each in (node, *inner):
            _drop_cast(each)

    def retype(self, value: ir.Value) -> None:
        """*value* in float32, with what is known of it: its content too, if it is an initializer."""
        if value.dtype in OTHERS:
            self.types.add(value.dtype)
        value.type = _in_float32(value.type)
        if (tensor := value.const_value) is not None and tensor.dtype in OTHERS:
            value.const_value = ir.tensor(in_float32(tensor.numpy()), name=value.name)

    def copy(self, value: ir.Value) -> ir.Value:
        """*value*, which stays as it is, in float32."""
        if value not in self.copies:
            array = constant_value(value)
            if array is None:
                wide = cast(value, ir.DataType.FLOAT)
            else:
                new = Nodes()
                wide = named(new.constant(in_float32(array)), f"{value.name}/float")
                new.put_behind(value)
            self.copies[value] = wide
            self.converted.add(wide)
        return self.copies[value]


def _has_no_kernel(node: ir.Node) -> bool:
    found = {value.dtype for value in node.outputs}
    return ir.DataType.BFLOAT16 in found or (ir.DataType.DOUBLE in found and Does.NO_DOUBLE in facts(node).does)


def _in_float32(kind: ir.TypeProtocol | None) -> ir.TypeProtocol | None:
    if isinstance(kind, ir.TensorType):
        return ir.TensorType(ir.DataType.FLOAT) if kind.dtype in OTHERS else kind
    if isinstance(kind, ir.SequenceType | ir.OptionalType):
        inner = _in_float32(kind.elem_type)
        assert inner is not None
        return type(kind)(inner)
    return kind


def _convert_attributes(node: ir.Node) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in OTHERS:
            node.attributes[name] = ir.AttrTensor(name, ir.tensor(in_float32(attribute.as_tensor().numpy())))
        elif name in _TYPE_ATTRIBUTES and attribute.type == ir.AttributeType.INT and attribute.as_int() in OTHERS:
            node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT.value)


def _drop_cast(node: ir.Node) -> None:
    """A Cast from float32 to float32 goes; an output of the model keeps its name, and so an Identity."""
    value = node.inputs[0] if node.op_type == "Cast" and not node.domain else None
    if value is None or value.dtype != ir.DataType.FLOAT or node.outputs[0].dtype != ir.DataType.FLOAT:
        return
    (output,) = node.outputs
    if output.is_graph_output():
        node.op_type = "Identity"
        node.attributes.clear()
    else:
        output.replace_all_uses_with(value)
