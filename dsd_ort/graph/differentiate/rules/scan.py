"""Scan: the gradient goes back from the last step to the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from dsd_ort.graph.differentiate.adjoint import Adjoint, Gradients, settle
from dsd_ort.graph.differentiate.kept import exchange, kept
from dsd_ort.rewrite.bodies import Scan, Steps, flags
from dsd_ort.rewrite.shapes import dims_of


def scan(at: Adjoint) -> Gradients:
    """Sₜ, Yₜ = f(Sₜ₋₁, Xₜ, Z): dSₜ₋₁ = dSₜ·∂Sₜ/∂Sₜ₋₁ + dYₜ·∂Yₜ/∂Sₜ₋₁, likewise dXₜ; dZ is the sum over t.

    A Scan from the last step to the first.  Its states are dS and the sums dZ; its sequences dY, and what the way back
    reads of each step, which the forward Scan stacks up.
    """
    (path,), forward, new, end = at.path.inside(at.node), Scan(at.node), _Scan(at), at.beside()
    of_states, of_stacked = at.gradients[: len(forward.states)], at.gradients[len(forward.states) :]
    states = [(s, d) for s, d in zip(forward.states, of_states, strict=True) if d is not None or path.carries(s.before)]
    sequences = [x for x in forward.read if path.carries(x.step)]
    read = at.carried_in

    ends = [(s.after, new.state(s.first, d)) for s, d in states]
    ends += [(y.step, new.sequence(y, d)) for y, d in zip(forward.stacked, of_stacked, strict=True) if d is not None]
    starts = [s.before for s, _ in states] + [x.step for x in sequences]
    back = at.walk(path, ends, [*starts, *read])
    gradients = iter(back.gradients)
    new.after += [end.leaving(next(gradients), s.first) for s, _ in states]
    stacked = [(x, d) for x in sequences if (d := next(gradients)) is not None]
    summed = [(z, d) for z in read if (d := next(gradients)) is not None]
    new.after += [settle(end.Add(new.state(z), d), z) for z, d in summed]
    new.stacked += [(x, end.leaving(d, x.step)) for x, d in stacked]
    exchange(back.nodes, {v: new.sequence(_stacked_up(at, forward, v)) for v in kept(forward.body, back.nodes)})

    found = iter(new.written([*back.nodes, *end.nodes], f"{at.name}/{forward.body.name}"))
    of = {s.before: next(found) for s, _ in states} | {z: next(found) for z, _ in summed}
    of |= {x.step: next(found) for x, _ in stacked}
    return [of.get(value) for value in (*forward.body.inputs, *at.around)]


class _Scan:
    """A Scan while it is written, from the last step of the one at *at* to the first."""

    def __init__(self, at: Adjoint) -> None:
        self.at = at
        self.first: list[ir.Value] = []
        self.before: list[ir.Value] = []
        self.after: list[ir.Value] = []
        """Of the states, in their order."""
        self.read: list[tuple[Steps, ir.Value]] = []
        self.stacked: list[tuple[Steps, ir.Value]] = []
        """Whose axis and direction it has, and a step of it inside."""

    def state(self, like: ir.Value, first: ir.Value | None = None) -> ir.Value:
        """What a new state like *like* is before a step; it begins as *first*, or as zeros."""
        self.first.append(first or self.at.zeros(like))
        self.before.append(self.at.argument(like))
        return self.before[-1]

    def sequence(self, steps: Steps, whole: ir.Value | None = None) -> ir.Value:
        """A step of *whole*, or of *steps* itself, taken from where *steps* has this step."""
        step = self.at.argument(steps.step)
        self.read.append((steps._replace(whole=whole or steps.whole), step))
        return step

    def written(self, nodes: Sequence[ir.Node], name: str) -> Sequence[ir.Value]:
        """All outputs of the Scan: last states, and what is stacked."""
        read, stacked = [steps for steps, _ in self.read], [steps for steps, _ in self.stacked]
        inputs = [*self.before, *(step for _, step in self.read)]
        outputs = [*self.after, *(step for _, step in self.stacked)]
        attributes: dict[str, Any] = flags("input", read, turn=True) | flags("output", stacked, turn=True)
        return self.at.several(
            "Scan",
            len(outputs),
            *(*self.first, *(steps.whole for steps in read)),
            body=ir.Graph(inputs, outputs, nodes=nodes, name=name),
            num_scan_inputs=len(read),
            **attributes,
        )


def _stacked_up(at: Adjoint, forward: Scan, value: ir.Value) -> Steps:
    """*value* of the body at all steps: what the forward Scan reads or stacks up already, or a new output of it."""
    for steps in (*forward.read, *forward.stacked):
        if steps.step is value:
            return steps
    sizes = dims_of(value)
    if sizes is None:
        raise at.refusal(
            f"has no gradient, as the rank of {value.name!r} at a step is unknown",
            "export the model with shapes, or run onnx.shape_inference on it",
        )
    node, body, new = at.node, forward.body, at.beside()
    step = new.leaving(value, value)
    new.append_to(body)
    body.outputs.append(step)
    node.resize_outputs(len(node.outputs) + 1)
    whole = node.outputs[-1]
    whole.name, whole.type = at.constants.names.free(f"{value.name}/kept"), value.type
    whole.shape = ir.Shape([forward.length, *sizes])
    steps = Steps(whole, value, axis=0, turned=False)
    forward.stacked.append(steps)
    for name in ("scan_output_axes", "scan_output_directions"):
        node.attributes.pop(name, None)
    node.attributes.update(flags("output", forward.stacked))
    return steps
