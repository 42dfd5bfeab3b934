"""The training copy: the model of a source with its parameters and running statistics as inputs of the graph.

All rewrites begin with it: without weights a graph is small, whatever the model's size.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsd_ort.graph import batch_statistics, declared
from dsd_ort.graph.legalize.opset import to_opset
from dsd_ort.model.parameters import inlined
from dsd_ort.model.source import Source
from dsd_ort.rewrite.autograd import OPSET
from dsd_ort.rewrite.nodes import Nodes, cast, constant_value
from dsd_ort.rewrite.operators.stops import CLASSICAL_DOMAIN
from dsd_ort.rewrite.parts import all_values, bodies

_SCATTERS = 11
"""The first opset that has ScatterND."""


def training_copy(source: Source) -> ir.Model:
    """A copy in which each parameter and statistic is a graph input under its name, behind the model's own inputs.

    These inputs are float32; where the file has another type, a Cast to that type follows.  Entries that are not finite
    are constants of the graph, put into what the input holds there: no gradient reaches them, and 0.0 stays 0.0.

    Constant, ConstantOfShape and Identity nodes that only carry parameters, unused nodes and unused initializers are
    gone, the model's own functions are inlined, batch norms without running statistics are written out, shapes are
    those of what runs, and all other constants are in memory: it serialises to a small model that needs no other file.
    ``source.model`` stays as it is.

    Raises:
        UnsupportedError: the model's functions cannot be inlined; a type that is declared wrongly.
    """
    model = inlined(source.model.clone())
    graph = model.graph
    _without_maps(graph)
    named = {str(value.name): value for value in all_values(graph)}
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    for parameter in (*source.parameters, *source.statistics):
        new = ir.val(parameter.name, ir.DataType.FLOAT, parameter.shape)
        inputs.append(new)
        graph.inputs.append(new)
        own = _in_own_type(new, ir.DataType[parameter.dtype.upper()])
        for name in (parameter.name, *parameter.aliases):
            _replace(named[name], own)
    for value in inputs:
        if value.dtype == ir.DataType.BFLOAT16:  # NumPy has no such type, so data cannot have it
            value.type = ir.TensorType(ir.DataType.FLOAT)
            uses = tuple(value.uses())
            own = _in_own_type(value, ir.DataType.BFLOAT16)
            for node, i in uses:
                node.replace_input_with(i, own)
    graph.inputs[:] = inputs
    for value in all_values(graph):
        if value.shape is not None:  # some exporters write -1 where any length will do
            value.shape = ir.Shape([None if isinstance(n, int) and n < 0 else n for n in value.shape])
    model.ir_version = max(model.ir_version, 4)  # from which on initializers are not inputs
    _remove_unused(graph)
    _bring_into_memory(model)
    _as_vectors(graph)
    declared.correct(model)
    batch_statistics.write_out(model, batch_statistics.content_of(source))
    _put_kept(model, source)
    return model


def _without_maps(graph: ir.Graph) -> None:
    """A map of labels at the end, as converters of classical models write it, gives way to the tensor it is made of."""
    found: dict[ir.Value, None] = {}
    for value in graph.outputs:
        node = value.producer()
        is_map = node is not None and (node.domain, node.op_type) == (CLASSICAL_DOMAIN, "ZipMap")
        found[node.inputs[0] or value if is_map and node is not None else value] = None
    graph.outputs[:] = list(found)


def _as_vectors(graph: ir.Graph) -> None:
    """Axes that an exporter wrote as a number, which ONNX Runtime runs though ONNX wants a vector, become one."""
    vectors: dict[ir.Value, ir.Value] = {}
    for node in list(graph.all_nodes()):
        axes = node.inputs[1] if node.op_type in ("Squeeze", "Unsqueeze") and len(node.inputs) > 1 else None
        number = None if node.domain else constant_value(axes)
        if axes is None or number is None or number.ndim:
            continue
        if axes not in vectors:
            new = Nodes.of(graph, f"{axes.name}/vector")
            vectors[axes] = new.constant(number.reshape(1))
            new.put_behind(axes)
        node.replace_input_with(1, vectors[axes])


def _put_kept(model: ir.Model, source: Source) -> None:
    """Lets all nodes read the entries of the file that training leaves as they are, in the place of the inputs' own."""
    kept = {p.name: positions for p in source.parameters if (positions := source.kept(p.name)).size}
    if kept and model.graph.opset_imports.get("", OPSET) < _SCATTERS:
        to_opset(model)
    for value in model.graph.inputs if kept else ():
        name = str(value.name)
        if name in kept:
            uses = tuple(value.uses())
            numbers = source.value(name)
            positions = np.stack(np.unravel_index(kept[name], numbers.shape), axis=-1).astype(np.int64)
            new = Nodes.of(model.graph, f"{name}/kept")
            whole = new.ScatterND(value, positions, numbers.flat[kept[name]])
            new.put_behind(value)
            for node, i in uses:
                node.replace_input_with(i, whole)


def _in_own_type(value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """*value*, a float32 input of its graph, in the type that the file has for it."""
    return value if dtype == ir.DataType.FLOAT else cast(value, dtype)


def _replace(old: ir.Value, new: ir.Value) -> None:
    """Every node reads *new* instead of *old*; an output keeps its name, and so an Identity."""
    inner = old.graph
    if old.is_graph_output() and inner is not None:
        node = old.producer()
        if node is not None and node.op_type == "Identity":
            return
        output = new
        if inner is not new.graph or old.name != new.name:
            copy = Nodes(str(old.name))
            output = copy.Identity(new)
            output.name = old.name if inner is new.graph else output.name
            copy.append_to(inner)
        inner.outputs[:] = [output if value is old else value for value in inner.outputs]
    old.replace_all_uses_with(new)


def _remove_unused(graph: ir.Graph) -> None:
    for node in reversed(graph):
        for body in bodies(node):
            _remove_unused(body)
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not (value.uses() or value.is_graph_output()):
            del graph.initializers[name]


def _bring_into_memory(model: ir.Model) -> None:
    """Turns external tensors, which a model in memory cannot find, into tensors in memory."""
    ir.external_data.load_to_model(model)  # the initializers
    for node in list(model.graph.all_nodes()):
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.value, ir.ExternalTensor):
                (tensor,) = ir.external_data.convert_tensors_from_external([attribute.value])
                node.attributes[name] = ir.AttrTensor(name, tensor)
