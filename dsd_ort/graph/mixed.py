"""Mixed precision: the products of a training graph in 16 bit, everything that 16 bit could spoil in float32.

A prepared graph computes in float32.  This is the last rewrite before a session is opened, behind
:mod:`~dsd_ort.graph.lower` and :mod:`~dsd_ort.graph.portable`.  Ensures the same inputs and outputs, in float32:
weights, masks, statistics and the loss stay what they were, and only values inside the graph become 16 bit.  One more
input, :data:`LOSS_SCALE`, is what all gradients come out multiplied by.

:data:`KINDS` says what an operator computes in, as PyTorch's autocast does:

* HALF: products of what is learnt or depends on data.  Both factors are cast, and so is the result; inside, a tensor
  core adds up in float32.
* FOLLOW: elementwise and layout operators stay in 16 bit if all they read is 16 bit; one float32 among it, and they are
  float32.  Constants have no say, but where 16 bit cannot hold one, it keeps its operator in float32.
* BACK: batch norm.  It computes in float32 and hands on 16 bit where it was given 16 bit.
* AS_IS: reads either.
* FLOAT, and whatever is not in the table: sums, powers, normalization, softmax, losses.

Where a product has a factor made of constants and integers alone, it is no layer but the arithmetic of a rewrite (the
average of a pooling, the band of an LRN, the one-hot labels of CTC), and stays in float32; so does a square, a Mul of a
value with itself.  Each value is cast once, where it is made: a weight that a Scan reads is cast outside of it.

**On the CPU**, which has next to no 16-bit kernels, the rewrite emulates: a value "in 16 bit" is a float32 that was
rounded by a Cast there and back.  Products of 16-bit factors are exact in float32 and added up in it, as in a tensor
core, so results differ from CUDA's by the order of sums only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum
from typing import Literal

import numpy as np
import onnx_ir as ir

from dsd_ort.graph import element_types
from dsd_ort.graph.differentiate import seed
from dsd_ort.graph.element_types import key
from dsd_ort.graph.legalize.names import make_unique

LOSS_SCALE = "dsd_ort.loss_scale"
"""The graph input f32[] that the gradient of the loss with respect to itself is, instead of 1."""

Precision = Literal["fp16", "bf16"]
TYPES: dict[Precision, ir.DataType] = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

RANGES: dict[Precision, tuple[float, float]] = {
    "fp16": (2.0**-14, 65504.0),
    "bf16": (float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)),
}
"""Least normal and greatest number: constants but 0 that are not between them keep their operator in float32."""


class Kind(Enum):
    """What an operator computes in."""

    HALF = "16 bit"
    FOLLOW = "as what it reads"
    BACK = "float32, then as what it read"
    AS_IS = "any"
    FLOAT = "float32"


FACTORS = {
    "Conv": 2,
    "ConvTranspose": 2,
    "Gemm": 2,
    "MatMul": 2,
    "com.microsoft.ConvGrad": 3,
    "com.microsoft.FusedMatMul": 2,
    "com.microsoft.nchwc.Conv": 2,
}
"""Product → how many of its first inputs are factors."""

_ARITHMETIC = (
    "Abs Add Clip Div Equal Greater GreaterOrEqual LeakyRelu Less LessOrEqual Max Min Mul Neg Relu Sigmoid Sub Sum Tanh"
)
_LAYOUT = (
    "Compress Concat Dropout Expand Flatten Gather GatherElements GatherND Identity MaxPool Pad Reshape "
    "ReverseSequence ScatterElements Slice Split Squeeze Tile Transpose Unsqueeze Where"
)
_MICROSOFT = (
    "BiasGelu BiasGeluGrad_dX DropoutGrad FastGelu FastGeluGrad GatherElementsGrad Gelu GeluGrad LeakyReluGrad "
    "QuickGelu QuickGeluGrad ReluGrad SigmoidGrad SliceGrad TanhGrad nchwc.ReorderInput nchwc.ReorderOutput"
)

KINDS: dict[str, Kind] = {
    **dict.fromkeys(FACTORS, Kind.HALF),
    **dict.fromkeys(f"{_ARITHMETIC} {_LAYOUT}".split(), Kind.FOLLOW),
    **{f"com.microsoft.{op_type}": Kind.FOLLOW for op_type in _MICROSOFT.split()},
    "BatchNormalization": Kind.BACK,
    "com.microsoft.BatchNormInternal": Kind.BACK,
    "com.microsoft.BatchNormalizationGrad": Kind.BACK,
    "Cast": Kind.AS_IS,
    "Shape": Kind.AS_IS,
    "Size": Kind.AS_IS,
}
"""Operator → what it computes in; FLOAT if it is not here."""

ONE_TENSOR = {"Dropout", "com.microsoft.DropoutGrad"}
"""Operators whose later inputs are numbers of a type of their own."""

_NOT_IN_BF16 = (
    "Abs Clip Compress Conv ConvTranspose Equal Greater GreaterOrEqual LeakyRelu Less LessOrEqual MaxPool Pad "
    "ReverseSequence com.microsoft.ConvGrad com.microsoft.LeakyReluGrad com.microsoft.ReluGrad"
)
NO_KERNEL: dict[Precision, frozenset[str]] = {"fp16": frozenset(), "bf16": frozenset(_NOT_IN_BF16.split())}
"""What of HALF and FOLLOW has no kernel on CUDA: it is FLOAT there, and a convolution runs in TF32.

The same for ONNX Runtime 1.19's training build and 1.31, in the opset of prepared graphs (1.31 has a bfloat16 Conv from
opset 22 on, but loses MaxPool and Dropout there).
"""


def mix(
    model: ir.Model, precision: Precision, device: Literal["cpu", "cuda"] = "cpu", *, loss: str = "loss"
) -> tuple[str, ...]:
    """Rewrites the training graph *model* in place; one line for each product, in 16 bit or not.

    Args:
        model: a differentiated graph, in the form that the device's session gets.
        precision: the 16-bit type.
        device: ``"cuda"``, or ``"cpu"`` for the same numbers by float32 kernels.
        loss: the output that was differentiated.

    Raises:
        UnsupportedError: the graph holds no gradient of *loss*.
    """
    model.graph.sort()
    element_types.infer(model.graph)
    _scale_loss(model.graph, loss)
    mixer = _Mixer(precision, device)
    mixer.run(model.graph)
    make_unique(model)
    return tuple(f"{op_type} in {where} ({count}×)" for (op_type, where), count in sorted(mixer.products.items()))


def _scale_loss(graph: ir.Graph, loss: str) -> None:
    """∂loss/∂loss is a constant 1 in the builder's graph: the scale takes its place.

    Through an Abs, which changes nothing: a number that is an input, ONNX Runtime would divide on the host by one that
    the host knows, and copy the quotient to the device.
    """
    one, number = seed(graph, loss), ir.TensorType(ir.DataType.FLOAT)
    scale = ir.Value(name=LOSS_SCALE, shape=ir.Shape([]), type=number)
    positive = ir.node("Abs", [scale], name=f"{LOSS_SCALE}/Abs")
    (new,) = positive.outputs
    new.name, new.type, new.shape = positive.name, number, one.shape
    for node, i in tuple(one.uses()):
        if KINDS.get(key(node)) is not Kind.AS_IS:  # its size is 1 all the same
            node.replace_input_with(i, new)
    graph.inputs.append(scale)
    graph.insert_before(graph[0], positive)


class _Mixer:
    """The walk along the graph; a subgraph goes with the node that it belongs to."""

    def __init__(self, precision: Precision, device: str) -> None:
        self.dtype, self.range = TYPES[precision], RANGES[precision]
        self.emulated = device == "cpu"
        self.missing = frozenset() if self.emulated else NO_KERNEL[precision]
        self.narrow: set[ir.Value] = set()
        """Values in 16 bit; where that is emulated, float32 values that are rounded."""
        self.halves: dict[ir.Value, ir.Value] = {}
        self.fulls: dict[ir.Value, ir.Value] = {}
        self.fixed: dict[ir.Value, bool] = {}
        """Floats made of constants and integers alone → is 16 bit known to hold them?"""
        self.products: Counter[tuple[str, str]] = Counter()

    def run(self, graph: ir.Graph) -> None:
        self.fixed |= {value: self.holds(value.const_value) for value in graph.initializers.values()}
        for node in list(graph):
            kind = self.kind(node)
            if kind is Kind.HALF:
                self.to_half(node)
            elif kind in {Kind.FLOAT, Kind.BACK}:
                handed = kind is Kind.BACK and node.inputs[0] in self.narrow
                self.to_float(node)
                if handed:
                    self.hand_on(node.outputs[0])
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH:
                    self.run(attribute.as_graph())
            self.note_fixed(node)
        for i, value in enumerate(graph.outputs):
            if value in self.narrow and not self.emulated:
                graph.outputs[i] = full = self.full(value)
                full.name, value.name = value.name, f"{value.name}/{self.dtype.name.lower()}"

    def kind(self, node: ir.Node) -> Kind:
        """HALF or FLOAT for a node that follows."""
        op_type = key(node)
        kind = KINDS.get(op_type, Kind.FLOAT)
        if kind is Kind.FOLLOW:
            return Kind.FLOAT if op_type in self.missing or not self.follows(node) else Kind.HALF
        if kind is Kind.HALF and self.is_float(node.outputs):
            layer = self.fixed.keys().isdisjoint(node.inputs[: FACTORS[op_type]])
            kind = Kind.HALF if layer and op_type not in self.missing else Kind.FLOAT
            self.products[op_type, self.dtype.name.lower() if kind is Kind.HALF else "float32"] += 1
            return kind
        return Kind.FLOAT if kind is Kind.HALF else kind

    def follows(self, node: ir.Node) -> bool:
        values = [value for value in self.tensors(node) if self.is_float([value])]
        square = node.op_type == "Mul" and values[:1] == values[1:]
        held = all(value in self.narrow or self.fixed.get(value, False) for value in values)
        return held and not square and not self.narrow.isdisjoint(values)

    def tensors(self, node: ir.Node) -> list[ir.Value]:
        inputs = node.inputs[:1] if key(node) in ONE_TENSOR else node.inputs
        return [value for value in inputs if value is not None]

    def is_float(self, values: Iterable[ir.Value]) -> bool:
        """Is one of *values* float32, or was before this rewrite?"""
        return any(value.dtype == ir.DataType.FLOAT or value in self.narrow for value in values)

    def to_half(self, node: ir.Node) -> None:
        tensors = self.tensors(node)
        for i, value in enumerate(node.inputs):
            if value in tensors and self.is_float([value]):
                node.replace_input_with(i, self.half(value))
        for output in node.outputs:
            if output.dtype != ir.DataType.FLOAT:
                continue
            if not self.emulated:
                output.type = ir.TensorType(self.dtype)
                self.narrow.add(output)
            elif output.uses() or output.is_graph_output():
                self.round(output)

    def to_float(self, node: ir.Node) -> None:
        for i, value in enumerate(node.inputs):
            if value in self.narrow:
                node.replace_input_with(i, self.full(value))

    def hand_on(self, value: ir.Value) -> None:
        """The nodes that read *value* read it in 16 bit."""
        for node, i in tuple(value.uses()):
            node.replace_input_with(i, self.half(value))

    def round(self, value: ir.Value) -> None:
        """The value that everybody knows as *value* is rounded."""
        self.hand_on(value)
        rounded = self.half(value)
        if value.is_graph_output():
            assert value.graph is not None
            value.graph.outputs[:] = [rounded if output is value else output for output in value.graph.outputs]
        rounded.name, value.name = value.name, f"{value.name}/exact"

    def half(self, value: ir.Value) -> ir.Value:
        """*value* in 16 bit."""
        if value in self.narrow:
            return value
        if value not in self.halves:
            self.halves[value] = narrow = self.constant(value) or self.cast(value)
            self.narrow.add(narrow)
        return self.halves[value]

    def full(self, value: ir.Value) -> ir.Value:
        """*value*, which is in 16 bit, in float32."""
        if self.emulated:
            return value
        if value not in self.fulls:
            self.fulls[value] = full = _cast(value, ir.DataType.FLOAT)
            self.halves[full] = value
        return self.fulls[value]

    def cast(self, value: ir.Value) -> ir.Value:
        narrow = _cast(value, self.dtype)
        return _cast(narrow, ir.DataType.FLOAT) if self.emulated else narrow

    def constant(self, value: ir.Value) -> ir.Value | None:
        """A 16-bit copy of what the file fixes."""
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None:
            return None
        array = tensor.numpy().astype(self.dtype.numpy())
        content = ir.tensor(array.astype(np.float32) if self.emulated else array)
        return _insert(ir.node("Constant", [], {"value": content}), value, content.dtype)

    def note_fixed(self, node: ir.Node) -> None:
        if any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()):
            return
        floats = [value for value in node.inputs if value is not None and self.is_float([value])]
        if not self.fixed.keys() >= set(floats):
            return
        held = bool(floats) and KINDS.get(key(node)) is Kind.FOLLOW and all(self.fixed[value] for value in floats)
        if key(node) == "Constant":
            held = self.holds(ir.convenience.get_const_tensor(node.outputs[0]))
        if key(node) == "ConstantOfShape":
            content = node.attributes.get("value")
            held = content is None or self.holds(content.as_tensor())
        self.fixed |= dict.fromkeys(node.outputs, held)

    def holds(self, tensor: ir.TensorProtocol | None) -> bool:
        """Are these floats in the range of 16 bit?"""
        if tensor is None or tensor.dtype != ir.DataType.FLOAT:
            return False
        size = np.abs(tensor.numpy())
        low, high = self.range
        return bool(((size == 0) | ((size >= low) & (size <= high))).all())


def _cast(value: ir.Value, dtype: ir.DataType) -> ir.Value:
    return _insert(ir.node("Cast", [value], {"to": dtype.value}), value, dtype)


def _insert(node: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """The output of *node*, put where *value* is made, shaped like it."""
    graph, producer = value.graph, value.producer()
    assert isinstance(graph, ir.Graph)
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    (new,) = node.outputs
    new.name = node.name = f"{value.name}/{dtype.name.lower()}"
    new.type, new.shape = ir.TensorType(dtype), value.shape
    return new
