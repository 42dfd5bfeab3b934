"""Labels: what the data must have under the name of each, and the graph inputs that hold them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dsd_ort import recipe
from dsd_ort.errors import RecipeError
from dsd_ort.fields import Field
from dsd_ort.rewrite.names import Names
from dsd_ort.rewrite.shapes import dims_of


def label_of(loss: recipe.Loss, output: str, scores: ir.Value) -> Field:
    """What the data must have under the loss's label."""
    dims = dims_of(scores)
    assert dims is not None, "_scores has seen to it"
    if loss.name not in ("cross-entropy", "ctc"):
        return Field(loss.label, "float32", dims, label=True)
    where = f"output {output!r}, of shape [{', '.join(str(d or '?') for d in dims)}]"
    if loss.name == "ctc":
        return _sequence_label(loss, dims, where)
    if len(dims) < 2 or dims[1] == 1:
        raise RecipeError(
            "cross-entropy needs scores of shape [batch, classes, …] for two classes or more",
            where=where,
            fix='use "bce-with-logits" for yes or no, or "mse" for a value',
        )
    classes = dims[1]
    if not isinstance(classes, int):  # labels could not be checked, and a wrong one ends the process
        raise _unknown_classes(where, last=loss.class_axis is None and isinstance(dims[-1], int))
    if loss.class_weights is not None and len(loss.class_weights) != classes:
        raise RecipeError(
            f"class_weights has {len(loss.class_weights)} entries for {classes} classes",
            where=where,
            fix="give one weight a class",
        )
    return Field(loss.label, "int64", (dims[0], *dims[2:]), label=True, classes=classes, ignore_index=loss.ignore_index)


def _sequence_label(loss: recipe.Loss, dims: tuple[int | str | None, ...], where: str) -> Field:
    """The label of ctc: any number of classes for each example, without the blank, then padding."""
    _, batch, classes = dims
    if not isinstance(classes, int):
        raise _unknown_classes(where, last=False)
    if loss.blank >= classes:
        raise RecipeError(
            f"loss.blank is {loss.blank}, but there are {classes} classes", where=where, fix="count classes from 0"
        )
    padding = -1 if loss.ignore_index is None else loss.ignore_index
    shape = (batch, None)
    return Field(loss.label, "int64", shape, label=True, classes=classes, ignore_index=padding, blank=loss.blank)


def _unknown_classes(where: str, *, last: bool) -> RecipeError:
    """*last*: whether the last axis may be that of the classes."""
    fix = "export the model with a class axis of static size"
    fix = f"if the classes are on the last axis, set loss.class_axis = -1; otherwise {fix}" if last else fix
    return RecipeError("the number of classes is unknown", where=where, fix=fix)


def common_label(a: Field, b: Field) -> Field:
    """The one label that two losses share."""

    def fit(x: int | str | None, y: int | str | None) -> bool:
        return x == y or not (isinstance(x, int) and isinstance(y, int))

    if replace(a, shape=b.shape) != b or len(a.shape) != len(b.shape) or not all(map(fit, a.shape, b.shape)):
        both = (f"{f.dtype} {f.shape}, classes {f.classes}, ignore_index {f.ignore_index}" for f in (a, b))
        raise RecipeError(
            f"two losses cannot share the label {a.name!r}: it would be {' and '.join(both)}",
            where="recipe, loss.label",
            fix="give each loss a label of its own",
        )
    return replace(a, shape=tuple(y if isinstance(y, int) else x for x, y in zip(a.shape, b.shape, strict=True)))


def add_label(graph: ir.Graph, names: Names, field: Field) -> ir.Value:
    """The graph input that holds the label, under exactly its name: it is the data's."""
    if field.name in names.values:
        raise RecipeError(
            f"the model has a value called {field.name!r} itself",
            where="recipe, loss.label",
            fix=f'give the label another name, as label = "{field.name}_target", in the recipe and in the data',
        )
    names.values.add(field.name)
    label = ir.val(field.name, ir.DataType.from_numpy(np.dtype(field.dtype)), field.shape)
    graph.inputs.append(label)
    return label
