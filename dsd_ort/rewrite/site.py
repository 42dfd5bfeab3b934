"""What a rule sees of the node that it rewrites, and builds its replacement with.

::

    def softsign(site: Site) -> ir.Value:
        x = site.input(0)
        return site.Div(x, site.Add(site.Abs(x), 1.0))

How nodes are written, :mod:`dsd_ort.rewrite.nodes` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.errors import UnsupportedError
from dsd_ort.rewrite.names import Names, label, place
from dsd_ort.rewrite.nodes import Nodes, constant_value
from dsd_ort.rewrite.path import Path
from dsd_ort.rewrite.shapes import dims_of

Replacement: TypeAlias = "ir.Value | Sequence[ir.Value] | None"


class Site(Nodes):
    """The place of *node*, on or off the gradient *path*."""

    def __init__(
        self,
        node: ir.Node,
        path: Path,
        statistics: dict[ir.Value, ir.Value] | None = None,
        *,
        names: Names | None = None,
    ) -> None:
        super().__init__(label(node), opset=path.opset, names=names)
        self.node = node
        self.path = path
        self.statistics = {} if statistics is None else statistics
        """Running statistic → its value after this step, as far as rules have come."""

    def _named(self, op_type: str) -> str:
        return self.name if op_type == self.node.op_type else super()._named(op_type)

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
        dims = dims_of(value)
        if dims is None:
            raise self.refusal(
                f"cannot be rewritten for training, as the rank of {value.name!r} is unknown",
                "export the model with shapes, or run onnx.shape_inference on it",
            )
        return dims

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
