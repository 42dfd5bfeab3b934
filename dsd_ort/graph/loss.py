"""Losses behind a model's outputs: label inputs, and one scalar output that is the weighted sum of all losses.

With logits x, class label y, target t, class weights ω (1 by default), label smoothing ε over C classes, each a mean
as PyTorch's ``reduction="mean"``::

    cross-entropy    Σᵢ [(1 - ε)·ω_y·(-log pᵢ_y) + ε/C·Σ_c ω_c·(-log pᵢ_c)] / Σᵢ ω_y,   p = softmax(x) over axis 1,
                     where i runs over the labels that are not ``ignore_index``
    bce-with-logits  mean(log(1 + eˣ) - x·t)
    mse              mean((x - t)²)
    l1               mean(|x - t|)
    huber            mean(½·d²  where |d| ≤ δ, else δ·(|d| - ½·δ)),   d = x - t

Of a batch in which no label counts (all are ignored, or of weight 0), cross-entropy is 0 with gradient 0, where PyTorch
gives NaN: such a batch teaches nothing, but ends no run.

Many exported models end in Softmax, LogSoftmax or Sigmoid.  The losses on logits read the value in front of it
(:func:`~dsd_ort.graph.logits.peel`), and the model keeps it; mse, l1 and huber read the output as it is.

Requires opset 13 or later.  Ensures that ONNX Runtime differentiates every node added here rightly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from dsd_ort import recipe
from dsd_ort.errors import RecipeError, nearest
from dsd_ort.fields import Field
from dsd_ort.graph.logits import Logits, peel, shape_of, value_of

_FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}


class Attached(NamedTuple):
    """The name of the graph output that holds the loss, and what the labels are, each label once."""

    loss: str
    labels: list[Field]


def attach(model: ir.Model, losses: Sequence[recipe.Loss], logits: Mapping[str, Logits] | None = None) -> Attached:
    """Adds to *model*, in place, an input for every label and the output ``loss``, ``f32[]``, as its last.

    The output has a number in its name where the model has a value called ``loss`` already.

    Args:
        model: a training or an evaluation graph.
        losses: the recipe's, at least one.
        logits: the outputs that losses may read and where they attach; by default all, and :func:`peel` finds it.

    Raises:
        RecipeError: a loss that names no output or a wrong one, or does not fit its output or another loss's label.
    """
    build = _Builder(model.graph)
    labels: dict[str, tuple[Field, ir.Value]] = {}
    terms = []
    for loss in losses:
        _refuse_foreign_options(loss)
        output = output_of(model, loss, logits)
        scores = _scores(model, build, loss, output, logits[output] if logits else peel(model, output))
        field = _label(loss, output, scores)
        if loss.label in labels:
            field, label = _common_label(labels[loss.label][0], field), labels[loss.label][1]
        else:
            label = _add_label(build, field)
        labels[loss.label] = field, label
        term = LOSSES[loss.name].build(build, scores, label, loss)
        terms.append(term if loss.weight == 1 else build("Mul", term, build.constant(loss.weight)))
    total = reduce(lambda a, b: build("Add", a, b), terms)
    total.name, total.type, total.shape = build.free("loss"), ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    model.graph.outputs.append(total)
    return Attached(total.name, [field for field, _ in labels.values()])


def output_of(model: ir.Model, loss: recipe.Loss, outputs: Iterable[str] | None = None) -> str:
    """The name of the output that *loss* reads, among *outputs* (by default the model's).

    Raises:
        RecipeError: there is no such output, or several and the loss names none.
    """
    names = [str(value.name) for value in model.graph.outputs] if outputs is None else list(outputs)
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


class _Builder:
    """Appends nodes to a graph under names that are free in it: ``build("Sub", x, t)`` is the difference."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        values = [*graph.inputs, *graph.initializers.values()]
        for inner in graph.subgraphs():
            values += [*inner.inputs, *inner.initializers.values()]
        for node in graph.all_nodes():
            values += node.outputs
        self._taken = {value.name for value in values}

    def __call__(self, operator: str, *inputs: ir.Value, outputs: int = 1, **attributes: Any) -> ir.Value:
        """The new node's first output."""
        name = self.free(f"loss/{operator}")
        node = ir.node(operator, inputs, attributes, num_outputs=outputs, name=name)
        for i, value in enumerate(node.outputs):
            value.name = name if i == 0 else self.free(f"{name}/{i}")
        self.graph.append(node)
        return node.outputs[0]

    def constant(self, value: Any, dtype: Any = np.float32) -> ir.Value:
        return self("Constant", value=ir.tensor(np.asarray(value, dtype)))

    def free(self, name: str) -> str:
        """*name*, with a number behind it if it is taken; taken from now on."""
        names = (name if i == 0 else f"{name}_{i}" for i in range(len(self._taken) + 1))
        chosen = next(n for n in names if n not in self._taken)
        self._taken.add(chosen)
        return chosen


def _cross_entropy(build: _Builder, x: ir.Value, y: ir.Value, loss: recipe.Loss) -> ir.Value:
    if loss.label_smoothing:
        return _smoothed_cross_entropy(build, x, y, loss)
    weights = [build.constant(loss.class_weights)] if loss.class_weights is not None else []
    ignored = {} if loss.ignore_index is None else {"ignore_index": loss.ignore_index}
    # The gradient is computed from the second output, log p.
    return build("SoftmaxCrossEntropyLoss", x, y, *weights, outputs=2, reduction="mean", **ignored)


def _smoothed_cross_entropy(build: _Builder, x: ir.Value, y: ir.Value, loss: recipe.Loss) -> ir.Value:
    """-Σ q·log p / Σ ω_y, where q = (1 - ε)·ω_y·[c = y] + ε/C·ω_c, and 0 where y is ignored."""
    assert x.shape is not None and isinstance(x.shape[1], int), "checked with the label"
    classes, smoothing = x.shape[1], loss.label_smoothing
    hit = build("OneHot", y, build.constant(classes, np.int64), build.constant([0, 1]), axis=1)
    spread = np.full([classes] + [1] * (x.shape.rank() - 2), smoothing / classes)
    if loss.class_weights is not None:
        weights = np.reshape(loss.class_weights, spread.shape)
        hit, spread = build("Mul", hit, build.constant(weights)), spread * weights
    target = build("Add", build("Mul", hit, build.constant(1 - smoothing)), build.constant(spread))
    if loss.ignore_index is not None:
        ignored = build("Equal", y, build.constant(loss.ignore_index, np.int64))
        counts = build("Cast", build("Not", ignored), to=ir.DataType.FLOAT.value)
        counts = build("Unsqueeze", counts, build.constant([1], np.int64))
        hit, target = build("Mul", hit, counts), build("Mul", target, counts)
    likelihood = build("ReduceSum", build("Mul", target, build("LogSoftmax", x, axis=1)), keepdims=0)
    total = build("ReduceSum", hit, keepdims=0)
    # Over infinity, a batch without labels that count has loss and gradient 0, as from the fused operator.
    none = build("Equal", total, build.constant(0))
    total = build("Where", none, build.constant(np.inf), total)
    return build("Neg", build("Div", likelihood, total))


def _bce_with_logits(build: _Builder, x: ir.Value, t: ir.Value, loss: recipe.Loss) -> ir.Value:
    """log(1 + eˣ) = m + log(eˣ⁻ᵐ + e⁻ᵐ) with m = max(x, 0): no power exceeds 1.

    The derivative by m is 0 everywhere, so the kink of m at x = 0 does no harm; the usual form in |x| has slope 0
    there, where it should be ½.
    """
    m = build("Relu", x)
    powers = build("Add", build("Exp", build("Sub", x, m)), build("Exp", build("Neg", m)))
    softplus = build("Add", m, build("Log", powers))
    return _mean(build, build("Sub", softplus, build("Mul", x, t)))


def _mse(build: _Builder, x: ir.Value, t: ir.Value, loss: recipe.Loss) -> ir.Value:
    return _mean(build, build("Pow", build("Sub", x, t), build.constant(2)))


def _l1(build: _Builder, x: ir.Value, t: ir.Value, loss: recipe.Loss) -> ir.Value:
    return _mean(build, build("Abs", build("Sub", x, t)))


def _huber(build: _Builder, x: ir.Value, t: ir.Value, loss: recipe.Loss) -> ir.Value:
    """c·(d - ½·c), where c is d clipped to [-δ, δ]."""
    d = build("Sub", x, t)
    c = build("Clip", d, build.constant(-loss.delta), build.constant(loss.delta))
    return _mean(build, build("Mul", c, build("Sub", d, build("Mul", c, build.constant(0.5)))))


def _mean(build: _Builder, value: ir.Value) -> ir.Value:
    return build("ReduceMean", value, keepdims=0)


class LossSpec(NamedTuple):
    """How a loss is built, from which activations it reads the logits, and which of the recipe's options it has."""

    build: Callable[[_Builder, ir.Value, ir.Value, recipe.Loss], ir.Value]
    peels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


LOSSES: dict[str, LossSpec] = {
    "cross-entropy": LossSpec(
        _cross_entropy, ("softmax", "log-softmax"), ("label_smoothing", "ignore_index", "class_weights")
    ),
    "bce-with-logits": LossSpec(_bce_with_logits, ("sigmoid",)),
    "mse": LossSpec(_mse),
    "l1": LossSpec(_l1),
    "huber": LossSpec(_huber, options=("delta",)),
}


def _refuse_foreign_options(loss: recipe.Loss) -> None:
    for option in ("label_smoothing", "ignore_index", "class_weights", "delta"):
        if option not in LOSSES[loss.name].options and getattr(loss, option) != getattr(recipe.Loss(), option):
            raise RecipeError(f"{loss.name} has no {option}", where="recipe, loss", fix=f"remove {option}")


def _scores(model: ir.Model, build: _Builder, loss: recipe.Loss, output: str, end: Logits) -> ir.Value:
    """The value that *loss* reads, in float32 and with its shape."""
    peels = LOSSES[loss.name].peels
    if peels and end.activation is not None and end.activation not in peels:
        better = next(name for name, spec in LOSSES.items() if end.activation in spec.peels)
        raise RecipeError(
            f"{loss.name} reads logits, but the output is behind a {end.activation}",
            where=f"output {output!r}",
            fix=f'set loss.name = "{better}", which reads the value in front of it',
        )
    declared = value_of(model.graph, output)
    value = value_of(model.graph, end.value) if peels else declared
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
        value = build("Cast", value, to=ir.DataType.FLOAT.value)
        value.type = ir.TensorType(ir.DataType.FLOAT)
    value.shape = shape
    return value


def _label(loss: recipe.Loss, output: str, scores: ir.Value) -> Field:
    """What the data must have under the loss's label."""
    assert scores.shape is not None, "_scores has seen to it"
    dims = tuple(dim if isinstance(dim, int) else dim.value for dim in scores.shape)
    if loss.name != "cross-entropy":
        return Field(loss.label, "float32", dims, label=True)
    where = f"output {output!r}, of shape [{', '.join(str(d or '?') for d in dims)}]"
    if len(dims) < 2 or dims[1] == 1:
        raise RecipeError(
            "cross-entropy needs scores of shape [batch, classes, …] for two classes or more",
            where=where,
            fix='use "bce-with-logits" for yes or no, or "mse" for a value',
        )
    classes = dims[1]
    if not isinstance(classes, int):  # labels could not be checked, and a wrong one ends the process
        raise RecipeError(
            "the number of classes is unknown", where=where, fix="export the model with a class axis of static size"
        )
    if loss.class_weights is not None and len(loss.class_weights) != classes:
        raise RecipeError(
            f"class_weights has {len(loss.class_weights)} entries for {classes} classes",
            where=where,
            fix="give one weight a class",
        )
    return Field(loss.label, "int64", (dims[0], *dims[2:]), label=True, classes=classes, ignore_index=loss.ignore_index)


def _common_label(a: Field, b: Field) -> Field:
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


def _add_label(build: _Builder, field: Field) -> ir.Value:
    """The graph input that holds the label, under exactly its name: it is the data's."""
    if build.free(field.name) != field.name:
        raise RecipeError(
            f"the model has a value called {field.name!r} itself",
            where="recipe, loss.label",
            fix=f'give the label another name, as label = "{field.name}_target", in the recipe and in the data',
        )
    label = ir.val(field.name, ir.DataType.from_numpy(np.dtype(field.dtype)), field.shape)
    build.graph.inputs.append(label)
    return label
