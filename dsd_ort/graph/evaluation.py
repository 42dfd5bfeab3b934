"""What measures a model's weights: the graph that ships, its weights as inputs, and the loss behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import onnx
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.errors import ModelError, RecipeError, UnsupportedError
from dsd_ort.fields import Field
from dsd_ort.graph import loss as losses
from dsd_ort.graph.adapt import Adapted, adapted
from dsd_ort.graph.inference import to_inference
from dsd_ort.graph.legalize import precision, to_supported
from dsd_ort.model import inputs
from dsd_ort.model.source import Source
from dsd_ort.notes import Note
from dsd_ort.recipe import Recipe
from dsd_ort.rewrite import autograd
from dsd_ort.rewrite.shapes import dims_of


class Evaluation(NamedTuple):
    """The shipping graph with its weights as inputs and the loss behind it."""

    graph: onnx.ModelProto
    inputs: list[Field]
    labels: list[Field]
    outputs: dict[str, str]
    """Output that a loss reads → that loss's label."""
    loss: str
    notes: tuple[Note, ...] = ()
    lengths: str | None = None
    """The input or output that holds the lengths of what the first loss reads."""
    axes: Mapping[str, int] = MappingProxyType({})
    """Input or output → the axis of the batch in the file, where that is not the first."""
    held: int | None = None
    """The batch size that the file holds, where it says that it takes any."""


def evaluation(source: Source, recipe: Recipe, start: Adapted | None = None) -> Evaluation:
    """What measures *source*'s weights: its own nodes, lowered only where this ONNX Runtime is too old for them.

    Args:
        source: the model.
        recipe: its losses, and what it fixes of the model's inputs.
        start: what :func:`adapted` gives, where it is there already; its model is changed.

    Raises:
        RecipeError: the recipe's losses do not fit the model.
    """
    start = adapted(source, recipe) if start is None else start
    model = to_supported(start.model)
    to_inference(model)
    notes = (*losses.notes(model, recipe.losses), *_shared_numbers(model, source), *_make_runnable(model, source))
    outputs = {losses.output_of(model, loss): loss.label for loss in recipe.losses}
    fields = _data_inputs(model, source)
    attached = losses.attach(model, recipe.losses)
    autograd.inline(model)
    _check_alphabet(recipe, attached.labels)
    lengths = recipe.losses[0].lengths
    graph = ir.to_proto(model)
    return Evaluation(graph, fields, attached.labels, outputs, attached.loss, notes, lengths, start.axes, start.held)


def _shared_numbers(model: ir.Model, source: Source) -> Iterator[Note]:
    """What there is to do about inputs that are one number for a batch."""
    own = {p.name for p in (*source.parameters, *source.statistics)}
    for value in inputs.shared_numbers(value for value in model.graph.inputs if value.name not in own):
        words = f"input {value.name!r} is one number for a batch: data has it, or the recipe: {inputs.line(value)}"
        yield Note(kind="recipe", words=words)


def _check_alphabet(recipe: Recipe, labels: Sequence[Field]) -> None:
    """An alphabet has the text of each class of ctc's."""
    alphabet = recipe.data.alphabet
    for field in labels:
        if field.blank is not None and alphabet and len(alphabet) != field.classes:
            raise RecipeError(
                f"data.alphabet has {len(alphabet)} entries, and the model {field.classes} classes",
                where=f"recipe, data.alphabet, and label {field.name!r}",
                fix="give an entry for every class, the blank's included, from class 0 on",
            )


def _make_runnable(model: ir.Model, source: Source) -> tuple[Note, ...]:
    """Rounds weights as they are when they ship; computes in float32 where the CPU cannot otherwise.  The notes."""
    types = precision.other_types(model)
    notes: tuple[Note, ...] = ()
    if types:
        try:
            runtime.session(ir.to_proto(model))
        except ModelError as error:
            precision.to_float32(model)
            words = f"evaluated in float32, as {' and '.join(types)} does not run on the CPU: {error.what}"
            notes = (Note(kind="evaluation", words=words),)
    weights = {p.name: ir.DataType[p.dtype.upper()] for p in (*source.parameters, *source.statistics)}
    precision.round_inputs(model, {name: dtype for name, dtype in weights.items() if dtype.bitwidth == 16})
    return notes


def _data_inputs(model: ir.Model, source: Source) -> list[Field]:
    """The inputs of a training copy that data must feed: all but parameters and statistics.

    Raises:
        UnsupportedError: an input that is no tensor.
    """
    own = {p.name for p in (*source.parameters, *source.statistics)}
    return [_field(value) for value in model.graph.inputs if value.name not in own]


def _field(value: ir.Value) -> Field:
    shape = dims_of(value)
    if not isinstance(value.type, ir.TensorType) or value.dtype is None or shape is None:
        raise UnsupportedError(
            f"the input {value.name!r} is no tensor of a known rank",
            fix="export the model with inputs that are tensors with types and shapes",
        )
    return Field(str(value.name), value.dtype.numpy().name, shape)
