"""What stands in the way of a gradient, by name, before anything is built.

Which operators a builder of gradients knows, and which of their inputs, is a function from a node to a :class:`Reach`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import NamedTuple, TypeAlias

import onnx.defs
import onnx_ir as ir

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.differentiate.table import RULES
from dsd_ort.model.inputs import line, shared_numbers
from dsd_ort.rewrite.autograd import Operator
from dsd_ort.rewrite.flow import sources
from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.operators import facts, key
from dsd_ort.rewrite.operators.facts import Stop
from dsd_ort.rewrite.operators.stops import CLASSICAL_DOMAIN, classical
from dsd_ort.rewrite.path import Path


class Reach(NamedTuple):
    """How far a gradient gets through an operator."""

    inputs: Container[int] = ()
    """Those that it gets to."""
    every_output: bool = False
    """Whether it may come from outputs behind the first."""


Reaches: TypeAlias = "Callable[[ir.Node], Reach]"


def by_rules(node: ir.Node) -> Reach:
    """As far as dsd-ort's own rules take it."""
    row = RULES.get(key(node))
    return Reach() if row is None else Reach(range(row.inputs), row.every_output)


def by_native_builder(node: ir.Node) -> Reach:
    """As far as ONNX Runtime's builder takes it rightly."""
    known = facts(node)
    return Reach(range(known.native), known.every_output)


def refusals(path: Path, reach: Reaches, own: Mapping[str, Operator]) -> list[UnsupportedError]:
    """Why the gradients of nodes on *path* would be missing or wrong; *own* operators have a backward of their own."""
    found = []
    for node in path.nodes():
        error = _judge(node, path, reach(node), own.get(key(node)))
        found += [error] if error else [e for inside in path.inside(node) for e in refusals(inside, reach, own)]
    return found


def _judge(node: ir.Node, path: Path, reach: Reach, own: Operator | None) -> UnsupportedError | None:
    operator = key(node)
    if own is not None:
        reach = Reach(own.differentiable, every_output=True)
        lost = [
            i for i, output in enumerate(node.outputs) if path.carries(output) and i not in own.outputs_with_gradient
        ]
        assert not lost, f"the backward function of {operator} does not read the gradients of its outputs {lost}"
    if not reach.inputs:
        why, fix = facts(node).stops or _unknown(node)
        if operator == "If" and (numbers := shared_numbers(_inputs_of(node.inputs[0]))):
            fix = f"fix the input in the recipe: {line(numbers[0])}; or use dsd-ort's own builder"
        return UnsupportedError(f"the operator {operator} {why}", where=place(node), fix=fix)
    for i, value in enumerate(node.inputs):
        if value is not None and path.is_active(value) and i not in reach.inputs:
            return UnsupportedError(
                f"the operator {operator} has no gradient with respect to its input {i}, which depends on a parameter",
                where=f"{place(node)}, input {value.name!r}",
                fix="make this input a constant, or freeze the parameters that it depends on",
            )
    for i, output in enumerate(node.outputs):
        if i and path.carries(output) and not reach.every_output:
            return UnsupportedError(
                f"the operator {operator} has a gradient for its first output only",
                where=f"{place(node)}, output {output.name!r}",
                fix="compute this output by other operators",
            )
    return None


def _inputs_of(value: ir.Value | None) -> list[ir.Value]:
    """The inputs of the main graph that *value* is computed from."""
    found = sources([value]) if value is not None else set()
    return [value for value in found if value.is_graph_input()]


def _unknown(node: ir.Node) -> Stop:
    if node.domain == CLASSICAL_DOMAIN:
        return classical([node.op_type])
    why = "has no gradient in ONNX Runtime, and dsd-ort has no rule for it"
    if node.domain not in ("", "com.microsoft"):
        why = f"belongs to the domain {node.domain!r}, of which dsd-ort knows no operator"
    elif not node.domain and not onnx.defs.has(node.op_type):
        why = "is none that ONNX defines"
    return Stop(why, "replace it in the model, or freeze the parameters in front of it")
