"""The guard around an optimizer: an update that the device itself decides to make or to skip.

With loss scaling, whether an update is made is known on the device only (:mod:`~.scaler`), and so is how
many were made.  ``guarded(optimizer)`` is :func:`~.update.update_graph` with two inputs more::

    keep: bool[]    this update is made
    done: f32[]     t, the updates made so far, this one included

Each output is ``Where(keep, new, old)``: of a skipped update, weights and slots keep their bits, whatever the gradient
is, NaN included.  What depends on t comes from ``done``, in float64 as on the host, and is multiplied into the scalars,
which are fed without it (:func:`scalars`)::

    sgd          scale · γ, decay · γ                        γ = 1 at t = 1, else 1 - τ; for μ > 0 alone
    adam, adamw  rate · √(1 - β₂ᵗ) / (1 - β₁ᵗ), ε · √(1 - β₂ᵗ)    ε̂ stays as it is

What the unguarded graph promises holds: in place (an output's last node is elementwise, and every other reader of the
input comes before it by the flow of data), slices of any length, and law 3: weight, slots and gradient of 0.0 give 0.0
if the update is made, and stay 0.0 if it is not.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from dsd_ort.graph.optimizer.update import OPTIMIZERS, update_graph
from dsd_ort.recipe import Optimizer
from dsd_ort.rewrite.nodes import Nodes

KEEP, DONE = "keep", "done"


def guarded(optimizer: Optimizer) -> onnx.ModelProto:
    """The update of a flat slice, as the module says."""
    model = ir.from_proto(update_graph(optimizer))
    graph = model.graph
    keep, done = _number(KEEP, ir.DataType.BOOL), _number(DONE, ir.DataType.FLOAT)
    inputs = {value.name: value for value in graph.inputs}
    graph.inputs.extend([keep, done])
    new = Nodes.of(graph, "guard")
    for name, factor in _factors(optimizer, new, done).items():
        uses = tuple(inputs[name].uses())
        product = new.Mul(inputs[name], factor)
        if name == "epsilon":  # 0/ε is 0 where 0/0 were NaN (law 3)
            product = new.Max(product, float(np.finfo(np.float32).tiny))
        for node, i in uses:
            node.replace_input_with(i, product)
    new.put_behind(done)
    for i, made in enumerate(list(graph.outputs)):
        name, old = str(made.name), inputs[str(made.name).removesuffix("_new")]
        chosen = new.Where(keep, made, old)
        chosen.type, chosen.shape = made.type, made.shape
        chosen.name, made.name = name, f"{name}/made"
        graph.outputs[i] = chosen
    new.append_to(graph)
    return ir.to_proto(model)


def scalars(optimizer: Optimizer, *, learning_rate: float, weight_decay: float) -> dict[str, np.float32]:
    """The inputs of :func:`guarded` that the host feeds, by name: all but ``scale``, ``keep`` and ``done``."""
    spec = OPTIMIZERS[optimizer.name]
    values = spec.scalars(optimizer, learning_rate=learning_rate, weight_decay=weight_decay, step=spec.bare_step)
    del values["scale"]  # of the gradient: the scaler's
    return values


def _factors(optimizer: Optimizer, new: Nodes, done: ir.Value) -> dict[str, ir.Value]:
    """What depends on the step: scalar input → its factor f32[]."""
    if optimizer.name == "sgd":
        if not (optimizer.momentum and optimizer.dampening):
            return {}
        one = new.constant(1.0)
        gain = new.Where(new.Greater(done, one), float(1 - optimizer.dampening), one)
        return {"scale": gain, "decay": gain}
    t = new.Cast(done, to=ir.DataType.DOUBLE.value)
    first, second = (_correction(new, beta, t) for beta in (optimizer.beta1, optimizer.beta2))
    root = new.Sqrt(second)
    rate = _rounded(new, new.Div(root, first))
    return {"rate": rate} if optimizer.epsilon_hat else {"rate": rate, "epsilon": _rounded(new, root)}


def _correction(new: Nodes, beta: float, t: ir.Value) -> ir.Value:
    """1 - βᵗ in float64."""
    return new.Sub(np.asarray(1.0), new.Pow(np.asarray(float(beta)), t))


def _rounded(new: Nodes, value: ir.Value) -> ir.Value:
    return new.Cast(value, to=ir.DataType.FLOAT.value)


def _number(name: str, dtype: ir.DataType) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape([]), type=ir.TensorType(dtype))
