"""The other way: ONNX Runtime's own gradient builder, which one release of its training build has.

The one caller of it, and the only place that knows how it spells names: the gradient of a graph input ``w`` is the
value ``w_grad``.

Requires a legalized graph (:mod:`dsd_ort.graph.legalize`): the builder gives wrong gradients for some operators and
ends the process on others.  Ensures that the graph's outputs are the old ones followed by one gradient each, in the
order of *trainable*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
import onnx.inliner
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.differentiate.step_graph import StepGraph, gradient_of
from dsd_ort.rewrite import autograd
from dsd_ort.rewrite.autograd import Operator
from dsd_ort.rewrite.nodes import Nodes, take_over


def differentiate(model: ir.Model, trainable: Sequence[str], *, loss: str = "loss") -> StepGraph:
    """The gradients of the scalar output *loss* with respect to the graph inputs *trainable*.

    Raises:
        UnsupportedError: the gradient builder refuses the graph.
        InstallationError: this environment's ONNX Runtime has none.
    """
    if not runtime.trains():
        runtime.require_training_build()
    from onnxruntime.capi import _pybind_state as native

    gradients = {name: gradient_of(name) for name in trainable}
    _free_names(model.graph, set(gradients.values()))
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model))
    _register(autograd.of_model(model).values())
    try:
        builder = native.GradientGraphBuilder(
            proto.SerializeToString(), {loss}, set(trainable), loss, runtime.session_options()
        )
        builder.build()
        built = onnx.load_from_string(builder.get_model())
    except RuntimeError as error:
        raise UnsupportedError(
            f"ONNX Runtime cannot differentiate the model: {runtime.native_message(error)}",
            fix="name another output with --output, or freeze the parameters in front of that operator",
        ) from error
    if built.functions:
        built = onnx.inliner.inline_local_functions(built)
    step = ir.from_proto(built)
    step.opset_imports.pop(autograd.DOMAIN, None)
    _order_outputs(step.graph, [o.name for o in model.graph.outputs if o.name], gradients)
    _remove_unused(step.graph)
    return StepGraph(step, gradients)


_registered: set[str] = set()


def _register(operators: Iterable[Operator]) -> None:
    """Tells the builder of *operators*, once a process."""
    from onnxruntime.capi import _pybind_state as native

    for made in operators:
        if made.name in _registered:
            continue
        node = native.GradientNodeDefinition()
        node.domain, node.op_type = autograd.DOMAIN, made.backward.name
        node.inputs, node.outputs = autograd.definition(made)
        node.attributes = []
        native.register_gradient_definition(f"{autograd.DOMAIN}::{made.name}", [node])
        _registered.add(made.name)


def _free_names(graph: ir.Graph, taken: set[str]) -> None:
    """Renames values of the model that are called what the builder will call a gradient."""
    values = [*graph.inputs, *(out for node in graph for out in node.outputs)]
    for value in values:
        if value.name in taken:
            if value in graph.inputs or value in graph.outputs:
                raise UnsupportedError(
                    f"the name {value.name!r} is needed for a gradient", fix="rename this input or output of the model"
                )
            value.name = f"{value.name}.forward"


def _order_outputs(graph: ir.Graph, forward: list[str], gradients: dict[str, str]) -> None:
    values = {value.name: value for node in graph for value in node.outputs}
    values.update({value.name: value for value in graph.inputs})
    shapes = {value.name: value for value in graph.inputs}
    for parameter, gradient in gradients.items():
        shape = shapes[parameter].shape
        if shape is not None and shape.rank() == 0:
            values[gradient] = _as_number(values[gradient])
        values[gradient].shape, values[gradient].type = shape, shapes[parameter].type
    graph.outputs.clear()
    graph.outputs.extend(values[name] for name in [*forward, *gradients.values()])


def _as_number(gradient: ir.Value) -> ir.Value:
    """The gradient of a single number without the axis that the builder's constants give it."""
    new = Nodes(str(gradient.name))
    number = new.Reshape(gradient, [])
    new.put_behind(gradient)
    take_over(gradient, number, f"{gradient.name}/number")
    return number


def _remove_unused(graph: ir.Graph) -> None:
    """Removes what only gradients that nobody asked for would read."""
    for node in reversed(graph):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
        elif node.op_type == "ConvGrad":  # computes what has a name
            for output in node.outputs:
                if not (output.uses() or output.is_graph_output()):
                    output.name = ""
