"""One batch to check with: real examples, or made-up input that runs in plain inference, with labels that fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dsd_ort import runtime
from dsd_ort.data import Batches, open_data
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.graph.prepare import Evaluation
from dsd_ort.graph.source import Source
from dsd_ort.proof import signature
from dsd_ort.recipe import Recipe

Array = npt.NDArray[Any]


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
) -> Batch:
    """The first batch of *data*, or, if that is None, made-up input; *shapes* are those that the user wants.

    Input that is made up runs with *weights*, by default those of the file.

    Raises:
        DataError: no input that was tried runs, or the data does not fit.
    """
    if data is not None:
        opened = open_data(data, [*shipped.inputs, *shipped.labels], recipe.data)
        first = next(iter(Batches(opened, recipe.batch_size, shuffle=False)))
        return Batch(dict(first), str(opened.where if hasattr(opened, "where") else "the data"))
    model = _without_loss(shipped)
    run = _Inference(model, source, shipped, threads, weights)
    limits = signature.index_limits(model.graph)
    failures: list[str] = []
    for chosen in signature.candidates(shipped.inputs, shapes):
        for cautious in (False, True):
            inputs = signature.values(shipped.inputs, chosen, limits, cautious=cautious)
            outputs = run(inputs, failures)
            if outputs is not None:
                labels = {f.name: _label(f, outputs[_output_of(f, shipped)]) for f in shipped.labels}
                return Batch({**inputs, **labels}, "made up")
    reason = failures[0] if failures else "there are no sizes to try"
    raise DataError(
        f"none of the made-up inputs runs in plain inference: {reason}",
        where=f"{len(failures)} tries, the last one: {failures[-1]}" if failures else None,
        fix="give sizes with --shape NAME=2x3x224x224, or real examples with --data",
    )


def _without_loss(shipped: Evaluation) -> ir.Model:
    model = ir.from_proto(shipped.graph)
    graph, labels = model.graph, {field.name for field in shipped.labels}
    graph.outputs[:] = [value for value in graph.outputs if value.name in shipped.outputs]
    RemoveUnusedNodesPass()(model)
    graph.inputs[:] = [value for value in graph.inputs if value.name not in labels]
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
            feeds[name] = np.ascontiguousarray(
                np.broadcast_to(np.asarray(entry.value, feeds[name].dtype), shapes[name])
            )
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
        self.weights = {name: source.value(name) if weights is None else weights[name] for name in own}
        self.wanted = wanted

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
            if not value.size or not np.isfinite(value).all():
                failures.append(f"{sizes}: the output {name!r} is {'not finite' if value.size else 'empty'}")
                return None
        return found


def _output_of(label: Field, shipped: Evaluation) -> str:
    """The first where the label is none of one output only, as in a training graph with several."""
    return next((output for output, name in shipped.outputs.items() if name == label.name), next(iter(shipped.outputs)))


def _label(field: Field, output: Array) -> Array:
    """A target near the output, or classes, or yes and no: what the loss of this label wants."""
    random = np.random.default_rng(1)
    if field.classes is not None:
        shape = (output.shape[0], *output.shape[2:])
        return random.integers(0, field.classes, shape).astype(field.dtype)
    spread = float(output.std()) or 1.0
    if output.min() >= 0 and output.max() <= 1:
        return np.asarray(random.random(output.shape), field.dtype)
    return np.asarray(output + spread * random.standard_normal(output.shape), field.dtype)
