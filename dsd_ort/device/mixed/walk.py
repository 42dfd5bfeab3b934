"""The walk along a graph that casts values to 16 bit and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from dsd_ort.device.mixed.precisions import RANGES, TYPES, Precision
from dsd_ort.rewrite.nodes import Nodes, cast, named
from dsd_ort.rewrite.operators import Does, Half, facts, key
from dsd_ort.rewrite.parts import bodies


class Mixer:
    """The walk along the graph; a subgraph goes with the node that it belongs to."""

    def __init__(self, precision: Precision, device: str) -> None:
        self.dtype, self.range = TYPES[precision], RANGES[precision]
        self.emulated = device == "cpu"
        self.missing = Does.NO_BFLOAT16 if precision == "bf16" and not self.emulated else Does(0)
        """What keeps an operator in float32, as it has no kernel; a convolution runs in TF32 then."""
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
            if kind is Half.HALF:
                self.to_half(node)
            elif kind in {Half.FLOAT, Half.BACK}:
                handed = kind is Half.BACK and node.inputs[0] in self.narrow
                self.to_float(node)
                if handed:
                    self.hand_on(node.outputs[0])
            for body in bodies(node):
                self.run(body)
            self.note_fixed(node)
        for i, value in enumerate(graph.outputs):
            if value in self.narrow and not self.emulated:
                graph.outputs[i] = full = self.full(value)
                full.name, value.name = value.name, f"{value.name}/{self.dtype.name.lower()}"

    def kind(self, node: ir.Node) -> Half:
        """HALF or FLOAT for a node that follows."""
        known = facts(node)
        missing = bool(self.missing & known.does)
        if known.half is Half.FOLLOW:
            return Half.FLOAT if missing or not self.follows(node) else Half.HALF
        if known.half is Half.HALF and self.is_float(node.outputs):
            layer = self.fixed.keys().isdisjoint(node.inputs[: known.factors])
            kind = Half.HALF if layer and not missing else Half.FLOAT
            self.products[key(node), self.dtype.name.lower() if kind is Half.HALF else "float32"] += 1
            return kind
        return Half.FLOAT if known.half is Half.HALF else known.half

    def follows(self, node: ir.Node) -> bool:
        values = [value for value in self.tensors(node) if self.is_float([value])]
        square = node.op_type == "Mul" and values[:1] == values[1:]
        constants = [value for value in values if value not in self.narrow]
        held = all(self.fixed.get(value, False) for value in constants)
        sharp = Does.THRESHOLD in facts(node).does and not all(map(self.is_exact, constants))
        return held and not square and not sharp and len(constants) < len(values)

    def is_exact(self, value: ir.Value) -> bool:
        """Is *value* a constant of numbers that 16 bit has?"""
        tensor = ir.convenience.get_const_tensor(value)
        array = None if tensor is None else tensor.numpy()
        return array is not None and bool((array.astype(self.dtype.numpy()).astype(array.dtype) == array).all())

    def tensors(self, node: ir.Node) -> list[ir.Value]:
        inputs = node.inputs[:1] if Does.ONE_TENSOR in facts(node).does else node.inputs
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
            self.fulls[value] = full = cast(value, ir.DataType.FLOAT)
            self.halves[full] = value
        return self.fulls[value]

    def cast(self, value: ir.Value) -> ir.Value:
        narrow = cast(value, self.dtype)
        return cast(narrow, ir.DataType.FLOAT) if self.emulated else narrow

    def constant(self, value: ir.Value) -> ir.Value | None:
        """A 16-bit copy of what the file fixes."""
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None:
            return None
        array = tensor.numpy().astype(self.dtype.numpy())
        new = Nodes()
        narrow = new.constant(array.astype(np.float32) if self.emulated else array)
        new.put_behind(value)
        return named(narrow, f"{value.name}/{ir.DataType.from_numpy(array.dtype).name.lower()}")

    def note_fixed(self, node: ir.Node) -> None:
        if bodies(node):
            return
        floats = [value for value in node.inputs if value is not None and self.is_float([value])]
        if not self.fixed.keys() >= set(floats):
            return
        held = bool(floats) and facts(node).half is Half.FOLLOW and all(self.fixed[value] for value in floats)
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
