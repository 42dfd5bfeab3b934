"""Ends without a gradient: what a loss reads where a model ends in ArgMax, NonMaxSuppression or a map of labels.

A loss may read any floating-point value of the main graph, which is then an output of the graphs that train and
evaluate; the shipped file keeps the outputs that it has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_ir as ir

from dsd_ort.errors import RecipeError
from dsd_ort.notes import Note, listing
from dsd_ort.recipe import Loss
from dsd_ort.rewrite.flow import sources
from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.operators.stops import CLASSICAL_DOMAIN
from dsd_ort.rewrite.parts import reads
from dsd_ort.rewrite.path import Path


def expose(model: ir.Model, losses: Sequence[Loss], parameters: Collection[str]) -> None:
    """Makes outputs of the values that *losses* name, in place; where one names none, of what stands :func:`in_front`.

    Raises:
        RecipeError: several values stand there.
    """
    graph = model.graph
    outputs = {value.name for value in graph.outputs}
    named = {loss.output for loss in losses} - outputs
    graph.outputs.extend(value for value in values(graph) if value.name in named)
    if any(loss.output is None for loss in losses) and (front := in_front(graph, parameters)):
        graph.outputs[:] = [front]


def values(graph: ir.Graph) -> list[ir.Value]:
    """The values of the main graph that a loss can read beside the outputs."""
    made = (value for node in graph for value in node.outputs)
    return [value for value in made if value.name and _is_floating(value) and not value.is_graph_output()]


def in_front(graph: ir.Graph, parameters: Collection[str]) -> ir.Value | None:
    """The value that the loss reads where no output of *graph* is of floating-point numbers; None where one is.

    Raises:
        RecipeError: there are several, and the message names them.
    """
    if any(_is_floating(value) for value in graph.outputs):
        return None  # what computes with a choice is trained as it is, or refused
    weights = [value for value in graph.inputs if value.name in parameters]
    found: dict[ir.Value, ir.Node] = {}
    seen, stack = set(graph.outputs), list(graph.outputs)
    while stack:
        node = stack.pop().producer()
        for value in () if node is None else reads(node):
            if value in seen:
                continue
            seen.add(value)
            if (
                node is not None
                and value.producer() is not None
                and _is_floating(value)
                and _reaches(graph, weights, value)
            ):
                found[value] = node
            else:
                stack.append(value)
    if len(found) > 1:
        names = [str(value.name) for value in found]
        ends = dict.fromkeys(place(node) for node in found.values())
        raise RecipeError(
            f"no gradient passes {' and '.join(ends)}, and several values stand in front: {listing(names)}",
            where=f"output {', '.join(repr(value.name) for value in graph.outputs)}",
            fix=f"name the one that the loss reads, as --output {names[-1]}",
        )
    return next(iter(found), None)


def notes(model: ir.Model, read: Collection[str]) -> tuple[Note, ...]:
    """Which of the values that losses *read* are no outputs of *model*, the file's."""
    outputs = {value.name for value in model.graph.outputs}
    inner = [value for value in values(model.graph) if value.name in read and value.name not in outputs]
    found = []
    for value in inner:
        readers = " and ".join(dict.fromkeys(place(use.node) for use in value.uses()))
        found.append(Note(kind="training", words=f"the loss reads {value.name!r}, in front of {readers}"))
    return tuple(found)


def _reaches(graph: ir.Graph, weights: Sequence[ir.Value], output: ir.Value) -> bool:
    """Whether a gradient of *output* reaches one of *weights*, as far as operators' kinds say."""
    producer = output.producer()
    if producer is None or producer.domain == CLASSICAL_DOMAIN or not sources([output]) & set(weights):
        return False
    path = Path(graph, weights, [output])
    return any(path.carries(weight) for weight in weights)


def _is_floating(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point()
