"""Losses behind a model's outputs: label inputs, and one scalar output that is the weighted sum of all losses.

:mod:`~dsd_ort.graph.loss.formulas` has the losses themselves, :mod:`~dsd_ort.graph.loss.labels` what they are given.
Many exported models end in Softmax, LogSoftmax or Sigmoid.  The losses on logits read the value in front of it
(:func:`~dsd_ort.graph.logits.peel`), and the model keeps it; mse, l1 and huber read the output as it is.

Requires opset 13 or later.  Ensures that ONNX Runtime differentiates every node added here rightly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import onnx_ir as ir

from dsd_ort import recipe
from dsd_ort.errors import RecipeError, nearest
from dsd_ort.fields import Field
from dsd_ort.graph.logits import Logits, activation_behind, peel, shape_of, value_of
from dsd_ort.graph.loss.formulas import LOSSES
from dsd_ort.graph.loss.labels import add_label, common_label, label_of
from dsd_ort.notes import Note
from dsd_ort.rewrite import autograd
from dsd_ort.rewrite.names import Names
from dsd_ort.rewrite.nodes import Nodes

_FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}


class Attached(NamedTuple):
    """The name of the graph output that holds the loss, and what the labels are, each label once."""

    loss: str
    labels: list[Field]


def attach(model: ir.Model, losses: Sequence[recipe.Loss], logits: Mapping[str, Logits] | None = None) -> Attached:
    """Adds to *model*, in place, an input for every label and the output ``loss``, ``f32[]``, as its last.

    The output has a number in its name where the model has a value called ``loss`` already.  A loss may call an
    operator with a backward of its own: :func:`~dsd_ort.rewrite.autograd.inline` makes plain ONNX of it.

    Args:
        model: a training or an evaluation graph.
        losses: the recipe's, at least one.
        logits: the outputs that losses may read and where they attach; by default all, and :func:`peel` finds it.

    Raises:
        RecipeError: a loss that names no output or a wrong one, or does not fit its output or another loss's label.
    """
    names = Names(model.graph)
    new = Nodes("loss", opset=model.opset_imports[""], names=names)
    labels: dict[str, tuple[Field, ir.Value]] = {}
    terms = []
    for loss in losses:
        _refuse_foreign_options(loss)
        output = output_of(model, loss, logits)
        scores = _scores(model, new, loss, output, logits[output] if logits else peel(model, output))
        field = label_of(loss, output, scores)
        if loss.label in labels:
            field, label = common_label(labels[loss.label][0], field), labels[loss.label][1]
        else:
            label = add_label(model.graph, names, field)
        labels[loss.label] = field, label
        given = [_lengths(model, loss)] if "lengths" in LOSSES[loss.name].options else []
        term = LOSSES[loss.name].build(new, scores, label, loss, *given)
        terms.append(term if loss.weight == 1 else new.Mul(term, float(loss.weight)))
    total = reduce(new.Add, terms)
    total.name, total.type, total.shape = names.free("loss"), ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    new.append_to(model.graph)
    model.graph.outputs.append(total)
    autograd.add(model, new.operators)
    return Attached(total.name, [field for field, _ in labels.values()])


def output_of(model: ir.Model, loss: recipe.Loss, outputs: Iterable[str] | None = None) -> str:
    """The name of the output that *loss* reads, among *outputs* (by default the model's).

    Raises:
        RecipeError: there is no such output, or several and the loss names none.
    """
    names = [str(value.name) for value in model.graph.outputs] if outputs is None else list(outputs)
    if loss.output is None:  # what holds lengths holds no scores
        names = [name for name in names if name != loss.lengths]
    if loss.output is None and len(names) != 1:
        raise RecipeError(
            f"the loss names no output, and the model has {len(names)}: {', '.join(names)}",
            where="recipe, loss.output",
            fix='name the one that the loss reads, as output = "…"',
        )
    if loss.output is not None and loss.output not in names:
        raise RecipeError(
            f"the model has no output {loss.output!r}",
            where="recipe, loss.output",
            fix=nearest(loss.output, names) or f"the outputs are {', '.join(names)}",
        )
    return loss.output or names[0]


def values_read(model: ir.Model, losses: Iterable[recipe.Loss]) -> list[str]:
    """The outputs that *losses* read, and the inputs, which are lengths.

    Raises:
        RecipeError: see :func:`output_of`; lengths that are none.
    """
    found: dict[str, None] = {}
    for loss in losses:
        found[output_of(model, loss)] = None
        if (lengths := _lengths(model, loss)) is not None:
            found[str(lengths.name)] = None
    return list(found)


def _lengths(model: ir.Model, loss: recipe.Loss) -> ir.Value | None:
    """The input or output that holds the lengths of the scores."""
    if loss.lengths is None:
        return None
    values = {str(v.name): v for v in (*model.graph.inputs, *model.graph.outputs)}
    value = values.get(loss.lengths)
    whole = value is not None and (value.dtype is None or value.dtype.is_integer())
    if value is None or not whole or (value.shape is not None and value.shape.rank() != 1):
        fitting = _whole_numbers(model)
        what = "has no input or output" if value is None else "has no whole numbers, one for each example, in"
        raise RecipeError(
            f"the model {what} {loss.lengths!r}",
            where="recipe, loss.lengths",
            fix=nearest(loss.lengths, fitting) or f"lengths may be in {', '.join(fitting) or 'none of its values'}",
        )
    return value


def _whole_numbers(model: ir.Model) -> list[str]:
    """The inputs and outputs that have a whole number for each example."""
    values = (*model.graph.inputs, *model.graph.outputs)
    whole = [value for value in values if value.dtype is not None and value.dtype.is_integer()]
    return [str(value.name) for value in whole if value.shape is not None and value.shape.rank() == 1]


def notes(model: ir.Model, losses: Sequence[recipe.Loss]) -> tuple[Note, ...]:
    """What people should know of *losses* at *model*: scores that are none, and all frames count for a ctc without
    lengths.
    """
    return (*_not_logits(model, losses), *_lengths_unused(model, losses))


def _not_logits(model: ir.Model, losses: Sequence[recipe.Loss]) -> Iterator[Note]:
    """Of outputs that a loss takes for logits, and that are behind an activation which it cannot be put in front of."""
    for loss in losses:
        if LOSSES[loss.name].peels:
            output = output_of(model, loss)
            node = activation_behind(value_read(model, loss, output))
            if node is not None and node.inputs[0] is not None:
                words = (
                    f"{loss.name} takes {output!r} for logits, and it is made of a {node.op_type}: probabilities train "
                    f"slowly so; name what is in front as loss.output, {node.inputs[0].name!r}, if its axes fit"
                )
                yield Note(kind="recipe", words=words)


def _lengths_unused(model: ir.Model, losses: Iterable[recipe.Loss]) -> tuple[Note, ...]:
    unused = any(loss.name == "ctc" and loss.lengths is None for loss in losses)
    names = " or ".join(repr(name) for name in _whole_numbers(model)) if unused else ""
    words = f"ctc counts all frames; if {names} has their number, name it as loss.lengths"
    return (Note(kind="recipe", words=words),) if names else ()


_OPTIONS = tuple(dict.fromkeys(option for spec in LOSSES.values() for option in spec.options))


def _refuse_foreign_options(loss: recipe.Loss) -> None:
    for option in _OPTIONS:
        if option not in LOSSES[loss.name].options and getattr(loss, option) != getattr(recipe.Loss(), option):
            raise RecipeError(f"{loss.name} has no {option}", where="recipe, loss", fix=f"remove {option}")


def value_read(model: ir.Model, loss: recipe.Loss, output: str, end: Logits | None = None) -> ir.Value:
    """What *loss* reads at *output*: a loss on logits, the value in front of a final activation over its classes.

    Args:
        model: with *output*.
        loss: the loss.
        output: the output.
        end: what :func:`peel` finds there, where that is known.

    Raises:
        RecipeError: the activation is that of another loss.
    """
    peels, end = LOSSES[loss.name].peels, end or peel(model, output)
    rank = end.rank if end.activation in ("softmax", "log-softmax") else None
    if rank is not None and end.axis != loss.axis_of_classes(rank):
        end = Logits(output)  # probabilities of something else
    if peels and end.activation is not None and end.activation not in peels:
        better = next(name for name, spec in LOSSES.items() if end.activation in spec.peels)
        raise RecipeError(
            f"{loss.name} reads logits, but the output is behind a {end.activation}",
            where=f"output {output!r}",
            fix=f'set loss.name = "{better}", which reads the value in front of it',
        )
    return value_of(model.graph, end.value if peels else output)


def _scores(model: ir.Model, new: Nodes, loss: recipe.Loss, output: str, end: Logits) -> ir.Value:
    """The value that *loss* reads, in float32 and with its shape."""
    declared, value = value_of(model.graph, output), value_read(model, loss, output, end)
    shape = shape_of(model, value, declared)
    dtype = value.dtype or declared.dtype
    if shape is None or dtype not in _FLOATS:
        kind = f"{dtype.name.lower() if dtype else 'of unknown type'}, {'rank unknown' if shape is None else shape}"
        raise RecipeError(
            f"{loss.name} needs floating-point scores of a known rank, but the output is {kind}",
            where=f"output {output!r}",
            fix="name the output that holds the scores as loss.output; if it is this one, export the model with shapes",
        )
    if dtype != ir.DataType.FLOAT:
        value = new.Cast(value, to=ir.DataType.FLOAT.value)
    value.shape = shape
    return _in_order(new, value, loss, output)


def _in_order(new: Nodes, scores: ir.Value, loss: recipe.Loss, output: str) -> ir.Value:
    """*scores* as the formula wants them: classes on axis 1, or ``[T, N, C]`` for ctc."""
    assert scores.shape is not None
    rank = scores.shape.rank()
    if loss.name == "ctc":
        classes, time = loss.axis_of_classes(rank), loss.time_axis
        if rank != 3 or classes == time:
            raise RecipeError(
                f"ctc needs scores of three axes, but here they are {scores.shape}, with the classes on axis {classes} "
                f"and the frames on axis {time}",
                where=f"output {output!r}",
                fix="name another output, or set loss.time_axis and loss.class_axis",
            )
        order = [time, 3 - classes - time, classes]
    elif loss.name == "cross-entropy" and rank > 1:
        classes = loss.axis_of_classes(rank)
        if classes == 0:
            raise RecipeError(
                "axis 0 is that of the examples, not of class scores",
                where=f"recipe, loss.class_axis = {loss.class_axis}, output {output!r} of {rank} axes",
                fix="give the axis of the scores, as 1 or -1",
            )
        order = [0, classes, *(axis for axis in range(1, rank) if axis != classes)]
    else:
        return scores
    return scores if order == sorted(order) else new.Transpose(scores, perm=order)
