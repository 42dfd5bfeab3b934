"""The model as a recipe wants it: with the outputs that losses read, inputs that are fixed, and a batch of any size.

What is trained and what is measured both begin as this model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.errors import UnsupportedError
from dsd_ort.graph import batch_size
from dsd_ort.graph import loss as losses
from dsd_ort.graph.ends import expose
from dsd_ort.graph.legalize import precision, to_supported
from dsd_ort.graph.training_copy import training_copy
from dsd_ort.model import inputs
from dsd_ort.model.source import Source
from dsd_ort.recipe import Recipe
from dsd_ort.rewrite.fold import fold

Array = npt.NDArray[Any]


def adapted(source: Source, recipe: Recipe) -> ir.Model:
    """A training copy of *source* in which only what the recipe's losses need is left.

    Raises:
        RecipeError: a loss or an input that the model does not have, or that does not fit.
        UnsupportedError: a batch size that is fixed and is not the recipe's.
    """
    model = training_copy(source)
    own = {parameter.name for parameter in (*source.parameters, *source.statistics)}
    inputs.fix(model, recipe.input, own)
    expose(model, recipe.losses, own)
    inputs.keep_only(model, set(losses.values_read(model, recipe.losses)), own)
    return _with_any_batch(model, source, recipe, own)


def _with_any_batch(model: ir.Model, source: Source, recipe: Recipe, own: set[str]) -> ir.Model:
    """*model* with a symbolic batch, where its file fixes it; as it is, where that cannot be and the recipe's is this.

    The result is compared with the file: the weights are read for it, and three batches computed.
    """
    data = [value for value in model.graph.inputs if value.name not in own]
    size = batch_size.fixed_batch(data)
    if size is None:
        return model
    static = model.clone()
    try:
        fold(model, shapes=False)
        model = to_supported(model)
        batch_size.free(model, [value for value in model.graph.inputs if value.name not in own], size)
        weights = _weights(source)
        if not _same(static, model, [v for v in static.graph.inputs if v.name not in own], size, weights):
            raise UnsupportedError(
                f"the batch size is fixed at {size}, and with another the model computes something else",
                where=str(source.path),
                fix=batch_size.fix(size),
            )
    except UnsupportedError:
        if recipe.batch_size == size:
            return static
        raise
    return model


def _weights(source: Source) -> dict[str, Array]:
    """The weights to compare with: the file's, but random ones where all are equal, as such show no difference."""
    random = np.random.default_rng(1)
    weights: dict[str, Array] = {s.name: source.start(s.name) for s in source.statistics}
    for parameter in source.parameters:
        value = source.start(parameter.name)
        if parameter.prunable and np.ptp(value) == 0:
            fan_in = max(1, parameter.size // parameter.shape[0])
            value = (random.standard_normal(parameter.shape) / np.sqrt(fan_in)).astype(np.float32)
        weights[parameter.name] = value
    return weights


def _same(static: ir.Model, freed: ir.Model, inputs: Sequence[ir.Value], k: int, weights: Mapping[str, Array]) -> bool:
    """Whether *freed* computes from 2 · k examples what *static* does from twice k, on random numbers.

    Args:
        static: the model with the batch size k.
        freed: what :func:`~dsd_ort.graph.batch_size.free` made of it.
        inputs: the data inputs of *static*.
        k: its batch size.
        weights: its other inputs.
    """
    random = np.random.default_rng(0)
    data = {}
    for value in inputs:
        assert value.shape is not None and value.dtype is not None
        numbers = random.standard_normal([2 * k, *(n if isinstance(n, int) else 2 for n in value.shape[1:])])
        dtype = value.dtype.numpy()
        data[str(value.name)] = (numbers if value.dtype.is_floating_point() else numbers > 0).astype(dtype)
    halves = [{name: array[part] for name, array in data.items()} for part in (slice(k), slice(k, None))]
    try:
        once = [_run(static, {**half, **weights}) for half in halves]
        both = _run(freed, {**data, **weights})
    except Exception:  # ONNX Runtime's, of many kinds: what does not run is not the same
        return False
    for whole, *parts in zip(both, *once, strict=True):
        expected = np.concatenate(parts)
        scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0)) or 1.0
        if whole.shape != expected.shape or not np.allclose(whole, expected, 1e-3, 1e-4 * scale, equal_nan=True):
            return False
    return True


def _run(model: ir.Model, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of *model*, in float32, with batch norm and dropout as in evaluation."""
    model = to_supported(model.clone())
    if precision.other_types(model):
        precision.to_float32(model)
    for node in list(model.graph.all_nodes()):
        if node.op_type == "BatchNormalization" and node.attributes.get_int("training_mode", 0) == 1:
            del node.attributes["training_mode"]
            node.resize_outputs(1)
        if node.op_type == "Dropout" and len(node.inputs) > 2:
            node.replace_input_with(2, None)
    session = runtime.session(ir.to_proto(model), runtime.session_options(0))
    known = {value.name for value in session.get_inputs()}
    outputs: list[Array] = session.run(None, {name: array for name, array in feeds.items() if name in known})
    return outputs
