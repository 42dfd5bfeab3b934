"""A training graph that somebody else exported: the files of ``onnxruntime.training.artifacts``.

::

    training_model.onnx    (data, labels, weights, gradient buffers, lazy_reset_grad) → loss, and gradients added up
    eval_model.onnx        (data, labels, weights) → loss
    checkpoint             the weights
    optimizer_model.onnx   AdamW or SGD; may be missing

What is done with the graphs stands in :mod:`dsd_ort.graph.exported`.

What ships is the inference model in eval_model.onnx, with the checkpoint's weights in it: eval_model.onnx without the
labels and without what only they reach.  Its output is the last value that all of the loss comes through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from dsd_ort import runtime
from dsd_ort.errors import ModelError, UnsupportedError
from dsd_ort.model import source as source_files
from dsd_ort.model.source import Source
from dsd_ort.recipe import Optimizer, Parameters

TRAINING = "training_model.onnx"
_LARGEST = 1 << 30
"""Bytes of weights: above this, they go to a file of their own, as protobuf ends at 2 GiB."""


@dataclass(frozen=True)
class Artifacts:
    """The files, which share a folder and a prefix of their names."""

    folder: Path
    prefix: str

    @property
    def training(self) -> Path:
        return self.folder / f"{self.prefix}{TRAINING}"

    @property
    def evaluation(self) -> Path:
        return self.folder / f"{self.prefix}eval_model.onnx"

    @property
    def optimizer(self) -> Path:
        return self.folder / f"{self.prefix}optimizer_model.onnx"

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.prefix}checkpoint"

    @property
    def files(self) -> list[Path]:
        """All that exist."""
        return [f for f in (self.training, self.evaluation, self.optimizer, self.checkpoint) if f.exists()]


def find(path: str | Path) -> Artifacts | None:
    """The exported training graph at *path*, its folder or its training_model.onnx; None if it is something else.

    Raises:
        ModelError: there are several in the folder, or files are missing.
    """
    path = Path(path)
    found = sorted(path.glob(f"*{TRAINING}")) if path.is_dir() else [path] if path.name.endswith(TRAINING) else []
    if not found:
        return None
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ModelError(f"the folder has several training graphs: {names}", where=str(path), fix="give one of them")
    artifacts = Artifacts(found[0].parent, found[0].name.removesuffix(TRAINING))
    for file in (artifacts.training, artifacts.evaluation, artifacts.checkpoint):
        if not file.exists():
            fix = "export it again: onnxruntime.training.artifacts.generate_artifacts writes all of them"
            raise ModelError(f"the exported training graph lacks {file.name}", where=str(artifacts.folder), fix=fix)
    return artifacts


def weights(artifacts: Artifacts) -> dict[str, npt.NDArray[Any]]:
    """The checkpoint's parameters by name.

    Raises:
        ModelError: it cannot be read.
    """
    state = _checkpoint(artifacts)
    return {name: state.get_parameter(name).data.numpy() for name in state.parameter_names()}


def write_checkpoint(artifacts: Artifacts, values: Mapping[str, npt.NDArray[np.float32]], destination: Path) -> None:
    """A copy of the checkpoint with other *values* of some parameters."""
    from onnxruntime.capi import _pybind_state as native

    state = _checkpoint(artifacts)
    known = set(state.parameter_names())
    for name, value in values.items():
        if name in known:
            state.get_parameter(name).data.update_inplace(np.ascontiguousarray(value))
    temporary = destination.with_name(f".{destination.name}.part")
    native.save_checkpoint(state, str(temporary), False)
    temporary.replace(destination)


def _checkpoint(artifacts: Artifacts) -> Any:
    runtime.require_training_build("read the checkpoint of an exported training graph")
    from onnxruntime.capi import _pybind_state as native

    try:
        return native.load_checkpoint(str(artifacts.checkpoint))
    except Exception as error:  # the native exception types are private to the extension module
        raise ModelError(
            "the checkpoint cannot be read", where=str(artifacts.checkpoint), fix="export the training graph again"
        ) from error


def optimizer(artifacts: Artifacts) -> Optimizer | None:
    """What optimizer_model.onnx does; None if there is none.

    Its ``adam_mode`` is 0 for PyTorch's AdamW.  1 is Hugging Face's, which adds epsilon in front of the bias correction
    and lets weights decay behind the step and not before it; the latter, of second order in the rate, is not followed.

    Raises:
        UnsupportedError: another optimizer.
    """
    if not artifacts.optimizer.exists():
        return None
    known: dict[str, Any] = {}
    for node in load(artifacts.optimizer).graph:
        if node.op_type == "AdamWOptimizer":
            names = {"alpha": "beta1", "beta": "beta2", "epsilon": "epsilon", "weight_decay": "weight_decay"}
            hat = bool(node.attributes.get_int("adam_mode", 0))
            known |= {"name": "adamw", "epsilon_hat": hat} | {ours: _number(node, its) for its, ours in names.items()}
        elif node.op_type == "SGDOptimizerV2":
            known |= {"name": "sgd", "momentum": 0.0}
        elif node.op_type == "ClipGradNorm":
            known["clip_norm"] = _number(node, "max_norm")
    if "name" not in known:
        raise UnsupportedError(
            "its optimizer is neither AdamW nor SGD", where=str(artifacts.optimizer), fix="say which one in a recipe"
        )
    return Optimizer(**known)


def _number(node: ir.Node, name: str) -> float:
    """A float32 attribute as the decimal number that was meant."""
    return float(f"{node.attributes.get_float(name, 0.0):.7g}")


def inference_model(artifacts: Artifacts) -> ir.Model:
    """What ships: the model in eval_model.onnx with the checkpoint's weights as initializers.

    Raises:
        ModelError: a file cannot be read.
        UnsupportedError: no value of it is apart from the labels.
    """
    model, values = load(artifacts.evaluation), weights(artifacts)
    graph = model.graph
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    weight_inputs = [value for value in graph.inputs if value.name in values]
    labels = _labels(graph, weight_inputs)
    outputs = graph.outputs[1:] or _in_front_of_loss(graph, weight_inputs, labels)
    if not outputs:
        what = "no value of the exported training graph leads from its weights to its loss"
        raise UnsupportedError(what, where=str(artifacts.evaluation), fix="export it again")
    graph.outputs[:] = outputs
    graph.inputs[:] = [value for value in graph.inputs if value not in weight_inputs and value not in labels]
    for value in weight_inputs:
        value.const_value = ir.tensor(values[str(value.name)], name=value.name)
        graph.register_initializer(value)
    RemoveUnusedNodesPass()(model)
    model.ir_version = max(model.ir_version, 4)  # from which on initializers are not inputs
    return model


@contextmanager
def shipped_source(artifacts: Artifacts, wanted: Parameters | None = None) -> Iterator[Source]:
    """The inference model as a file of its own, while the context is open; *wanted* as :func:`.source.load` takes it.

    Raises:
        UnsupportedError: it has a weight that no rule of :mod:`dsd_ort.model.roles` takes for one.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{artifacts.prefix.rstrip('_-.') or artifacts.folder.resolve().name}.onnx"
        model = inference_model(artifacts)
        ir.save(model, path, external_data=f"{path.name}.data" if _size(model) > _LARGEST else None)
        yield source_files.load(path, wanted)


def _size(model: ir.Model) -> int:
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)


def label_names(artifacts: Artifacts) -> list[str]:
    """The inputs of eval_model.onnx that only the loss reads."""
    graph, known = load(artifacts.evaluation).graph, set(weights(artifacts))
    return [str(v.name) for v in _labels(graph, [value for value in graph.inputs if value.name in known])]


def _labels(graph: ir.Graph, weights: Sequence[ir.Value]) -> list[ir.Value]:
    """The inputs behind which no weight is read."""
    return [
        value
        for value in graph.inputs
        if value not in weights
        and not any(w in weights for node in _readers(graph, _behind(graph, [value])) for w in node.inputs)
    ]


def _in_front_of_loss(graph: ir.Graph, weights: Sequence[ir.Value], labels: Sequence[ir.Value]) -> list[ir.Value]:
    """The last value that everything between the weights and the loss comes through, or several if there is none."""
    with_label, with_weight = _behind(graph, labels), _behind(graph, weights) - set(weights)
    frontier = {
        value
        for node in graph
        if not with_label.isdisjoint(node.outputs)
        for value in node.inputs
        if value in with_weight and value not in with_label
    }
    order = [value for node in graph for value in node.outputs if value in with_weight and value not in with_label]
    for value in reversed(order):
        if not frontier & (_behind(graph, weights, without=value) - {value}):
            return [value]
    return [value for value in order if value in frontier]


def _behind(graph: ir.Graph, values: Iterable[ir.Value], *, without: ir.Value | None = None) -> set[ir.Value]:
    """*values*, and what depends on them not only through *without*."""
    found = set(values)
    for node in graph:
        if not found.isdisjoint(node.inputs):
            found.update(value for value in node.outputs if value is not without)
    return found


def _readers(graph: ir.Graph, values: Set[ir.Value]) -> Iterator[ir.Node]:
    return (node for node in graph if not values.isdisjoint(node.inputs))


def load(path: Path) -> ir.Model:
    """The model of one of the files; raises ModelError if it is damaged."""
    source_files.outline(path)  # has the messages
    try:
        return ir.from_proto(onnx.load(path))
    except Exception as error:  # protobuf's DecodeError, which has no types, and missing external data
        raise ModelError("the ONNX file is damaged", where=str(path), fix="export it again") from error
