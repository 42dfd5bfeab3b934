"""Mask-multiply nodes on weights and gradients: the sparse phase as a graph.

For a parameter ``w`` with gradient ``g`` and a mask ``m`` of the same shape, with entries 0 and 1::

    w ──────────► uses          w ──┬─► Mul ─► uses
                           →    m ──┤
    … ─► g ─────► uses          … ──┴─► Mul ─► g ─► uses

So ∂loss/∂w = m · g, and a weight that is zero where ``m`` is zero stays zero under every optimizer whose update
vanishes with gradient and slots (law 3).  ``strip`` is the exact inverse: ``strip(insert(g)) == g`` for every graph,
ours or somebody else's (law 2).  Both change the model in place.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from dsd_ort.rewrite.nodes import Nodes, named, take_over
from dsd_ort.rewrite.parts import values

DOMAIN_PREFIX = "dsd_ort.mask/"
"""What the names of inserted nodes, values and inputs begin with; ``strip`` knows them by it."""


def mask_name(parameter: str) -> str:
    """The graph input that holds the mask of *parameter*."""
    return f"{DOMAIN_PREFIX}{parameter}"


def insert(model: ir.Model, gradients: Mapping[str, str]) -> None:
    """Masks the parameters (keys, graph inputs or initializers) and their gradients (values, names of graph values).

    Args:
        model: a training graph, changed in place.
        gradients: parameter name → name of the value that holds its gradient.
    """
    graph = model.graph
    known = {value.name: value for value in values(graph)}
    for parameter, gradient in gradients.items():
        weight = known[parameter]
        mask = ir.Value(name=mask_name(parameter), shape=weight.shape, type=weight.type)
        graph.inputs.append(mask)
        _multiply_uses(weight, mask)
        _multiply_product(known[gradient], mask)


def strip(model: ir.Model) -> None:
    """Removes every node and input that :func:`insert` added."""
    graph = model.graph
    strip_weights(model)
    for node in _inserted(graph):
        original, output = node.inputs[0], node.outputs[0]
        assert original is not None
        # The name moves back to the value that had it.
        name, is_output = output.name, output.is_graph_output()
        output.replace_all_uses_with(original, replace_graph_outputs=is_output)
        graph.remove(node, safe=True)
        original.name = name
    for value in [v for v in graph.inputs if (v.name or "").startswith(DOMAIN_PREFIX)]:
        graph.inputs.remove(value)


def strip_weights(model: ir.Model) -> None:
    """Removes the products on weights and keeps those on gradients.

    For whoever keeps the weights themselves at zero where the mask is, as the training loop does (law 3): the product
    changes no bit then, and costs several per cent of a step.
    """
    graph = model.graph
    for node in _inserted(graph):
        original, output = node.inputs[0], node.outputs[0]
        if original is not None and (output.name or "").startswith(DOMAIN_PREFIX):
            output.replace_all_uses_with(original)
            graph.remove(node, safe=True)


def _inserted(graph: ir.Graph) -> list[ir.Node]:
    return [node for node in graph if (node.name or "").startswith(DOMAIN_PREFIX)]


def masked_parameters(model: ir.Model) -> list[str]:
    """The parameters that *model* has masks for."""
    names = (value.name or "" for value in model.graph.inputs)
    return [name.removeprefix(DOMAIN_PREFIX) for name in names if name.startswith(DOMAIN_PREFIX)]


def _multiply_uses(weight: ir.Value, mask: ir.Value) -> None:
    """Every node that reads *weight* reads weight · mask instead."""
    uses, new = tuple(weight.uses()), Nodes()
    if not uses:
        return
    masked = named(new.Mul(weight, mask), f"{DOMAIN_PREFIX}{weight.name}/weight")
    masked.name = f"{DOMAIN_PREFIX}{weight.name}/masked"
    new.put_behind(weight)
    for node, index in uses:
        node.replace_input_with(index, masked)


def _multiply_product(gradient: ir.Value, mask: ir.Value) -> None:
    """The value that everybody knows as the gradient becomes gradient · mask."""
    new = Nodes()
    masked = named(new.Mul(gradient, mask), f"{DOMAIN_PREFIX}{gradient.name}/gradient")
    new.put_behind(gradient)
    take_over(gradient, masked, f"{DOMAIN_PREFIX}{gradient.name}/unmasked")
