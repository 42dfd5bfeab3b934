"""What fits a model where nobody says: which output a loss reads, what kind it is, and the size of a batch."""

from __future__ import annotations

import msgspec
import onnx_ir as ir

from dsd_ort.errors import RecipeError, nearest
from dsd_ort.graph import batch_axis
from dsd_ort.graph.ends import in_front, values
from dsd_ort.graph.legalize import to_supported
from dsd_ort.graph.logits import peel, shape_of, value_of
from dsd_ort.graph.training_copy import training_copy
from dsd_ort.model import usage
from dsd_ort.model.source import Source
from dsd_ort.recipe import Loss, LossName, Recipe
from dsd_ort.rewrite.flow import sources
from dsd_ort.rewrite.parts import all_values
from dsd_ort.rewrite.shapes import dims_of


def fitting_loss(source: Source, *, name: LossName | None = None, output: str | None = None) -> Loss | tuple[Loss, ...]:
    """A loss for *source*: the one that it is used with, where that is known (:mod:`dsd_ort.model.usage`).

    Otherwise, or by *name* or *output*, another: it reads the floating-point output that depends on the most weights,
    the first of several; where no gradient passes the outputs, what stands in front of them
    (:mod:`dsd_ort.graph.ends`); and is cross-entropy for scores ``[N, C]`` with C ≥ 2, binary cross-entropy behind a
    Sigmoid, and the mean squared error otherwise.

    Args:
        source: the model.
        name: the kind, where it is given.
        output: the output, where it is given, or another floating-point value of the main graph.

    Raises:
        RecipeError: there is no such output, or several values may be meant.
        UnsupportedError: an operator that this ONNX Runtime's opset cannot express.
    """
    return _fitting(training_copy(source), source, name, output)


def _fitting(copy: ir.Model, source: Source, name: LossName | None, output: str | None) -> Loss | tuple[Loss, ...]:
    if name is None and output is None and (known := usage.read(source.path).get("loss")) is not None:
        return msgspec.convert(known, Loss | tuple[Loss, ...])
    model = to_supported(copy)
    names = [str(value.name) for value in model.graph.outputs]
    inner = [str(value.name) for value in values(model.graph)]
    if output is not None and output not in (*names, *inner):
        fix = nearest(output, names) or nearest(output, inner) or f"the outputs are {', '.join(names)}"
        raise RecipeError(f"the model has no output {output!r}", where=str(source.path), fix=fix)
    output = output or _trainable_output(model, source)
    return Loss(name=name or _kind(model, output), output=output, label=_free_label(model))


def fitted(recipe: Recipe, source: Source, *, name: LossName | None = None, output: str | None = None) -> Recipe:
    """*recipe* as it fits *source*: what is known of its use, a loss, and the batch size, if the file fixes one.

    Raises:
        RecipeError, UnsupportedError: see :func:`fitting_loss`.
    """
    graph, copy, used = source.model.graph, training_copy(source), used_as_before(recipe, source)
    shapes = {str(v.name): dims_of(v) or () for v in graph.inputs if v.name not in graph.initializers}
    axes = batch_axis.of_inputs(copy, source, used)
    loss = _fitting(copy, source, name, output)
    sizes = [shape[axes.get(name, 0)] for name, shape in shapes.items() if shape]
    size = next((size for size in sizes if isinstance(size, int) and size > 0), used.batch_size)
    return msgspec.structs.replace(used, loss=loss, batch_size=size)


def used_as_before(recipe: Recipe, source: Source) -> Recipe:
    """*recipe* with what the file beside *source* says of its use."""
    known = usage.read(source.path)
    return Recipe.from_dict({**recipe.to_dict(), **known}, where=str(usage.beside(source.path))) if known else recipe


def _trainable_output(model: ir.Model, source: Source) -> str:
    sizes = {p.name: p.size for p in source.parameters}

    if (front := in_front(model.graph, sizes)) is not None:
        return str(front.name)

    def weights(output: ir.Value) -> int:
        return sum(sizes.get(str(value.name), 0) for value in sources([output]))

    floating = [v for v in model.graph.outputs if v.dtype is None or v.dtype.is_floating_point()]
    return str(max(floating or model.graph.outputs, key=weights).name)


def _kind(model: ir.Model, output: str) -> LossName:
    end = peel(model, output)
    if end.activation == "sigmoid":
        return "bce-with-logits"
    declared = value_of(model.graph, output)
    shape = shape_of(model, value_of(model.graph, end.value), declared)
    if shape is not None and len(shape) == 2 and isinstance(shape[1], int) and shape[1] >= 2:
        return "cross-entropy"
    return "mse"


def _free_label(model: ir.Model) -> str:
    taken = {value.name for value in all_values(model.graph)}
    names = ("label", *(f"label_{i}" for i in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)
