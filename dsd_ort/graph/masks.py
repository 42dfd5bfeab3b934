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
    values = _values(graph)
    for parameter, gradient in gradients.items():
        weight = values[parameter]
        mask = ir.Value(name=mask_name(parameter), shape=weight.shape, type=weight.type)
        graph.inputs.append(mask)
        _multiply_uses(graph, weight, mask)
        _multiply_product(graph, values[gradient], mask)


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


def _values(graph: ir.Graph) -> dict[str | None, ir.Value]:
    values = {value.name: value for value in (*graph.inputs, *graph.initializers.values())}
    values.update({value.name: value for node in graph for value in node.outputs})
    return values


def _multiply_uses(graph: ir.Graph, weight: ir.Value, mask: ir.Value) -> None:
    """Every node that reads *weight* reads weight · mask instead."""
    product = ir.node("Mul", [weight, mask], name=f"{DOMAIN_PREFIX}{weight.name}/weight")
    product.outputs[0].name = f"{DOMAIN_PREFIX}{weight.name}/masked"
    product.outputs[0].shape, product.outputs[0].type = weight.shape, weight.type
    uses = [use for use in weight.uses() if use.node is not product]
    if not uses:
        product.replace_input_with(0, None)
        product.replace_input_with(1, None)
        return
    for node, index in uses:
        node.replace_input_with(index, product.outputs[0])
    # A subgraph may read it too, so it goes in front of everything rather than before the first reader.
    first = next(iter(graph))
    graph.insert_before(first, product)


def _multiply_product(graph: ir.Graph, gradient: ir.Value, mask: ir.Value) -> None:
    """The value that everybody knows as the gradient becomes gradient · mask."""
    name, producer = gradient.name, gradient.producer()
    assert producer is not None, "a gradient is the output of a node"
    product = ir.node("Mul", [gradient, mask], name=f"{DOMAIN_PREFIX}{name}/gradient")
    masked = product.outputs[0]
    masked.shape, masked.type = gradient.shape, gradient.type
    for node, index in [use for use in gradient.uses() if use.node is not product]:
        node.replace_input_with(index, masked)
    for position, output in enumerate(graph.outputs):
        if output is gradient:
            graph.outputs[position] = masked
    gradient.name, masked.name = f"{DOMAIN_PREFIX}{name}/unmasked", name
    graph.insert_after(producer, product)
