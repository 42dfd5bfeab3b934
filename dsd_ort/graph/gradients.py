"""Gradients of any graph, as a graph; nothing of it is trained.

wrt as inputs → inference → fold → legalize → ⟨y, dy⟩ → differentiate → wrt with its values

For y = f(x, …) and a dy of y's shape, the gradient of the number ⟨y, dy⟩ = Σ y·dy by x is dyᵀ·∂y/∂x: what arrives at x
where dy arrives at y.  Of an output that is one number, dy = 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx_ir as ir

from dsd_ort.errors import ModelError, UnsupportedError, nearest
from dsd_ort.graph import batch_statistics
from dsd_ort.graph.differentiate import differentiate
from dsd_ort.graph.inference import to_inference
from dsd_ort.graph.legalize import legalize, to_supported
from dsd_ort.rewrite.fold import LARGEST, fold
from dsd_ort.rewrite.names import Names, make_unique, place
from dsd_ort.rewrite.nodes import Nodes, constant_value
from dsd_ort.rewrite.operators import facts
from dsd_ort.rewrite.path import Path


def with_gradients(model: ir.Model, wrt: Sequence[str], of: str | None = None, *, training: bool = False) -> ir.Model:
    """*model*, changed: its outputs, then the gradient of *of* by each of *wrt*, and in training the new statistics.

    Args:
        model: any.
        wrt: names of inputs and initializers; the latter are inputs too then, with their values as defaults.
        of: the output that is differentiated; by default the only one.  If it is more than one number, the gradient
            that arrives at it is an input, ``OF_grad``.
        training: whether batch norm normalises by the batch, and dropout drops.

    Raises:
        ModelError: a name that the model does not have.
        UnsupportedError: an operator in between that has no derivative, or whose derivative is not known.
    """
    outputs = [str(value.name) for value in model.graph.outputs]
    of = _the_output(outputs) if of is None else of
    _refuse_unknown(model.graph, wrt, of)
    tensors, varied = _as_inputs(model.graph, wrt), [*wrt]
    to_supported(model)
    batch_statistics.write_out(model, constant_value)
    if training:
        varied += _statistics(model.graph)
        tensors |= _as_inputs(model.graph, varied)
    else:
        _to_evaluation(model)
    make_unique(model)
    fold(model)
    _refuse_unreached(model.graph, wrt, of)
    legal = legalize(model, wrt, outputs=[of], kept=outputs, batch_norm="train" if training else "frozen")
    _refuse_unreached(legal.model.graph, wrt, of)  # a rule may have shown that the output depends on less
    made = differentiate(legal.model, wrt, loss=_one_number(legal.model, of))
    graph, names = made.model.graph, Names(made.model.graph)
    by_name = {str(value.name): value for value in graph.outputs}
    for statistic, successor in legal.statistics.items():
        by_name[successor].name = names.free(f"{statistic}_next")
    kept = [*outputs, *(made.gradients[name] for name in wrt), *legal.statistics.values()]
    graph.outputs[:] = [by_name[name] for name in kept]
    _give_back(graph, tensors, varied)
    return made.model


def _the_output(outputs: Sequence[str]) -> str:
    if len(outputs) != 1:
        raise ModelError(f"the model has {len(outputs)} outputs: {', '.join(outputs)}", fix="name one of them as of")
    return outputs[0]


def _refuse_unknown(graph: ir.Graph, wrt: Sequence[str], of: str) -> None:
    outputs = [str(value.name) for value in graph.outputs]
    if of not in outputs:
        hint = nearest(of, outputs) or f"its outputs are {', '.join(outputs)}"
        raise ModelError(f"the model has no output {of!r}", fix=hint)
    values = {str(value.name): value for value in (*graph.inputs, *graph.initializers.values())}
    if not wrt:
        raise ModelError("wrt names nothing to differentiate by", fix=f"name some of {', '.join(values)}")
    for name in wrt:
        if name not in values:
            hint = nearest(name, values) or f"those of inputs and initializers are {', '.join(values)}"
            raise ModelError(f"the model has no input or initializer {name!r}", fix=hint)
        dtype = values[name].dtype
        if dtype is not None and not dtype.is_floating_point():
            raise UnsupportedError(
                f"{name!r} is of type {dtype.name.lower()}, by which there is no gradient",
                fix="name floating-point inputs or initializers",
            )


def _refuse_unreached(graph: ir.Graph, wrt: Sequence[str], of: str) -> None:
    """Refuses what the output does not depend on, or only through operators whose derivative is zero, or none."""
    values = {str(value.name): value for value in graph.inputs}
    (target,) = [value for value in graph.outputs if value.name == of]
    path = Path(graph, [values[name] for name in wrt], [target])
    for name in wrt:
        if not path.carries(values[name]):
            end = path.end_of(values[name])
            stops = facts(end).stops if end is not None else None
            why = f"{place(end)} {stops.why}" if end is not None and stops is not None else "it does not depend on it"
            raise UnsupportedError(f"no gradient of {of!r} reaches {name!r}: {why}", fix="leave it out of wrt")


def _to_evaluation(model: ir.Model) -> None:
    """Batch norm by the running statistics, whatever the file says; dropout of nothing."""
    to_inference(model)
    dropouts = [node for node in model.graph.all_nodes() if node.op_type == "Dropout" and not node.domain]
    if dropouts:
        new = Nodes("evaluation/ratio", names=Names(model.graph))
        nothing = new.constant(0.0)
        new.put_first(model.graph)
        for node in dropouts:
            node.resize_inputs(max(2, len(node.inputs)))
            node.replace_input_with(1, nothing)


def _statistics(graph: ir.Graph) -> list[str]:
    """The initializers that are running statistics of a batch norm."""
    read = (value for node in graph if node.op_type == "BatchNormalization" for value in node.inputs[3:5])
    return [str(value.name) for value in dict.fromkeys(read) if value is not None and value.is_initializer()]


def _as_inputs(graph: ir.Graph, names: Collection[str]) -> dict[str, ir.TensorProtocol]:
    """Makes inputs of the initializers called so, and of large weights: the graph is small without.  What they hold.

    A weight is floating-point; by other tensors rules decide.
    """
    tensors = {}
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and (name in names or (tensor.dtype.is_floating_point() and tensor.size > LARGEST)):
            tensors[name], value.const_value = tensor, None
            del graph.initializers[name]
            if value not in graph.inputs:
                graph.inputs.append(value)
    return tensors


def _give_back(graph: ir.Graph, tensors: Mapping[str, ir.TensorProtocol], names: Collection[str]) -> None:
    """Makes initializers of them again; those called so remain inputs beside."""
    for value in graph.inputs:
        if (tensor := tensors.get(str(value.name))) is not None:
            value.const_value = tensor
            graph.register_initializer(value)
    graph.inputs[:] = [value for value in graph.inputs if value.name not in tensors or value.name in names]


def _one_number(model: ir.Model, of: str) -> str:
    """The name of an output that is ⟨y, dy⟩ for the output y called *of*: itself where that is a number."""
    graph = model.graph
    (y,) = [value for value in graph.outputs if value.name == of]
    if y.shape is not None and y.shape.rank() == 0:
        return of
    names = Names(graph)
    new = Nodes(f"{of}/number", names=names)
    product = y
    if y.shape is None or any(size != 1 for size in y.shape):
        dy = ir.Value(name=names.free(f"{of}_grad"), type=y.type, shape=y.shape)
        graph.inputs.append(dy)
        product = new.Mul(y, dy)
    number = new.ReduceSum(product, keepdims=0)
    number.shape, number.type = ir.Shape([]), y.type
    new.append_to(graph)
    graph.outputs.append(number)
    return str(number.name)
