"""New nodes, written as mathematics.

::

    def softsign(new: Nodes, x: ir.Value) -> ir.Value:
        return new.Div(x, new.Add(new.Abs(x), 1.0))

``new.Op(inputs…, attribute=…)`` is a new node and stands for its first output.  Among the inputs a float is a float32
scalar, an int or a list of ints an int64 constant, an array itself, None an absent input.  Types and shapes of what a
node gives are known as soon as they follow from what it reads (:func:`dsd_ort.rewrite.shapes.infer`).

No other file makes nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.rewrite import shapes
from dsd_ort.rewrite.autograd import DOMAIN, OPSET, Operator
from dsd_ort.rewrite.names import Names

Operand: TypeAlias = "ir.Value | float | Sequence[int] | npt.NDArray[Any] | None"
Written = TypeVar("Written", bound="Nodes")


class Nodes:
    """The nodes that were written, in order; they are in no graph until their caller puts them into one.

    Args:
        name: what their names begin with.
        opset: ONNX's operators are those of this version.
        names: makes names that nothing else has; without them the caller does so for the whole graph.
    """

    def __init__(self, name: str = "", *, opset: int = OPSET, names: Names | None = None) -> None:
        self.name, self.opset, self.names = name, opset, names
        self.nodes: list[ir.Node] = []
        self.operators: dict[str, Operator] = {}
        """Those with a backward of their own that were called: the caller puts them into the model."""

    @classmethod
    def of(cls: type[Written], graph: ir.Graph, name: str) -> Written:
        """For *graph*, the main one of a model: in its opset, under names that nothing in it has."""
        return cls(name, opset=graph.opset_imports.get("", OPSET), names=Names(graph))

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)
        return partial(self.op, op_type)

    def op(self, op_type: str, *inputs: Operand, **attributes: Any) -> ir.Value:
        """The first output of a new node; another domain's operator carries the domain in front."""
        return self.several(op_type, 1, *inputs, **attributes)[0]

    def several(self, op_type: str, count: int, *inputs: Operand, **attributes: Any) -> Sequence[ir.Value]:
        """All outputs of a new node that has *count* of them."""
        return self._written(op_type, inputs, attributes, ["", *(f"/{i}" for i in range(1, count))])

    def call(self, operator: Operator, *inputs: Operand) -> Sequence[ir.Value]:
        """The outputs of a new node of an operator with a backward of its own, called as its functions call them."""
        self.operators[operator.name] = operator
        return self._written(f"{DOMAIN}.{operator.name}", inputs, {}, [f"/{y}" for y in operator.forward.output])

    def constant(self, value: float | Sequence[int] | npt.NDArray[Any] | ir.TensorProtocol) -> ir.Value:
        """A constant: f32[] of a float, i64[] or i64[n] of whole numbers, an array or tensor as it is."""
        if isinstance(value, int | float | Sequence):
            value = np.asarray(value, np.float32 if isinstance(value, float) else np.int64)
        tensor = ir.Tensor(value) if isinstance(value, np.ndarray) else value
        (output,) = self._node("Constant", [], {"value": ir.AttrTensor("value", tensor)}, [""]).outputs
        output.type, output.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        output.const_value = tensor
        return output

    def copy(
        self,
        node: ir.Node,
        inputs: Sequence[ir.Value | None],
        name: str,
        attributes: Mapping[str, ir.Attr] | None = None,
    ) -> Sequence[ir.Value]:
        """The outputs of a copy of *node* that reads *inputs*; their types and shapes are those of the original's.

        Args:
            node: what is copied.
            inputs: in the place of its inputs.
            name: what the names of the copy begin with, and no other names do.
            attributes: in the place of its attributes.
        """
        # A shape that several values have is set anew, never changed.
        outputs = [ir.Value(name=f"{name}/{old.name}", type=old.type, shape=old.shape) for old in node.outputs]
        new = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            (node.attributes if attributes is None else attributes).values(),
            overload=node.overload,
            outputs=outputs,
            name=f"{name}/{node.outputs[0].name}",
        )
        self.nodes.append(new)
        return outputs

    def take(self, others: Nodes) -> None:
        """Moves what was written there behind what was written here."""
        self.nodes += others._taken()

    def put_before(self, node: ir.Node) -> None:
        """Moves what was written into the graph of *node*, in front of it."""
        assert isinstance(node.graph, ir.Graph)
        node.graph.insert_before(node, self._taken())

    def put_behind(self, value: ir.Value) -> None:
        """Moves it right behind what gives *value*: in front of all, if that is no node."""
        graph, maker = value.graph, value.producer()
        assert isinstance(graph, ir.Graph)
        if maker is not None:
            graph.insert_after(maker, self._taken())
        else:
            self.put_first(graph)

    def put_first(self, graph: ir.Graph) -> None:
        """Moves it in front of all of *graph*."""
        if len(graph):
            graph.insert_before(graph[0], self._taken())
        else:
            graph.extend(self._taken())

    def append_to(self, graph: ir.Graph) -> None:
        """Moves it to the end of *graph*."""
        graph.extend(self._taken())

    def _taken(self) -> list[ir.Node]:
        nodes, self.nodes = self.nodes, []
        return nodes

    def _named(self, op_type: str) -> str:
        return f"{self.name}/{op_type}" if self.name else op_type

    def _written(
        self, op_type: str, inputs: Sequence[Operand], attributes: Mapping[str, Any], endings: Sequence[str]
    ) -> Sequence[ir.Value]:
        values = [value if value is None or isinstance(value, ir.Value) else self.constant(value) for value in inputs]
        node = self._node(op_type, values, attributes, endings)
        shapes.infer(node, constant_value, self.opset)
        return node.outputs

    def _node(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], endings: Sequence[str]
    ) -> ir.Node:
        """A node with an output for each of *endings*, which follow its name in theirs."""
        domain, _, kind = op_type.rpartition(".")
        name = self._named(kind) if self.names is None else self.names.free(self._named(kind))
        node = ir.node(kind, inputs, attributes, domain=domain, num_outputs=len(endings), name=name)
        for output, ending in zip(node.outputs, endings, strict=True):
            output.name = self.names.free(name + ending) if ending and self.names is not None else name
        self.nodes.append(node)
        return node


def cast(value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """*value* as a *dtype*, by a Cast right behind it, which is called after both."""
    new = Nodes()
    result = named(new.Cast(value, to=dtype.value), f"{value.name}/{dtype.name.lower()}")
    new.put_behind(value)
    return result


def named(value: ir.Value, name: str | None) -> ir.Value:
    """*value*, the first output of a new node; both are called *name* from now on."""
    maker = value.producer()
    assert maker is not None
    maker.name = value.name = name
    return value


def take_over(old: ir.Value, new: ir.Value, name: str | None = "") -> None:
    """Who reads *old* reads *new*, which gets its name, and what is known of its type and shape.

    Args:
        old: is called *name* from now on.
        new: may be computed from *old*, by the node that gives it: this one goes on to read *old*.
        name: empty where nothing is to read *old* any more.
    """
    new.type = new.type if old.type is None else old.type
    new.shape = new.shape if old.shape is None else old.shape
    new.name, old.name = old.name, name
    maker = new.producer()
    for node, i in [use for use in old.uses() if use.node is not maker]:
        node.replace_input_with(i, new)
    if old.is_graph_output():
        assert old.graph is not None
        old.graph.outputs[:] = [new if value is old else value for value in old.graph.outputs]


def constant_value(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The content of *value* if the file fixes it."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
