"""The batch comes first: where a file has it in another axis, a Transpose behind the input, or in front of the output.

PyTorch's recurrent layers and transformers take ``[time, batch, features]``, and states ``[layers, batch, hidden]``.
Which axis it is, the recipe says (``[input.x] batch_axis = 1``), or the signature: one symbolic dimension that inputs
and outputs share.  Where nothing but that symbol speaks for it, the model is asked: two examples side by side give what
each gives alone, or they are no examples.  The file that ships stays as it is; data have examples first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from dsd_ort import fields
from dsd_ort.errors import RecipeError
from dsd_ort.graph import trial
from dsd_ort.graph.legalize import to_supported
from dsd_ort.model.source import Source
from dsd_ort.notes import Note
from dsd_ort.recipe import Input, Recipe
from dsd_ort.rewrite.nodes import Nodes, named
from dsd_ort.rewrite.shapes import dims_of

_BY_ENTRY = {"Identity", "Cast", "Sigmoid"}
_OVER_AN_AXIS = {"Softmax", "LogSoftmax"}


def of_inputs(model: ir.Model, source: Source, recipe: Recipe) -> dict[str, int]:
    """Data input of the training copy *model* → its axis of the batch, where that is not the first.

    Raises:
        RecipeError: the recipe names an axis that the input does not have.
    """
    own = {p.name for p in (*source.parameters, *source.statistics)}
    shapes = {str(value.name): dims_of(value) or () for value in model.graph.inputs if value.name not in own}
    if (given := _given(recipe.input, shapes)) is not None:
        return given
    outputs = [dims_of(value) or () for value in model.graph.outputs]
    found = fields.batch_axes(shapes, outputs)
    if found.certain or not found.axes or _are_apart(model, source, found.axes):
        return found.axes
    return {}


def _given(table: Mapping[str, Input], shapes: Mapping[str, Sequence[int | str | None]]) -> dict[str, int] | None:
    """What the recipe says; inputs that it does not name have the batch where the name of its dimension stands."""
    named_axes = {name: entry.batch_axis for name, entry in table.items() if entry.batch_axis is not None}
    given = {}
    for name, axis in named_axes.items():
        rank = len(shapes.get(name, ()))
        if name in shapes and not -rank <= axis < rank:
            what = f"the input {name!r} has no axis {axis}: its shape is {fields.shown(shapes[name])}"
            raise RecipeError(what, where=f"recipe, input.{name}.batch_axis", fix="count its axes from 0")
        if name in shapes:
            given[name] = axis % rank
    if not given:
        return None
    symbols = {size for name, axis in given.items() if isinstance(size := shapes[name][axis], str)}
    for name, shape in shapes.items():
        places = [axis for axis, size in enumerate(shape) if size in symbols]
        if name not in given and len(places) == 1:
            given[name] = places[0]
    return {name: axis for name, axis in given.items() if axis}


def _are_apart(model: ir.Model, source: Source, axes: Mapping[str, int]) -> bool:
    """Whether *model* gives for two examples along *axes* what it gives for each; computed with the file's weights."""
    moved_model = moved(model.clone(), axes)
    tried = trial.opened(moved_model, source, trial.weights_of(source))
    shapes = trial.opened(moved_model, source)
    if tried is None or shapes is None or (one := shapes(1)) is None or (two := shapes(2)) is None:
        return False
    tried.sizes = shapes.sizes
    both = trial.drawn(tried, 2)
    parts = [tried.run({name: a[i : i + 1] if a.ndim else a for name, a in both.items()}) for i in (0, 1)]
    return trial.agree(tried.run(both), parts, trial.following(one, two, 1, 2))


def moved(model: ir.Model, axes: Mapping[str, int]) -> ir.Model:
    """*model*, changed: the batch is the first axis of the inputs in *axes*, and a Transpose puts it where it was."""
    if not axes:
        return model
    model = to_supported(model)
    for value in model.graph.inputs:
        if (axis := axes.get(str(value.name))) is not None and value.shape is not None:
            old, uses = list(value.shape), tuple(value.uses())
            value.shape = ir.Shape([old[axis], *old[:axis], *old[axis + 1 :]])
            new = Nodes.of(model.graph, f"{value.name}/in_place")
            back = new.Transpose(value, perm=[*range(1, axis + 1), 0, *range(axis + 1, len(old))])
            new.put_behind(value)
            for node, i in uses:
                node.replace_input_with(i, back)
            _replace_output(model.graph, value, back)
    return model


def move_outputs(model: ir.Model, axes: Mapping[str, int]) -> None:
    """The batch becomes the first axis of the outputs in *axes*, in place: in front of a final activation, which a loss
    looks for.
    """
    for value in list(model.graph.outputs):
        axis = axes.get(str(value.name))
        if axis is not None and value.shape is not None and axis < len(value.shape):  # a file may declare too few
            order = [axis, *(i for i in range(len(value.shape)) if i != axis)]
            new, name, shape = Nodes.of(model.graph, f"{value.name}/examples_first"), value.name, value.shape
            result = _transposed(new, value, order)
            new.append_to(model.graph)
            value.name = new.names.free(f"{name}/as_in_file") if new.names else f"{name}/as_in_file"
            named(result, name)
            result.type, result.shape = value.type, ir.Shape([shape[i] for i in order])
            _replace_output(model.graph, value, result)


def _transposed(new: Nodes, value: ir.Value, order: Sequence[int]) -> ir.Value:
    node = value.producer()
    before = node.inputs[0] if node is not None and node.inputs else None
    if node is None or before is None or node.op_type not in _BY_ENTRY | _OVER_AN_AXIS or node.domain:
        return new.Transpose(value, perm=list(order))
    changed = {name: attribute for name, attribute in node.attributes.items() if name != "axis"}
    if node.op_type in _OVER_AN_AXIS:
        changed["axis"] = ir.AttrInt64("axis", order.index(node.attributes.get_int("axis", -1) % len(order)))
    before = _transposed(new, before, order)
    return new.copy(node, [before, *node.inputs[1:]], f"{new.name}/{node.op_type}", changed)[0]


def _replace_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    graph.outputs[:] = [new if value is old else value for value in graph.outputs]


def of_outputs(model: ir.Model, axis_of: Mapping[str, int], recipe: Recipe) -> dict[str, int]:
    """Of *axis_of*, an axis for each output, those that are to be moved: not a ctc's, which names its axes itself."""
    kept = {loss.output for loss in recipe.losses if loss.name == "ctc"}
    names = [str(value.name) for value in model.graph.outputs]
    alone = names if None in kept else []
    return {name: axis for name, axis in axis_of.items() if axis and name not in kept and name not in alone}


def notes(axes: Mapping[str, int]) -> tuple[Note, ...]:
    """Which axes are the batch, where data have it first."""
    if not axes:
        return ()
    places = ", ".join(f"axis {axis} of {name!r}" for name, axis in axes.items())
    return (Note(kind="file", words=f"the batch is {places}; data have it first, as everywhere"),)
