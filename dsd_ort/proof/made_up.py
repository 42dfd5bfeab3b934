"""One batch to check with: real examples, or made-up input that runs in plain inference, with labels that fit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.data import Batches, open_data
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.graph import signature
from dsd_ort.graph.evaluation import Evaluation
from dsd_ort.model.source import Source
from dsd_ort.recipe import Loss, Recipe
from dsd_ort.rewrite.flow import cut_to

Array = npt.NDArray[Any]

LONG = 100_000
"""Elements of all inputs, from which on one example has to do."""


class Batch(NamedTuple):
    """Inputs and labels by name, and where they are from."""

    arrays: dict[str, Array]
    origin: str
    notes: tuple[str, ...] = ()


def batch(
    source: Source,
    shipped: Evaluation,
    recipe: Recipe,
    data: Any,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    threads: int,
    weights: Mapping[str, Array] | None = None,
    long: bool = False,
) -> Batch:
    """The first batch of *data*, or, if that is None, made-up input; *shapes* are those that the user wants.

    Input that is made up runs with *weights*, by default those of the file, and is short or, if so wished, *long*: of
    a window of a recording nothing may be left.

    Raises:
        DataError: no input that was tried runs, or the data does not fit.
    """
    if data is not None:
        opened = open_data(data, [*shipped.inputs, *shipped.labels], recipe.data)
        first = next(iter(Batches(opened, recipe.batch_size, shuffle=False)))
        return Batch(dict(first), str(opened.where if hasattr(opened, "where") else "the data"))
    model = ir.from_proto(shipped.graph)
    limits, lengths = signature.index_limits(model.graph), signature.lengths(model.graph)
    run = _Inference(_without_loss(model, shipped), source, shipped, threads, weights)
    failures: list[str] = []
    candidates = signature.candidates(shipped.inputs, shapes)
    for chosen in _long_first(candidates) if long else _short_first(candidates):
        for cautious in (False, True):
            inputs = signature.values(shipped.inputs, chosen, limits, lengths, cautious=cautious)
            outputs = run(inputs, failures)
            if outputs is not None:
                read = {f.name: outputs[_output_of(f, shipped)] for f in shipped.labels}
                labels = {f.name: _label(f, _loss_of(f, recipe), read[f.name]) for f in shipped.labels}
                return Batch({**_within(inputs, recipe, read), **labels}, "made up")
    reason = failures[0] if failures else "there are no sizes to try"
    raise DataError(
        f"none of the made-up inputs runs in plain inference: {reason}",
        where=f"{len(failures)} tries, the last one: {failures[-1]}" if failures else None,
        fix="give sizes with --shape NAME=2x3x224x224, or real examples with --data",
    )


def _short_first(candidates: Iterator[signature.Shapes]) -> Iterator[signature.Shapes]:
    """*candidates*, but of the first two the shorter one first where the first is long: it takes the memory."""
    two = list(itertools.islice(candidates, 2))
    sizes = [*map(_elements, two)]
    return itertools.chain(two[::-1] if sizes[0] > LONG and sizes[-1] < sizes[0] else two, candidates)


def _long_first(candidates: Iterator[signature.Shapes]) -> Iterator[signature.Shapes]:
    """*candidates* from the longest on that is no trouble."""
    known = [shapes for shapes in candidates if _elements(shapes) <= LONG]
    return iter(sorted(known, key=_elements, reverse=True))


def _elements(shapes: signature.Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def _without_loss(model: ir.Model, shipped: Evaluation) -> ir.Model:
    labels = {field.name for field in shipped.labels}
    cut_to(model, shipped.outputs)
    model.graph.inputs[:] = [value for value in model.graph.inputs if value.name not in labels]
    return model


def others(session: Any, arrays: Mapping[str, Array], recipe: Recipe) -> dict[str, Array]:
    """All inputs of *session*: those of *arrays*, and for inputs that training leaves out what the recipe fixes, or
    anything of sizes that fit.
    """
    fixed = {name: entry.shape for name, entry in recipe.input.items() if entry.shape is not None}
    fields = [Field(v.name, _dtype(v.type), tuple(fixed.get(v.name, v.shape))) for v in session.get_inputs()]
    shapes = next(signature.candidates(fields, {f.name: arrays[f.name].shape for f in fields if f.name in arrays}))
    feeds = {k: np.asarray(v) for k, v in signature.values(fields, shapes, {}, cautious=True).items()}
    for name, entry in recipe.input.items():
        if name in feeds and entry.value is not None:
            feeds[name] = np.array(np.broadcast_to(np.asarray(entry.value, feeds[name].dtype), shapes[name]))
    return {name: arrays.get(name, value) for name, value in feeds.items()}


def _dtype(kind: str) -> str:
    """NumPy's name of ``tensor(float)``."""
    return str(ir.DataType[kind.removeprefix("tensor(").removesuffix(")").upper()].numpy().name)


class _Inference:
    """The model in plain inference."""

    def __init__(
        self,
        model: ir.Model,
        source: Source,
        shipped: Evaluation,
        threads: int,
        weights: Mapping[str, Array] | None,
    ) -> None:
        self.outputs = list(shipped.outputs)
        self.session = runtime.session(ir.to_proto(model), runtime.session_options(threads), where="the model")
        wanted = {value.name for value in self.session.get_inputs()}
        own = [p.name for p in (*source.parameters, *source.statistics) if p.name in wanted]
        self.weights = {name: source.start(name) if weights is None else weights[name] for name in own}
        self.wanted = wanted
        self.hides = any(source.kept(p.name).size for p in source.parameters)
        """Whether infinite entries of the model may make outputs infinite."""

    def __call__(self, inputs: Mapping[str, Array], failures: list[str]) -> dict[str, Array] | None:
        """The outputs that losses read, or None, with the reason in *failures*."""
        sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
        try:
            feeds = {**self.weights, **{k: v for k, v in inputs.items() if k in self.wanted}}
            found = dict(zip(self.outputs, self.session.run(self.outputs, feeds), strict=True))
        except Exception as error:
            failures.append(f"{sizes}: {runtime.native_message(error)}")
            return None
        for name, value in found.items():
            if not value.size or not (~np.isnan(value) if self.hides else np.isfinite(value)).all():
                failures.append(f"{sizes}: the output {name!r} is {'not finite' if value.size else 'empty'}")
                return None
        return found


def _output_of(label: Field, shipped: Evaluation) -> str:
    """The first where the label is none of one output only, as in a training graph with several."""
    return next((output for output, name in shipped.outputs.items() if name == label.name), next(iter(shipped.outputs)))


def _label(field: Field, loss: Loss, output: Array) -> Array:
    """A target near the output, or classes, or yes and no: what the loss of this label wants."""
    random = np.random.default_rng(1)
    if field.classes is not None:
        shape = _label_shape(loss, output)
        values = random.integers(0, field.classes, shape)
        if field.blank is None:
            values = _shown(values, np.moveaxis(output, loss.axis_of_classes(output.ndim), -1))
        else:  # the classes that are left
            values = (field.blank + 1 + values % (field.classes - 1)) % field.classes
        return values.astype(field.dtype)
    spread = float(output.std()) or 1.0
    if output.min() >= 0 and output.max() <= 1:
        return np.asarray(random.random(output.shape), field.dtype)
    return np.asarray(output + spread * random.standard_normal(output.shape), field.dtype)


def _shown(labels: Array, scores: Array) -> Array:
    """*labels*, but the likeliest class where ``scores[…, classes]`` hide the drawn one: its loss is infinite."""
    of_labels = np.take_along_axis(scores, labels[..., None], -1)[..., 0]
    are_probabilities = scores.min() >= 0 and scores.max() <= 1
    return np.where(np.isneginf(of_labels) | (are_probabilities & (of_labels == 0)), scores.argmax(-1), labels)


def _label_shape(loss: Loss, output: Array) -> tuple[int, ...]:
    """That of the output without its classes; for ctc as many labels as fit into a third of the frames."""
    classes = loss.axis_of_classes(output.ndim)
    if loss.name == "ctc":
        return output.shape[3 - classes - loss.time_axis], max(1, output.shape[loss.time_axis] // 3)
    return tuple(size for axis, size in enumerate(output.shape) if axis != classes)


def _loss_of(label: Field, recipe: Recipe) -> Loss:
    """The first that reads the label; a training graph brings its own, whose classes are on axis 1."""
    return next((loss for loss in recipe.losses if loss.label == label.name), Loss())


def _within(inputs: Mapping[str, Array], recipe: Recipe, read: Mapping[str, Array]) -> dict[str, Array]:
    """*inputs* with a ctc's lengths no greater than the frames of the output *read* under its label: a network may have
    fewer of them than it was given.
    """
    found = dict(inputs)
    for loss in recipe.losses:
        if loss.lengths in found and loss.label in read:
            found[loss.lengths] = np.minimum(found[loss.lengths], read[loss.label].shape[loss.time_axis])
    return found
