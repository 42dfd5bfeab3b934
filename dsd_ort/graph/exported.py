"""The graphs of an exported training graph (:mod:`dsd_ort.model.artifacts`) as :mod:`dsd_ort.run` executes them.

The training graph is taken as it stands, but for what the engine does itself: gradients are outputs, where it adds them
to buffers, and running statistics of batch norms, which it keeps as constants, follow the data as everywhere else
(:mod:`dsd_ort.graph.legalize.rules.batch_norm`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dsd_ort.errors import ModelError, UnsupportedError
from dsd_ort.fields import Field
from dsd_ort.graph.legalize.rules import batch_norm
from dsd_ort.model.artifacts import TRAINING, Artifacts, label_names, load
from dsd_ort.model.source import Source
from dsd_ort.notes import Note
from dsd_ort.rewrite import names
from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.path import Path as GradientPath
from dsd_ort.rewrite.shapes import dims_of
from dsd_ort.rewrite.site import Site

_ACCUMULATOR = "InPlaceAccumulatorV2"
_BUFFER = "_grad.accumulation.buffer"
_LOSSES = ("SoftmaxCrossEntropyLoss", "SoftmaxCrossEntropyLossInternal")


@dataclass(frozen=True)
class TrainingGraph:
    """The exported training graph, ready for masks."""

    model: ir.Model
    gradients: dict[str, str]
    """Parameter → the output that holds its gradient."""
    statistics: dict[str, str]
    """Running statistic, an input → the output that holds its value after the step."""
    loss: str
    labels: list[Field]
    notes: tuple[Note, ...]


def training_graph(artifacts: Artifacts, statistics: Collection[str]) -> TrainingGraph:
    """training_model.onnx with gradients and new running statistics as outputs.

    Args:
        artifacts: the files.
        statistics: the names of running statistics, which become inputs.

    Raises:
        ModelError: the file cannot be read, or is no training graph.
    """
    model = load(artifacts.training)
    graph = model.graph
    loss = graph.outputs[0]
    accumulators = [node for node in graph if node.op_type == _ACCUMULATOR]
    gradients: dict[str, ir.Value] = {}
    for node in accumulators:
        buffer, gradient = node.inputs[0], node.inputs[1]
        assert buffer is not None and buffer.name is not None and gradient is not None
        gradients[buffer.name.removesuffix(_BUFFER)] = gradient
    if not gradients:
        what = "the training graph adds no gradients to buffers"
        raise ModelError(what, where=str(artifacts.training), fix="export it with onnxruntime.training.artifacts")
    graph.outputs[:] = [loss, *gradients.values()]
    graph.remove(accumulators, safe=True)
    graph.inputs[:] = [value for value in graph.inputs if value.uses() or value.is_graph_output()]
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    moved, notes = _follow_statistics(graph, statistics)
    names.make_unique(model)
    for name, value in moved.items():
        value.name = f"{name}.next"
    graph.outputs.extend(moved.values())
    of_loss = label_names(artifacts)
    if not of_loss:
        what = "the loss of the exported training graph reads no label"
        raise UnsupportedError(what, where=str(artifacts.training), fix="give the model itself, and a loss in a recipe")
    return TrainingGraph(
        model,
        {name: str(value.name) for name, value in gradients.items()},
        {name: str(value.name) for name, value in moved.items()},
        str(loss.name),
        [_field(value, label=True) for value in graph.inputs if value.name in of_loss],
        tuple(notes),
    )


def _follow_statistics(graph: ir.Graph, statistics: Collection[str]) -> tuple[dict[str, ir.Value], list[Note]]:
    """Makes *statistics* inputs, and adds what follows the batches; statistic → its new value, and the notes."""
    path = GradientPath(graph, [], [])
    moved: dict[ir.Value, ir.Value] = {}
    notes = []
    words = f"Running statistics follow the batches; {TRAINING} itself keeps them as they are"
    for node in [n for n in graph if n.op_type == "BatchNormInternal"]:
        site = Site(node, path, moved)
        mean, variance = site.input(3), site.input(4)
        if mean.name not in statistics or variance.name not in statistics:
            continue
        for i, statistic in ((3, mean), (4, variance)):
            graph.initializers.pop(str(statistic.name), None)
            if statistic not in graph.inputs:
                graph.inputs.append(statistic)
            node.replace_input_with(i, site.Neg(statistic))  # the kernel writes over it
        graph.insert_before(node, site.nodes)
        site.nodes.clear()
        batch_norm.follow(site, mean, variance, node.outputs[3], node.outputs[4])
        graph.insert_after(node, site.nodes)
        notes.append(Note(kind="rewrite", node=place(node), words=words))
    return {str(old.name): new for old, new in moved.items()}, notes


def _field(value: ir.Value, *, label: bool = False) -> Field:
    """What the data must have for an input; class labels are checked there, as wrong ones end the process."""
    shape = dims_of(value)
    assert value.dtype is not None and shape is not None
    classes = ignored = None
    for use in value.uses():
        if use.node.op_type in _LOSSES and use.idx == 1:
            scores = use.node.inputs[0]
            size = scores.shape[1] if scores is not None and scores.shape is not None else None
            classes = size if isinstance(size, int) else None
            ignored = use.node.attributes.get_int("ignore_index", None)
    return Field(str(value.name), value.dtype.numpy().name, shape, label=label, classes=classes, ignore_index=ignored)


class Measured(NamedTuple):
    """eval_model.onnx with running statistics as inputs and the inference model's outputs as outputs."""

    graph: onnx.ModelProto
    inputs: list[Field]
    outputs: list[str]
    loss: str


def evaluation_graph(artifacts: Artifacts, source: Source) -> Measured:
    """What measures weights: eval_model.onnx, whose inference model is *source*."""
    model = load(artifacts.evaluation)
    graph = model.graph
    loss = graph.outputs[0]
    values = ir.convenience.create_value_mapping(graph)
    outputs = [str(value.name) for value in source.model.graph.outputs]
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    graph.outputs[:] = [loss, *(values[name] for name in outputs)]
    for statistic in source.statistics:
        value = values[statistic.name]
        graph.initializers.pop(statistic.name)
        if value not in graph.inputs:
            graph.inputs.append(value)
        value.const_value = None
    shipped = {value.name for value in source.model.graph.inputs}
    inputs = [_field(value) for value in graph.inputs if value.name in shipped]
    model.ir_version = max(model.ir_version, 4)
    return Measured(ir.to_proto(model), inputs, outputs, str(loss.name))
