"""Nodes with graphs inside, and how values get in and out of them.

A body reads what is around it, and If has no other way in: ``If(c) => (y…)`` gives the outputs of the branch that it
takes.  ``Scan(state…, sequence…) => (state…, stacked…)`` computes its body once a step, ``(state…, step…) => (state…,
step…)``: what a state is after a step, it is before the next one, and of a sequence each step sees a slice along its
axis, from the first on or, *turned*, from the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import onnx_ir as ir

from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.parts import all_values, bodies, inner_nodes

Pair = tuple[ir.Value, ir.Value]


def outer_reads(node: ir.Node) -> list[ir.Value]:
    """The values around *node* that its bodies read, each once."""
    own = {value for body in bodies(node) for value in all_values(body)}
    read = (value for inner in inner_nodes(node) for value in inner.inputs)
    return list(dict.fromkeys(value for value in read if value is not None and value not in own))


class Links(NamedTuple):
    """Which values are the same inside and outside of a node."""

    entering: list[Pair]
    """Outside, inside."""
    around: list[Pair]
    """After a step, before the next."""
    leaving: list[Pair]
    """Inside, outside."""


def links(node: ir.Node) -> Links | None:
    """Those of an If or a Scan; None of another node."""
    if key(node) == "If":
        return Links([], [], [pair for body in bodies(node) for pair in zip(body.outputs, node.outputs, strict=True)])
    if key(node) != "Scan":
        return None
    (body,) = bodies(node)
    pairs = zip(node.inputs, body.inputs, strict=True)
    states = body.inputs[: len(node.inputs) - _sequences(node)]
    return Links(
        entering=[(outer, inner) for outer, inner in pairs if outer is not None],
        around=list(zip(body.outputs, states, strict=False)),
        leaving=list(zip(body.outputs, node.outputs, strict=True)),
    )


class State(NamedTuple):
    """A value that a Scan carries from step to step."""

    first: ir.Value
    """Outside, before all steps."""
    before: ir.Value
    after: ir.Value
    last: ir.Value
    """Outside, after all steps."""


class Steps(NamedTuple):
    """A sequence that a Scan reads or stacks up."""

    whole: ir.Value
    """Outside."""
    step: ir.Value
    axis: int
    turned: bool


class Scan:
    """What goes into a Scan *node* and comes out of it."""

    def __init__(self, node: ir.Node) -> None:
        (self.body,) = bodies(node)
        count = len(node.inputs) - _sequences(node)
        inputs = [value for value in node.inputs if value is not None]
        states = zip(inputs, self.body.inputs, self.body.outputs, node.outputs, strict=False)
        self.states = [State(*values) for values in list(states)[:count]]
        self.read = list(_steps(node, "input", inputs[count:], self.body.inputs[count:]))
        self.stacked = list(_steps(node, "output", node.outputs[count:], self.body.outputs[count:]))

    @property
    def length(self) -> int | str | None:
        """How many steps there are: a number, the name of one, or None."""
        sizes = [x.whole.shape[x.axis] for x in self.read if x.whole.shape is not None]
        return next((n if isinstance(n, int) else n.value for n in sizes), None)


def flags(side: str, sequences: Sequence[Steps], *, turn: bool = False) -> dict[str, ir.Attr]:
    """The attributes that say axes and directions of a Scan's *sequences*, its inputs or outputs.

    Args:
        side: ``"input"`` or ``"output"``.
        sequences: all of them, in order.
        turn: from the other end.
    """
    axes, directions = [x.axis for x in sequences], [int(x.turned != turn) for x in sequences]
    named = {f"scan_{side}_axes": axes, f"scan_{side}_directions": directions}
    return {name: ir.AttrInt64s(name, numbers) for name, numbers in named.items() if any(numbers)}


def _sequences(node: ir.Node) -> int:
    return node.attributes.get_int("num_scan_inputs", 0)


def _steps(node: ir.Node, side: str, whole: Sequence[ir.Value], step: Sequence[ir.Value]) -> Iterator[Steps]:
    axes = node.attributes.get_ints(f"scan_{side}_axes", [0] * len(whole))
    directions = node.attributes.get_ints(f"scan_{side}_directions", [0] * len(whole))
    for values in zip(whole, step, axes, map(bool, directions), strict=True):
        yield Steps(*values)
