"""Reverse mode: the gradient dv of a value v is the sum of dy · ∂y/∂v over the nodes v → y that read it.

One walk over the nodes from the loss back.  When it comes to a node, all that reads its outputs has been passed, so
their gradients are complete; the node's rule (:mod:`.table`) makes those of its inputs of them.  Only nodes on the
gradient path (:class:`dsd_ort.rewrite.path.Path`) are passed, and of what rules write only that stays which a
parameter's gradient depends on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.differentiate.adjoint import MICROSOFT, Adjoint, Back, Constants, Gradients, settle
from dsd_ort.graph.differentiate.judge import by_rules, refusals
from dsd_ort.graph.differentiate.kept import needed
from dsd_ort.graph.differentiate.step_graph import StepGraph, gradient_of
from dsd_ort.graph.differentiate.table import RULES
from dsd_ort.rewrite import autograd
from dsd_ort.rewrite.autograd import Operator
from dsd_ort.rewrite.flow import cut_to
from dsd_ort.rewrite.hoist import hoist
from dsd_ort.rewrite.inside import infer_all
from dsd_ort.rewrite.names import GRADIENT, Names, make_unique
from dsd_ort.rewrite.nodes import Nodes, constant_value
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.path import Path
from dsd_ort.rewrite.shapes import sizes_of


def differentiate(model: ir.Model, trainable: Sequence[str], *, loss: str = "loss") -> StepGraph:
    """The gradients of the scalar output *loss* with respect to the graph inputs *trainable*; *model* stays as it is.

    Raises:
        UnsupportedError: a node between them has no rule, or its rule has no form for it.
    """
    step = model.clone()
    graph = step.graph
    graph.sort()
    hoist(graph)
    infer_all(graph, constant_value, graph.opset_imports.get("", autograd.OPSET))
    inputs, outputs = ({str(v.name): v for v in values if v.name} for values in (graph.inputs, graph.outputs))
    parameters = [inputs[name] for name in trainable]
    path, operators = Path(graph, parameters, [outputs[loss]]), autograd.of_model(step)
    _raise(refusals(path, by_rules, operators))
    back = _Backward(path, operators, Constants(graph, Names(graph)))
    back.start(outputs[loss])
    back.through_all()
    gradients = [back.end(parameter) for parameter in parameters]
    back.written.append_to(graph)
    graph.outputs[:] = [*outputs.values(), *gradients]
    if operators:
        autograd.inline(step)
        make_unique(step)
    _tidy(step, back.constants.made)
    return StepGraph(step, dict(zip(trainable, [str(gradient.name) for gradient in gradients], strict=True)))


def _raise(found: Sequence[UnsupportedError]) -> None:
    if found:
        error = found[0]
        error.causes = tuple(found)
        raise error


class _Backward:
    """The gradients that have arrived at values, and the nodes that they took."""

    def __init__(self, path: Path, operators: Mapping[str, Operator], constants: Constants) -> None:
        self.path, self.operators, self.constants, self.names = path, operators, constants, constants.names
        self.ended: set[ir.Value] = set()
        self.arrived: dict[ir.Value, list[ir.Value]] = {}
        self.written = Nodes(opset=path.opset, names=constants.names)

    def start(self, loss: ir.Value) -> None:
        """∂loss/∂loss = 1, an initializer of its own name: mixed precision scales it."""
        one = np.ones([], (loss.dtype or ir.DataType.FLOAT).numpy())
        self.arrived[loss] = [self.constants.add(one, gradient_of(str(loss.name)))]

    def through_all(self) -> None:
        """Back through all nodes."""
        for node in reversed(list(self.path.nodes())):
            self.through(node)

    def inside(
        self, path: Path, arriving: Iterable[tuple[ir.Value, ir.Value | None]], wanted: Sequence[ir.Value]
    ) -> Back:
        """The way back through a body: :data:`~.adjoint.Walk`."""
        back = _Backward(path, self.operators, self.constants)
        for value, d in arriving:
            if d is not None:
                back.arrived.setdefault(value, []).append(d)
        back.through_all()
        gradients = [back.of(value) for value in wanted]
        return Back(needed(back.written.nodes, gradients), gradients)

    def through(self, node: ir.Node) -> None:
        """From the gradients of the node's outputs to those of its inputs."""
        gradients = [self.of(output) for output in node.outputs]
        if all(gradient is None for gradient in gradients):
            return
        at = Adjoint(node, self.path, gradients, self.constants, self.inside)
        own = self.operators.get(key(node))
        found = RULES[key(node)].rule(at) if own is None else _called_back(at, own)
        each = [found] if isinstance(found, ir.Value) else found
        for value, d in zip([*node.inputs, *at.around], each, strict=False):
            if value is not None and d is not None and self.path.carries(value):
                settle(d, value)
                self.arrived.setdefault(value, []).append(d)
        self.written.take(at)

    def new(self, value: ir.Value) -> Nodes:
        """For nodes that belong to the gradient of *value*."""
        return Nodes(f"{value.name}{GRADIENT}", opset=self.path.opset, names=self.names)

    def of(self, value: ir.Value) -> ir.Value | None:
        """The sum of what has arrived at *value*."""
        terms = self.arrived.get(value, [])
        if len(terms) > 1:
            new = self.new(value)
            total = new.Add(*terms) if len(terms) == 2 else new.Sum(*terms)
            settle(total, value)
            self.written.take(new)
            terms[:] = [total]
        return terms[0] if terms else None

    def end(self, parameter: ir.Value) -> ir.Value:
        """The gradient of *parameter*, a value of its own under its own name."""
        new = self.new(parameter)
        d = self.of(parameter) or _zeros(new, parameter)
        made_here = d.producer() is not None and d.graph is None
        if d in self.ended or not made_here:
            d = new.Identity(d)
        settle(d, parameter)
        d.name = self.names.free(gradient_of(str(parameter.name)))
        self.ended.add(d)
        self.written.take(new)
        return d


def _zeros(new: Nodes, like: ir.Value) -> ir.Value:
    dtype, sizes = like.dtype or ir.DataType.FLOAT, sizes_of(like)
    shape = new.Shape(like) if sizes is None else sizes
    return new.ConstantOfShape(shape, value=ir.tensor(np.zeros(1, dtype.numpy())))


def _called_back(at: Adjoint, operator: Operator) -> Gradients:
    """By the backward function of an operator that brings one; zeros where no gradient arrives."""
    forward, backward = operator
    values = dict(zip(forward.input, at.node.inputs, strict=False))
    values |= dict(zip(forward.output, at.node.outputs, strict=True))
    arrived = {f"d{y}": d for y, d in zip(forward.output, at.gradients, strict=True)}

    def argument(name: str) -> ir.Value | None:
        return values[name] if name not in arrived else arrived[name] or at.zeros(values[name[1:]])

    inputs = map(argument, backward.input)
    outputs = at.several(f"{autograd.DOMAIN}.{backward.name}", len(backward.output), *inputs)
    found = dict(zip(backward.output, outputs, strict=True))
    return [found.get(f"d{x}") for x in forward.input]


def _tidy(step: ir.Model, constants: Iterable[ir.Value]) -> None:
    """Leaves nothing that nobody reads, and the domains that are used."""
    graph = step.graph
    cut_to(step, [str(value.name) for value in graph.outputs])
    for value in constants:
        if not value.uses():
            graph.initializers.pop(str(value.name))
    if any(node.domain == MICROSOFT for node in graph):
        graph.opset_imports.setdefault(MICROSOFT, 1)
