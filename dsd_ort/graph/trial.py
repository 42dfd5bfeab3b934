"""A model on made-up input, before anybody gives data: does it take a batch, and what comes out?

Inputs have the likeliest of :func:`~dsd_ort.graph.signature.candidates` that runs.  Some of ONNX Runtime's kernels end
the process where a window has no place, so sizes are tried only where shape inference finds room for every window.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dsd_ort import runtime
from dsd_ort.errors import DataError, ModelError
from dsd_ort.fields import Field
from dsd_ort.graph import signature
from dsd_ort.graph.inference import to_inference
from dsd_ort.graph.legalize import precision, to_supported
from dsd_ort.model.source import Source
from dsd_ort.rewrite.shapes import dims_of, sizes_of

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

_SIZES = 6
"""How many sizes of axes other than the batch are tried."""
_WINDOWS = {"Conv", "AveragePool", "MaxPool", "LpPool", "ConvInteger", "QLinearConv"}


class Trial:
    """A session of *model*, a training copy whose inputs have the batch first, with batch norm and dropout as in
    evaluation.

    Args:
        model: stays as it is.
        source: it is a copy of this one.
        weights: by default zeros, which take no memory: they show shapes.

    Raises:
        ModelError: ONNX Runtime does not run it at all.
        DataError: an input is no tensor.
    """

    def __init__(self, model: ir.Model, source: Source, weights: Arrays | None = None) -> None:
        own = {p.name: p for p in (*source.parameters, *source.statistics)}
        self.model = runnable(model)
        inputs = [value for value in self.model.graph.inputs if value.name not in own]
        self.fields = [_field(value) for value in inputs]
        self.weights = {name: np.zeros(p.shape, np.float32) for name, p in own.items()} if weights is None else weights
        self.session = runtime.session(ir.to_proto(self.model), runtime.session_options(0))
        self.limits, self.lengths = signature.index_limits(self.model.graph), signature.lengths(self.model.graph)
        self.sizes: dict[str, tuple[int, ...]] = {}
        """Input → its axes but the batch, as they are since a batch ran."""
        self.error = ""
        """Why the last batch did not run, and the node that it did not pass."""
        self.where = ""

    def __call__(self, batch: int) -> dict[str, Array] | None:
        """The outputs for *batch* made-up examples; None where none that was tried runs."""
        return next((found for sizes in self._likely() if (found := self.run(self.made_up(batch, sizes)))), None)

    def made_up(self, batch: int, sizes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Array]:
        """Inputs for *batch* examples, where the file does not fix their number, of *sizes* beside it, by default those
        that ran.
        """
        sizes = self.sizes if sizes is None else sizes
        firsts = {f.name: first if f.shape and isinstance(first := f.shape[0], int) else batch for f in self.fields}
        shapes = {f.name: (firsts[f.name], *sizes[f.name]) if f.shape else () for f in self.fields}
        return signature.values(self.fields, shapes, self.limits, self.lengths, cautious=True)

    def run(self, inputs: Arrays) -> dict[str, Array] | None:
        """The outputs for *inputs*; None where they do not run."""
        if not self._has_room(inputs):
            return None
        names = [value.name for value in self.session.get_outputs()]
        known = {value.name for value in self.session.get_inputs()}
        feeds = {name: array for name, array in {**self.weights, **inputs}.items() if name in known}
        try:
            found = dict(zip(names, self.session.run(None, feeds), strict=True))
        except Exception as error:  # of native types, which are private
            self.error, self.where = runtime.native_message(error), runtime.node_of(error)
            return None
        self.sizes = {name: array.shape[1:] for name, array in inputs.items()}
        return found

    def _likely(self) -> list[dict[str, tuple[int, ...]]]:
        if self.sizes:
            return [self.sizes]
        one = [Field(f.name, f.dtype, (1, *f.shape[1:]) if f.shape else ()) for f in self.fields]
        found = itertools.islice(signature.candidates(one, {}), _SIZES)
        return [{name: shape[1:] for name, shape in shapes.items()} for shapes in found]

    def _has_room(self, inputs: Arrays) -> bool:
        windows = [node for node in self.model.graph.all_nodes() if node.op_type in _WINDOWS]
        if not windows or all(isinstance(size, int) for field in self.fields for size in field.shape[1:]):
            return True  # what the file fixes, the file is made for
        model = self.model.clone()
        for value in model.graph.inputs:
            if value.name in inputs:
                value.shape = ir.Shape(inputs[str(value.name)].shape)
        for node in model.graph.all_nodes():
            for output in node.outputs:
                output.shape = None
        ShapeInferencePass(check_type=False, strict_mode=False)(model)
        places = (sizes_of(node.outputs[0]) for node in model.graph.all_nodes() if node.op_type in _WINDOWS)
        return all(sizes is not None and min(sizes) > 0 for sizes in places)


def opened(model: ir.Model, source: Source, weights: Arrays | None = None) -> Trial | None:
    """The trial of *model*; None where ONNX Runtime cannot run it, which is told elsewhere."""
    try:
        return Trial(model, source, weights)
    except (ModelError, DataError):
        return None


def runnable(model: ir.Model) -> ir.Model:
    """A copy of *model* in float32, with batch norm and dropout as in evaluation."""
    model = to_supported(model.clone())
    if precision.other_types(model):
        precision.to_float32(model)
    to_inference(model)
    return model


def weights_of(source: Source) -> dict[str, Array]:
    """Weights that show what depends on what: the file's, but random ones where all are equal."""
    random = np.random.default_rng(1)
    weights: dict[str, Array] = {s.name: source.start(s.name) for s in source.statistics}
    for parameter in source.parameters:
        value = source.start(parameter.name)
        if parameter.prunable and np.ptp(value) == 0:
            fan_in = max(1, parameter.size // parameter.shape[0])
            value = (random.standard_normal(parameter.shape) / np.sqrt(fan_in)).astype(np.float32)
        weights[parameter.name] = value
    return weights


def drawn(trial: Trial, batch: int) -> dict[str, Array]:
    """Random inputs for *batch* examples, no two of which are alike, of the sizes that ran."""
    random = np.random.default_rng(0)
    found = {}
    for name, array in trial.made_up(batch).items():
        numbers = random.standard_normal(array.shape)
        found[name] = (numbers if array.dtype.kind == "f" else numbers > 0).astype(array.dtype)
    return found


def following(some: Arrays, more: Arrays, few: int, many: int) -> dict[str, int]:
    """Output → the axis that has *few* entries in *some*, of as many examples, and *many* in *more*; the first of
    several.
    """
    found = {}
    for name, array in some.items():
        sizes = zip(array.shape, more[name].shape, strict=False)
        if axes := [axis for axis, pair in enumerate(sizes) if pair == (few, many)]:
            found[name] = axes[0]
    return found


def agree(whole: Arrays | None, parts: Sequence[Arrays | None], axes: Mapping[str, int]) -> bool:
    """Whether the outputs of a batch are those of its *parts*, behind each other along their *axes*, or the first."""
    if whole is None or any(part is None for part in parts):
        return False
    for name, array in whole.items():
        if array.ndim == 0:
            return False
        expected = np.concatenate([part[name] for part in parts if part is not None], axes.get(name, 0))
        scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0)) or 1.0
        if array.shape != expected.shape or not np.allclose(array, expected, 1e-3, 1e-4 * scale, equal_nan=True):
            return False
    return True


def _field(value: ir.Value) -> Field:
    dims = dims_of(value)
    if not isinstance(value.type, ir.TensorType) or value.dtype is None or dims is None:
        raise DataError(f"the input {value.name!r} is no tensor of a known rank")
    return Field(str(value.name), value.dtype.numpy().name, dims)
