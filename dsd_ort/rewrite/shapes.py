"""Types and shapes behind one node, from shapes and constants in front of it.

ONNX knows those of its own operators.  Those of the training operators, and of com.microsoft's others in prepared
graphs, are in :data:`RULES`: a gradient has the shape of what it is the gradient of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnx.defs
import onnx.shape_inference
import onnx_ir as ir

from dsd_ort.rewrite import element_types
from dsd_ort.rewrite.operators import Does, key, those_that
from dsd_ort.rewrite.parts import bodies

Dims: TypeAlias = "ir.Shape | Sequence[int | ir.SymbolicDim]"
Content: TypeAlias = "Callable[[ir.Value | None], npt.NDArray[Any] | None]"
"""The content of a value, where it is fixed."""
Rule: TypeAlias = "Callable[[ir.Node, Content], Sequence[Dims | None]]"
"""From a node to the shapes of its outputs; None where one is not known."""

MICROSOFT = "com.microsoft"


def infer(node: ir.Node, content: Content, opset: int) -> None:
    """Sets types and shapes of *node*'s outputs, as far as they follow; what is known already stays."""
    rule = RULES.get(key(node))
    if rule is not None:
        for i, (output, dims) in enumerate(zip(node.outputs, rule(node, content), strict=False)):
            refine(output, dims)
            if output.type is None and (dtype := element_types.result(node, i)) is not None:
                output.type = ir.TensorType(dtype)
        return
    if bodies(node) or any(value is not None and value.type is None for value in node.inputs):
        return  # of bodies: :mod:`.inside`
    types = [None if value is None else _type_of(value) for value in node.inputs]
    for output, found in zip(node.outputs, by_schema(node, types, content, opset), strict=True):
        if found is not None and found.HasField("tensor_type"):
            output.type = output.type or ir.serde.deserialize_type_proto_for_type(found)
            refine(output, ir.serde.deserialize_type_proto_for_shape(found))


def refine(value: ir.Value, dims: Dims | None) -> None:
    """The sizes among *dims* become *value*'s; its others stay."""
    if dims is None:
        return
    known = value.shape if value.shape is not None and len(value.shape) == len(dims) else dims
    value.shape = ir.Shape([new if isinstance(new, int) else old for new, old in zip(dims, known, strict=True)])


def dims_of(value: ir.Value) -> tuple[int | str | None, ...] | None:
    """The dimensions of *value*, each an int, the name of a symbolic one, or None; None where the rank is not known."""
    return None if value.shape is None else tuple(d if isinstance(d, int) else d.value for d in value.shape)


def sizes_of(value: ir.Value) -> list[int] | None:
    """The shape of *value*, if all of it is known."""
    sizes = [] if value.shape is None else [dim for dim in value.shape if isinstance(dim, int)]
    return None if value.shape is None or len(sizes) < len(value.shape) else sizes


def by_schema(
    node: ir.Node, types: Sequence[onnx.TypeProto | None], content: Content, opset: int
) -> Sequence[onnx.TypeProto | None]:
    """What ONNX says of the types of *node*'s outputs, its inputs having *types*; None where it says nothing.

    Inputs and outputs go by their numbers: new nodes may have names that others have too.
    """
    nothing = [None] * len(node.outputs)
    if node.domain or not onnx.defs.has(node.op_type, max_inclusive_version=opset):
        return nothing
    proto = ir.serde.serialize_node(node)
    proto.input[:] = ["" if kind is None else f"i{i}" for i, kind in enumerate(types)]
    proto.output[:] = [f"o{i}" for i in range(len(node.outputs))]
    given = {name: kind for name, kind in zip(proto.input, types, strict=True) if kind is not None}
    arrays = {name: content(value) for name, value in zip(proto.input, node.inputs, strict=True) if name}
    data = {
        name: onnx.numpy_helper.from_array(array, name)
        for name, array in arrays.items()
        if array is not None and array.ndim < 2  # no shape depends on more
    }
    schema, imports = onnx.defs.get_schema(node.op_type, opset), [onnx.OperatorSetIdProto(version=opset)]
    try:
        found = onnx.shape_inference.infer_node_outputs(
            schema, proto, given, data, opset_imports=imports, ir_version=10
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError):
        return nothing  # It stays as it is, and is seen at run time.
    return [found.get(name) for name in proto.output]


def _type_of(value: ir.Value) -> onnx.TypeProto:
    proto = onnx.TypeProto()
    assert value.type is not None
    ir.serde.serialize_type_into(proto, value.type)
    if value.shape is not None:
        ir.serde.serialize_shape_into(proto, value.shape)
    return proto


def _constant(node: ir.Node, content: Content) -> Sequence[Dims | None]:
    tensor = ir.convenience.get_const_tensor(node.outputs[0])
    return [None if tensor is None else list(tensor.shape.numpy())]


def _broadcast(node: ir.Node, content: Content) -> Sequence[Dims | None]:
    """Along each axis the length that is not 1; where two symbols meet, it is not known which."""
    shapes = [value.shape for value in node.inputs if value is not None]
    dims: list[int | ir.SymbolicDim] = []
    for axis in range(-max((len(shape) for shape in shapes if shape is not None), default=0), 0):
        here = {shape[axis] for shape in shapes if shape is not None and len(shape) >= -axis} - {1}
        sizes = {dim for dim in here if isinstance(dim, int)}
        if len(sizes) > 1:
            return [None]
        left = list(sizes or here)
        dims.append(1 if not left else left[0] if len(left) == 1 else ir.SymbolicDim(None))
    return [None if None in shapes else dims]


def _like(*indices: int) -> Rule:
    """The outputs have the shapes of these inputs."""
    return lambda node, content: [_dims(node, index) for index in indices]


def _content_of(index: int) -> Rule:
    """The output has the shape that is the content of this input."""

    def rule(node: ir.Node, content: Content) -> Sequence[Dims | None]:
        array = content(node.inputs[index])
        return [None if array is None else array.tolist()]

    return rule


def _max_pool_gradient(node: ir.Node, content: Content) -> Sequence[Dims | None]:
    """The shape of what the MaxPool read whose indices are the second input, for dX."""
    pool = None if node.inputs[1] is None else node.inputs[1].producer()
    return [None if pool is None else _dims(pool, 0)]


def _convolution_gradient(node: ir.Node, content: Content) -> Sequence[Dims | None]:
    weight = _dims(node, 2)
    return [_dims(node, 1), weight, None if weight is None else weight[:1]]


def _product(node: ir.Node, content: Content) -> Sequence[Dims | None]:
    """FusedMatMul(A, B): [batch…, rows of A, columns of B], the batch broadcast."""
    a, b = _dims(node, 0), _dims(node, 1)
    flags = [node.attributes.get_int(name, 0) for name in ("transA", "transB", "transBatchA", "transBatchB")]
    if a is None or b is None or len(a) < 2 or len(b) < 2 or any(flags[2:]):
        return [None]
    try:
        batch = np.broadcast_shapes(tuple(a[:-2]), tuple(b[:-2]))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return [None]
    return [[*batch, a[-1] if flags[0] else a[-2], b[-2] if flags[1] else b[-1]]]


def _dims(node: ir.Node, index: int) -> Dims | None:
    value = node.inputs[index]
    return None if value is None or value.shape is None else list(value.shape)


RULES: dict[str, Rule] = {
    **dict.fromkeys(those_that(Does.ENTRYWISE), _broadcast),
    "Constant": _constant,
    "MaxPoolGrad": _max_pool_gradient,
    "com.microsoft.BatchNormInternal": _like(0, 1, 1, 1, 1),
    "com.microsoft.BatchNormalizationGrad": _like(1, 2, 2),
    "com.microsoft.BiasGelu": _like(0),
    "com.microsoft.BiasGeluGrad_dX": _like(0),
    "com.microsoft.ConvGrad": _convolution_gradient,
    "com.microsoft.DivGrad": _like(1, 2),
    "com.microsoft.DropoutGrad": _like(0),
    "com.microsoft.FastGelu": _like(0),
    "com.microsoft.FastGeluGrad": _like(0),
    "com.microsoft.FusedMatMul": _product,
    "com.microsoft.GatherElementsGrad": _content_of(1),
    "com.microsoft.GatherGrad": _content_of(0),
    "com.microsoft.GatherNDGrad": _content_of(0),
    "com.microsoft.Gelu": _like(0),
    "com.microsoft.GeluGrad": _like(0),
    "com.microsoft.LayerNormalizationGrad": _like(1, 2, 2),
    "com.microsoft.LeakyReluGrad": _like(0),
    "com.microsoft.LogSoftmaxGrad_13": _like(0),
    "com.microsoft.QuickGelu": _like(0),
    "com.microsoft.QuickGeluGrad": _like(0),
    "com.microsoft.ReluGrad": _like(0),
    "com.microsoft.Scale": _like(0),
    "com.microsoft.SigmoidGrad": _like(0),
    "com.microsoft.SliceGrad": _content_of(1),
    "com.microsoft.SoftmaxCrossEntropyLossGrad": _like(1),
    "com.microsoft.SoftmaxGrad_13": _like(0),
    "com.microsoft.TanhGrad": _like(0),
    "com.microsoft.Trilu": _like(0),
}
"""Of ONNX's own, what most new nodes are: by its schemas it would take ten times as long.  Of com.microsoft's, what
gradients are written with, but for BroadcastGradientArgs, and what every build of ONNX Runtime has."""
