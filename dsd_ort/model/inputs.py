"""The model's inputs: what a recipe fixes of them, and which of them an output needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dsd_ort.errors import RecipeError, nearest
from dsd_ort.recipe import Input
from dsd_ort.rewrite.flow import cut_to
from dsd_ort.rewrite.nodes import Nodes, constant_value
from dsd_ort.rewrite.parts import reads


def line(value: ir.Value) -> str:
    """What a recipe says to fix the input *value*, a number: by one that the model compares it with, if it does."""
    readers = [use.node for use in value.uses()]
    for node in readers:
        if len(node.inputs) == 1:  # a Cast, or another shape of it
            readers += [use.node for output in node.outputs for use in output.uses()]
    for other in (other for node in readers for other in node.inputs if other is not None):
        number = constant_value(other)
        if number is not None and number.size == 1 and number.dtype.kind in "bif":
            return f"[input.{value.name}] value = {str(number.item()).lower()}"
    return f"[input.{value.name}] value = …"


def shared_numbers(values: Iterable[ir.Value]) -> list[ir.Value]:
    """Those of *values* that hold one number for a batch: a sample rate, a switch."""
    return [value for value in values if value.shape is not None and value.shape.rank() == 0]


def keep_only(model: ir.Model, read: Collection[str], parameters: Collection[str]) -> None:
    """Removes outputs that are not *read*, what only they need, and the inputs that only they need.

    Parameters stay, and so do inputs that are *read* themselves.
    """
    graph = cut_to(model, read).graph
    RemoveUnusedNodesPass()(model)
    needed = {value.name for node in graph for value in reads(node)} | {value.name for value in graph.outputs}
    needed |= {*read, *parameters}
    graph.inputs[:] = [value for value in graph.inputs if value.name in needed]


def fix(model: ir.Model, table: Mapping[str, Input], parameters: Collection[str]) -> None:
    """Gives inputs the shapes and values that the recipe's *table* has for them, in place.

    An input with a value is no input any more.  Its axes without a fixed length are as long as another input's of the
    same name; an axis without a name is the batch.

    Raises:
        RecipeError: no such input, or a value or shape that does not fit it.
    """
    inputs = {str(value.name): value for value in model.graph.inputs if value.name not in parameters}
    for name, entry in table.items():
        where = f"recipe, input.{name}"
        if name not in inputs:
            hint = nearest(name, inputs) or f"its inputs are {', '.join(inputs)}"
            raise RecipeError(f"the model has no input {name!r}", where=where, fix=hint)
        if entry.shape is not None:
            _set_shape(inputs[name], entry.shape, where)
    for name, entry in table.items():
        if entry.value is not None:
            _set_value(
                model.graph,
                inputs[name],
                entry.value,
                [v for n, v in inputs.items() if n not in table or table[n].value is None],
                f"recipe, input.{name}",
            )


def _set_shape(value: ir.Value, shape: tuple[int | str, ...], where: str) -> None:
    old = None if value.shape is None else list(value.shape)
    fits = old is None or (
        len(old) == len(shape) and all(not isinstance(a, int) or a == b for a, b in zip(old, shape, strict=True))
    )
    if not fits:
        what = f"the shape {list(shape)} does not fit the input {value.name!r}, whose shape is {value.shape}"
        raise RecipeError(what, where=where, fix="keep the lengths that the model fixes, and give one for each axis")
    value.shape = ir.Shape(shape)


def _set_value(graph: ir.Graph, old: ir.Value, given: object, others: list[ir.Value], where: str) -> None:
    if old.dtype is None or old.shape is None:
        raise RecipeError(
            f"the input {old.name!r} is no tensor of a known rank",
            where=where,
            fix="give its shape too, as shape = […]",
        )
    try:
        array = np.asarray(given).astype(old.dtype.numpy(), casting="unsafe")
        known = [size if isinstance(size, int) else 1 for size in old.shape]
        array = np.ascontiguousarray(np.broadcast_to(array, known))
    except (ValueError, TypeError) as error:
        raise RecipeError(
            f"the value does not fit the input {old.name!r}, whose shape is {old.shape}",
            where=where,
            fix="give one number, or nested lists of numbers of its shape",
        ) from error
    new = Nodes.of(graph, str(old.name))
    value = new.constant(array)
    if any(not isinstance(size, int) for size in old.shape):
        sizes = [
            new.constant([size]) if isinstance(size, int) else _length(new, *_source_of(size.value, others, old, where))
            for size in old.shape
        ]
        value = new.Expand(value, new.Concat(*sizes, axis=0))
    value.type, value.shape = old.type, old.shape
    new.put_behind(old)
    old.replace_all_uses_with(value, replace_graph_outputs=True)
    graph.inputs.remove(old)


def _length(new: Nodes, value: ir.Value, axis: int) -> ir.Value:
    """The length of an axis of *value*, i64[1]."""
    return new.Gather(new.Shape(value), [axis])


def _source_of(name: str | None, others: list[ir.Value], value: ir.Value, where: str) -> tuple[ir.Value, int]:
    """The input and its axis that an axis called *name* of *value* is as long as."""
    for other in others:
        for axis, size in enumerate(other.shape or ()):
            if not isinstance(size, int) and (size.value == name if name else axis == 0):
                return other, axis
    raise RecipeError(
        f"the length of an axis of {value.name!r} is not known: no other input has an axis {name!r}",
        where=where,
        fix='give its shape too, with the name of another input\'s axis, as shape = [2, "batch", 128]',
    )
