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
from onnx_ir.tape import Tape

from dsd_ort.graph.optimizer.update import OPTIMIZERS, update_graph
from dsd_ort.recipe import Optimizer

KEEP, DONE = "keep", "done"


def guarded(optimizer: Optimizer) -> onnx.ModelProto:
    """The update of a flat slice, as the module says."""
    model = ir.from_proto(update_graph(optimizer))
    graph = model.graph
    keep, done = _number(KEEP, ir.DataType.BOOL), _number(DONE, ir.DataType.FLOAT)
    inputs = {value.name: value for value in graph.inputs}
    graph.inputs.extend([keep, done])
    first, last = Tape(), Tape()
    for name, factor in _factors(optimizer, first, done).items():
        uses = tuple(inputs[name].uses())
        product = first.op("Mul", [inputs[name], factor])
        if name == "epsilon":  # 0/ε is 0 where 0/0 were NaN (law 3)
            product = first.op("Max", [product, _constant(first, np.float32(np.finfo(np.float32).tiny))])
        for node, i in uses:
            node.replace_input_with(i, product)
    graph.insert_before(graph[0], first.nodes)
    for i, new in enumerate(list(graph.outputs)):
        name, old = str(new.name), inputs[str(new.name).removesuffix("_new")]
        new.name = f"{name}/made"
        chosen = last.op("Where", [keep, new, old])
        chosen.name, chosen.type, chosen.shape = name, new.type, new.shape
        graph.outputs[i] = chosen
    graph.extend(last.nodes)
    return ir.to_proto(model)


def scalars(optimizer: Optimizer, *, learning_rate: float, weight_decay: float) -> dict[str, np.float32]:
    """The inputs of :func:`guarded` that the host feeds, by name: all but ``scale``, ``keep`` and ``done``."""
    spec = OPTIMIZERS[optimizer.name]
    values = spec.scalars(optimizer, learning_rate=learning_rate, weight_decay=weight_decay, step=spec.bare_step)
    del values["scale"]  # of the gradient: the scaler's
    return values


def _factors(optimizer: Optimizer, tape: Tape, done: ir.Value) -> dict[str, ir.Value]:
    """What depends on the step: scalar input → its factor f32[]."""
    if optimizer.name == "sgd":
        if not (optimizer.momentum and optimizer.dampening):
            return {}
        one, damped = _constant(tape, np.float32(1)), _constant(tape, np.float32(1 - optimizer.dampening))
        gain = tape.op("Where", [tape.op("Greater", [done, one]), damped, one])
        return {"scale": gain, "decay": gain}
    t = tape.op("Cast", [done], {"to": ir.DataType.DOUBLE.value})
    first, second = (_correction(tape, beta, t) for beta in (optimizer.beta1, optimizer.beta2))
    root = tape.op("Sqrt", [second])
    rate = _rounded(tape, tape.op("Div", [root, first]))
    return {"rate": rate} if optimizer.epsilon_hat else {"rate": rate, "epsilon": _rounded(tape, root)}


def _correction(tape: Tape, beta: float, t: ir.Value) -> ir.Value:
    """1 - βᵗ in float64."""
    power = tape.op("Pow", [_constant(tape, np.float64(beta)), t])
    return tape.op("Sub", [_constant(tape, np.float64(1)), power])


def _rounded(tape: Tape, value: ir.Value) -> ir.Value:
    return tape.op("Cast", [value], {"to": ir.DataType.FLOAT.value})


def _constant(tape: Tape, value: np.floating) -> ir.Value:
    return tape.op("Constant", [], {"value": ir.tensor(np.asarray(value))})


def _number(name: str, dtype: ir.DataType) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape([]), type=ir.TensorType(dtype))
