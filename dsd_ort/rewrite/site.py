"""What a rule sees of the node that it rewrites, and builds its replacement with.

::

    def softsign(site: Site) -> ir.Value:
        x = site.input(0)
        return site.Div(x, site.Add(site.Abs(x), 1.0))

``site.Op(inputs…, attribute=…)`` is a node of the replacement, opset 18, and stands for its first output.  Among the
inputs a float is a float32 scalar, an int or a list of ints an int64 constant, None an absent input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.errors import UnsupportedError
from dsd_ort.rewrite.autograd import DOMAIN, Operator
from dsd_ort.rewrite.path import Path

Operand: TypeAlias = "ir.Value | float | Sequence[int] | npt.NDArray[Any] | None"
Replacement: TypeAlias = "ir.Value | Sequence[ir.Value] | None"


class Site:
    """The place of *node*, on or off the gradient *path*."""

    def __init__(self, node: ir.Node, path: Path, statistics: dict[ir.Value, ir.Value] | None = None) -> None:
        self.node = node
        self.path = path
        self.nodes: list[ir.Node] = []
        self.operators: list[Operator] = []
        self.statistics = {} if statistics is None else statistics
        """Running statistic → its value after this step, as far as rules have come."""

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)
        return partial(self.op, op_type)

    def op(self, op_type: str, *inputs: Operand, **attributes: Any) -> ir.Value:
        """The first output of a new node; another domain's operator carries the domain in front."""
        return self.several(op_type, 1, *inputs, **attributes)[0]

    def several(self, op_type: str, count: int, *inputs: Operand, **attributes: Any) -> Sequence[ir.Value]:
        """All outputs of a new node that has *count* of them."""
        values = [value if value is None or isinstance(value, ir.Value) else self.constant(value) for value in inputs]
        domain, _, name = op_type.rpartition(".")
        node = ir.node(name, values, attributes, domain=domain, num_outputs=count, name=self._name(name))
        for output in node.outputs:
            output.name = node.name
        self.nodes.append(node)
        return node.outputs

    def call(self, operator: Operator, *inputs: Operand) -> Sequence[ir.Value]:
        """The outputs of a new node of an operator with a backward of its own."""
        self.operators.append(operator)
        return self.several(f"{DOMAIN}.{operator.name}", len(operator.forward.output), *inputs)

    def _name(self, op_type: str) -> str:
        own = label(self.node)
        return own if op_type == self.node.op_type else f"{own}/{op_type}"

    def constant(self, value: float | Sequence[int] | npt.NDArray[Any]) -> ir.Value:
        if not isinstance(value, np.ndarray):
            value = np.asarray(value, np.float32 if isinstance(value, float) else np.int64)
        return self.Constant(value=ir.tensor(value))

    def input(self, index: int) -> ir.Value:
        """The node's input *index*, which must be there."""
        value = self.optional(index)
        if value is None:
            raise self.refusal(f"has no input {index}", "the file breaks ONNX's rules; export the model again")
        return value

    def optional(self, index: int) -> ir.Value | None:
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def attributes(self, *without: str) -> dict[str, ir.Attr]:
        """The node's attributes but those named."""
        return {name: attr for name, attr in self.node.attributes.items() if name not in without}

    def shape(self, value: ir.Value) -> tuple[int | str | None, ...]:
        """The dimensions of *value*: an int, the name of a symbolic one, or None."""
        if value.shape is None:
            raise self.refusal(
                f"cannot be rewritten for training, as the rank of {value.name!r} is unknown",
                "export the model with shapes, or run onnx.shape_inference on it",
            )
        return tuple(d if isinstance(d, int) else d.value for d in value.shape)

    def rank(self, value: ir.Value) -> int:
        return len(self.shape(value))

    def size(self, value: ir.Value, axis: int) -> int:
        """The static length of *value* along *axis*."""
        lengths = self.shape(value)
        if not -len(lengths) <= axis < len(lengths):
            why = f"reads axis {axis} of {value.name!r}, which has {len(lengths)}"
            raise self.refusal(why, "the file breaks ONNX's rules; export the model again")
        length = lengths[axis]
        if not isinstance(length, int):
            raise self.refusal(
                f"cannot be rewritten for training, as the length of {value.name!r} along axis {axis} is not fixed",
                "export the model with this dimension fixed",
            )
        return length

    def known(self, value: ir.Value | None, what: str) -> npt.NDArray[Any]:
        """The content of a constant."""
        array = constant_value(value)
        if array is None:
            raise self.refusal(
                f"cannot be rewritten for training, as its {what} are computed at run time",
                "export the model with constant folding",
            )
        return array

    def refusal(self, why: str, fix: str) -> UnsupportedError:
        """The error that the rule raises where it cannot do what it is for."""
        return UnsupportedError(f"the operator {self.node.op_type} {why}", where=place(self.node), fix=fix)


Rule: TypeAlias = Callable[[Site], Replacement]
"""The values that replace the node's outputs, in order (trailing ones that nothing reads may be missing), or None: it
is right as it is.  The first line of its docstring says what it does, in ``inspect`` too."""


def place(node: ir.Node) -> str:
    """*node* as error messages call it: operator and name, or its first output's where it has none."""
    return f"{node.op_type} {label(node)!r}"


def label(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or node.op_type


def constant_value(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The content of *value* if the file fixes it."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def apply(rule: Rule, site: Site) -> bool:
    """Replaces the site's node by what *rule* builds; False if the rule leaves it as it is.

    What it builds may call ``site.operators``: the caller puts them into the model.

    Raises:
        UnsupportedError: the rule cannot do what it is for, or the node has outputs in use that it has no form for.
    """
    replacement: Replacement = rule(site)
    if replacement is None:
        return False
    new = [replacement] if isinstance(replacement, ir.Value) else list(replacement)
    node, old = site.node, list(site.node.outputs)
    for value in old[len(new) :]:
        if value.uses() or value.is_graph_output():
            raise site.refusal(f"has its output {value.name!r} in use, which has no form here", "do not use it")
    for value, other in zip(old, new, strict=False):
        site.path.replace(value, other)
    assert node.graph is not None
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], site.nodes, old[: len(new)], new[: len(old)])
    return True
