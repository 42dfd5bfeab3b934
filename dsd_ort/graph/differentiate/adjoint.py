"""What a gradient rule sees of the node that it goes back through, and what it writes gradients with.

::

    def mul(at: Adjoint) -> Gradients:
        a, b = at.operands
        return at.summed(at.Mul(at.dy, b), a), at.summed(at.Mul(at.dy, a), b)

The node is Y = f(X, …), and dV the gradient of the loss by a value V, of V's own shape and type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.rewrite import shapes
from dsd_ort.rewrite.bodies import outer_reads
from dsd_ort.rewrite.names import GRADIENT, Names, label
from dsd_ort.rewrite.nodes import Nodes, Operand, constant_value
from dsd_ort.rewrite.path import Path
from dsd_ort.rewrite.shapes import dims_of, sizes_of
from dsd_ort.rewrite.site import Site

Gradients: TypeAlias = "ir.Value | Sequence[ir.Value | None]"
"""Of the node's first inputs, in order; None where there is none, and of one input the value alone."""
Rule: TypeAlias = "Callable[[Adjoint], Gradients]"
Dims: TypeAlias = "Sequence[int | str | None]"

MICROSOFT = "com.microsoft"


class Back(NamedTuple):
    """The way back through a body."""

    nodes: list[ir.Node]
    gradients: Sequence[ir.Value | None]
    """Of the values that were asked for; None where none arrives."""


Walk: TypeAlias = "Callable[[Path, Iterable[tuple[ir.Value, ir.Value | None]], Sequence[ir.Value]], Back]"
"""From the path through a body, the gradients that arrive at values of it, and the values whose gradients are asked
for."""


class Constants:
    """Initializers of *graph*, each number and list there once."""

    def __init__(self, graph: ir.Graph, names: Names) -> None:
        self.graph, self.names = graph, names
        self.made: list[ir.Value] = []
        self._by_content: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def __call__(self, array: npt.NDArray[Any]) -> ir.Value:
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._by_content:
            self._by_content[key] = self.add(array, "grad/constant")
        return self._by_content[key]

    def add(self, array: npt.NDArray[Any], name: str) -> ir.Value:
        """A new initializer, whatever there is already."""
        tensor = ir.tensor(array, name=self.names.free(name))
        value = ir.Value(
            name=tensor.name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        self.graph.register_initializer(value)
        self.made.append(value)
        return value


class Adjoint(Site):
    """The place of *node* on the way back.

    Args:
        node: a node of the forward graph.
        path: the gradient path that it is on.
        gradients: those of its outputs; None where none arrives.
        constants: of the whole backward graph; numbers are of the node's own type.
        walk: the way back through the node's bodies.
    """

    def __init__(
        self, node: ir.Node, path: Path, gradients: Sequence[ir.Value | None], constants: Constants, walk: Walk
    ) -> None:
        super().__init__(node, path)
        self.gradients, self.constants, self.walk = gradients, constants, walk
        self.name, self.names = f"{label(node)}{GRADIENT}", constants.names

    def beside(self) -> Adjoint:
        """The same place with nodes of its own, for the inside of a body."""
        return Adjoint(self.node, self.path, self.gradients, self.constants, self.walk)

    def _named(self, op_type: str) -> str:
        return Nodes._named(self, op_type)

    def constant(self, value: float | Sequence[int] | npt.NDArray[Any] | ir.TensorProtocol) -> ir.Value:
        """A float is a number of the type of Y."""
        if isinstance(value, int | float | Sequence):
            dtype = self.y.dtype or ir.DataType.FLOAT
            value = np.asarray(value, dtype.numpy() if isinstance(value, float) else np.int64)
        return self.constants(value if isinstance(value, np.ndarray) else value.numpy())

    def several(self, op_type: str, count: int, *inputs: Operand, **attributes: Any) -> Sequence[ir.Value]:
        """All outputs of a new node; absent inputs at its end are none."""
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        return super().several(op_type, count, *given, **attributes)

    @property
    def x(self) -> ir.Value:
        """The first input."""
        return self.input(0)

    @property
    def operands(self) -> list[ir.Value]:
        """All inputs, which must be there."""
        return [self.input(i) for i in range(len(self.node.inputs))]

    @property
    def y(self) -> ir.Value:
        """The first output."""
        return self.node.outputs[0]

    @property
    def dy(self) -> ir.Value:
        """The gradient of the first output."""
        dy = self.gradients[0]
        assert dy is not None, "a node is on the path for its first output only, or its rule reads all gradients"
        return dy

    def output(self, index: int) -> ir.Value:
        """Output *index*, which only the way back may read: the node has it from now on."""
        node = self.node
        if index >= len(node.outputs):
            node.resize_outputs(index + 1)
        value = node.outputs[index]
        if not value.name:
            value.name = self.constants.names.free(f"{label(node)}/{index}")
            shapes.infer(node, constant_value, self.opset)
        return value

    def carries(self, index: int) -> bool:
        """Does anybody ask for the gradient of input *index*?"""
        return self.path.carries(self.optional(index))

    def microsoft(self, op_type: str, *inputs: Operand, **attributes: Any) -> ir.Value:
        """The first output of a new node of ONNX Runtime's own."""
        return self.op(f"{MICROSOFT}.{op_type}", *inputs, **attributes)

    @cached_property
    def around(self) -> list[ir.Value]:
        """What its bodies read from outside: a rule gives the gradients of these behind those of the inputs."""
        return outer_reads(self.node)

    @property
    def carried_in(self) -> list[ir.Value]:
        """What its bodies read from outside that somebody asks for the gradient of."""
        return [value for value in self.around if self.path.carries(value)]

    def argument(self, like: ir.Value) -> ir.Value:
        """A new input of a body, of the type and shape of *like*."""
        return ir.Value(name=self.constants.names.free(f"{self.name}/{like.name}"), type=like.type, shape=like.shape)

    def leaving(self, d: ir.Value | None, like: ir.Value) -> ir.Value:
        """*d* as an output of a body, of the type and shape of *like*; zeros where there is none."""
        return settle(self.zeros(like) if d is None else self.Identity(d), like)

    def shape_of(self, value: ir.Value) -> Operand:
        """The shape of *value*, as a list where it is known."""
        sizes = sizes_of(value)
        return self.Shape(value) if sizes is None else sizes

    def reshaped(self, d: ir.Value, like: ir.Value) -> ir.Value:
        """The entries of *d*, which are as many as *like* has, in its shape."""
        sizes = None if like.shape is None else [size if isinstance(size, int) else -1 for size in like.shape]
        follows = sizes is not None and sizes.count(-1) <= 1 and 0 not in sizes
        return self.Reshape(d, sizes if follows else self.Shape(like))

    def zeros(self, like: ir.Value) -> ir.Value:
        """Zeros of the shape and type of *like*."""
        dtype = like.dtype or ir.DataType.FLOAT
        return self.ConstantOfShape(self.shape_of(like), value=ir.tensor(np.zeros(1, dtype.numpy())))

    def summed(self, d: ir.Value, x: ir.Value, wide: Dims | None = None) -> ir.Value:
        """*d*, of the shape *wide* (by default Y's), summed over the axes along which *x* was broadcast to it.

        Decided when the graph runs, where lengths that are not known yet leave it open.
        """
        sizes, wide = dims_of(x), dims_of(self.y) if wide is None else wide
        axes = None if sizes is None or wide is None else repeated(sizes, wide)
        if sizes is None or wide is None or axes is None:
            shape = self.Shape(x)
            over, _ = self.several(f"{MICROSOFT}.BroadcastGradientArgs", 2, shape, self.Shape(d))
            return self.Reshape(self.ReduceSum(d, over, noop_with_empty_axes=1), shape)
        lead = list(range(len(wide) - len(sizes)))
        if axes == lead:
            return self.ReduceSum(d, axes, keepdims=0) if axes else d
        total = self.ReduceSum(d, axes)
        return self.Squeeze(total, lead) if lead else total


def length(value: ir.Value, axis: int) -> int | str | None:
    """That of *value* along *axis*, as :func:`~dsd_ort.rewrite.shapes.dims_of` says it."""
    sizes = dims_of(value)
    return None if sizes is None else sizes[axis]


def known(sizes: Dims | None) -> list[int] | None:
    """*sizes*, if they are all known."""
    found = [size for size in sizes or () if isinstance(size, int)]
    return found if sizes is not None and len(found) == len(sizes) else None


def repeated(sizes: Dims, wide: Dims) -> list[int] | None:
    """The axes of *wide* along which a value of shape *sizes* is repeated to fill it; None where that is open."""
    lead = len(wide) - len(sizes)
    if lead < 0:  # the file declares fewer axes than there are, of what no inference reaches
        return None
    axes = list(range(lead))
    for axis, (own, other) in enumerate(zip(sizes, wide[lead:], strict=True), start=lead):
        if own == 1 and other != 1:
            axes.append(axis)
        elif not (isinstance(own, int) or other == 1 or (own == other and own is not None)):
            return None
    return axes


def settle(d: ir.Value, v: ir.Value) -> ir.Value:
    """Gives *d*, the gradient of *v* or *v* itself, its type and shape."""
    d.type = d.type or v.type
    own, other = dims_of(d), dims_of(v)
    if own is None or other is None or len(own) != len(other):
        d.shape = d.shape if other is None else v.shape
    else:
        pairs = zip(own, other, strict=True)
        d.shape = ir.Shape([a if isinstance(a, int) or b is None else b for a, b in pairs])
    return d
