"""Optimizers as graphs: one elementwise update of a flat slice, with PyTorch's meaning of every hyper-parameter.

With weights w, gradient g, gradient scale s, weight decay λ, learning rate η and step t = 1, 2, …::

    sgd      d  = s·g + λ·w                  adam   d  = s·g + λ·w
             m' = μ·m + (1 - τ)·d                   m' = β₁·m + (1 - β₁)·d
             w' = w - η·m'                          v' = β₂·v + (1 - β₂)·d²
    nesterov w' = w - η·(d + μ·m')                  w' = w - η/(1 - β₁ᵗ) · m' / (√(v'/(1 - β₂ᵗ)) + ε)
                                             adamw  d  = s·g,  and (1 - η·λ)·w for w in the last line

The dampening τ counts from the second step on, as PyTorch's buffer begins as the first gradient.  What depends on t,
or on hyper-parameters alone, is computed on the host in float64 (:meth:`OptimizerSpec.scalars`) and fed as a scalar:
one graph serves every step, every parameter group and every phase.

An update graph has the inputs ``weight``, ``gradient`` and its slots, all ``f32[n]``, and scalars ``f32[]``; its
outputs are ``weight_new`` and ``<slot>_new``, ``f32[n]``.

* **In place**: every output may be bound to the buffer of the input that it succeeds.  The node that writes it is
  elementwise, and every other reader of the input comes before that node by the flow of data.
* **Slices**: n may change from run to run; element i of the results depends on element i of the inputs alone.
* **Law 3**: where weight, slots and gradient are 0.0, the new weight and slots are 0.0 again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
from onnxscript import FLOAT, OnnxFunction, script
from onnxscript import opset17 as op

from dsd_ort.recipe import Optimizer

if TYPE_CHECKING:  # onnxscript's annotations describe tensors, which are no types to a checker
    from typing import Any as Flat
    from typing import Any as Scalar
else:
    Flat, Scalar = FLOAT["n"], FLOAT

_IR_VERSION = 8  # the one that came with opset 17
# ruff: noqa: PLR0917  (the inputs of an ONNX function are positional)


@script(default_opset=op)
def sgd(
    weight: Flat, gradient: Flat, momentum: Flat, rate: Scalar, scale: Scalar, decay: Scalar, mu: Scalar
) -> tuple[Flat, Flat]:
    """Momentum; without one (``mu`` = 0) plain gradient descent."""
    direction = scale * gradient + decay * weight
    momentum_new = mu * momentum + direction
    weight_new = weight - rate * momentum_new
    return weight_new, momentum_new


@script(default_opset=op)
def sgd_nesterov(
    weight: Flat, gradient: Flat, momentum: Flat, rate: Scalar, scale: Scalar, decay: Scalar, mu: Scalar
) -> tuple[Flat, Flat]:
    """Momentum that looks one step ahead."""
    direction = scale * gradient + decay * weight
    momentum_new = mu * momentum + direction
    weight_new = weight - rate * (direction + mu * momentum_new)
    return weight_new, momentum_new


@script(default_opset=op)
def adam(
    weight: Flat,
    gradient: Flat,
    moment1: Flat,
    moment2: Flat,
    rate: Scalar,
    scale: Scalar,
    decay: Scalar,
    beta1: Scalar,
    gain1: Scalar,
    beta2: Scalar,
    gain2: Scalar,
    epsilon: Scalar,
) -> tuple[Flat, Flat, Flat]:
    """Adam; weight decay is part of the gradient (L2)."""
    direction = scale * gradient + decay * weight
    moment1_new = beta1 * moment1 + gain1 * direction
    moment2_new = beta2 * moment2 + gain2 * (direction * direction)
    weight_new = weight - rate * (moment1_new / (op.Sqrt(moment2_new) + epsilon))
    return weight_new, moment1_new, moment2_new


@script(default_opset=op)
def adamw(
    weight: Flat,
    gradient: Flat,
    moment1: Flat,
    moment2: Flat,
    rate: Scalar,
    scale: Scalar,
    shrink: Scalar,
    beta1: Scalar,
    gain1: Scalar,
    beta2: Scalar,
    gain2: Scalar,
    epsilon: Scalar,
) -> tuple[Flat, Flat, Flat]:
    """Adam with decoupled weight decay: ``shrink`` is 1 - η·λ."""
    direction = scale * gradient
    moment1_new = beta1 * moment1 + gain1 * direction
    moment2_new = beta2 * moment2 + gain2 * (direction * direction)
    weight_new = shrink * weight - rate * (moment1_new / (op.Sqrt(moment2_new) + epsilon))
    return weight_new, moment1_new, moment2_new


class Step(NamedTuple):
    """What one update of one parameter group is made with; ``number`` is 1 for the first."""

    learning_rate: float
    weight_decay: float
    number: float
    gradient_scale: float


def _sgd_scalars(optimizer: Optimizer, step: Step) -> dict[str, float]:
    """(1 - τ)·d = (1 - τ)·s·g + (1 - τ)·λ·w: dampening goes into the two factors of the direction."""
    damped = step.number > 1 and optimizer.momentum > 0
    gain = 1 - optimizer.dampening if damped else 1.0
    return {
        "rate": step.learning_rate,
        "scale": gain * step.gradient_scale,
        "decay": gain * step.weight_decay,
        "mu": optimizer.momentum,
    }


def _moment_scalars(optimizer: Optimizer, step: Step) -> dict[str, float]:
    """The second moment's correction c goes into rate and epsilon: m'/(√(v'/c) + ε) = √c · m'/(√v' + √c·ε).

    Where epsilon stands in front of the correction, ε̂, it is √c·ε already.
    """
    root = math.sqrt(1 - optimizer.beta2**step.number)
    epsilon = optimizer.epsilon if optimizer.epsilon_hat else root * optimizer.epsilon
    return {
        "rate": step.learning_rate * root / (1 - optimizer.beta1**step.number),
        "scale": step.gradient_scale,
        "beta1": optimizer.beta1,
        "gain1": 1 - optimizer.beta1,
        "beta2": optimizer.beta2,
        "gain2": 1 - optimizer.beta2,
        # Too small to change any sum, but 0/ε is 0 where 0/0 were NaN (law 3).
        "epsilon": max(epsilon, float(np.finfo(np.float32).tiny)),
    }


def _adam_scalars(optimizer: Optimizer, step: Step) -> dict[str, float]:
    return _moment_scalars(optimizer, step) | {"decay": step.weight_decay}


def _adamw_scalars(optimizer: Optimizer, step: Step) -> dict[str, float]:
    return _moment_scalars(optimizer, step) | {"shrink": 1 - step.learning_rate * step.weight_decay}


@dataclass(frozen=True)
class OptimizerSpec:
    """One of the optimizers.

    ``slots`` are its state per weight, 0.0 at first; ``function`` chooses the graph; ``host`` computes its scalars.
    """

    slots: tuple[str, ...]
    function: Callable[[Optimizer], OnnxFunction[..., Any]]
    host: Callable[[Optimizer, Step], dict[str, float]]
    bare_step: float
    """The step at which ``host`` corrects nothing; what :mod:`~.guard` corrects is fed as of this step."""

    def scalars(
        self,
        optimizer: Optimizer,
        *,
        learning_rate: float,
        weight_decay: float,
        step: float,
        gradient_scale: float = 1.0,
    ) -> dict[str, np.float32]:
        """The graph's scalar inputs by name.

        Args:
            optimizer: the recipe's table.
            learning_rate: of this step and parameter group.
            weight_decay: of this parameter group.
            step: 1 for the first update.
            gradient_scale: what the gradient buffer is multiplied by: 1/accumulate · clipping coefficient.
        """
        values = self.host(optimizer, Step(learning_rate, weight_decay, step, gradient_scale))
        return {name: np.float32(value) for name, value in values.items()}


OPTIMIZERS: dict[str, OptimizerSpec] = {
    "sgd": OptimizerSpec(("momentum",), lambda o: sgd_nesterov if o.nesterov else sgd, _sgd_scalars, 1),
    "adam": OptimizerSpec(("moment1", "moment2"), lambda o: adam, _adam_scalars, math.inf),
    "adamw": OptimizerSpec(("moment1", "moment2"), lambda o: adamw, _adamw_scalars, math.inf),
}


def update_graph(optimizer: Optimizer) -> onnx.ModelProto:
    """The update of a flat slice, as the module says.  It depends on ``name`` and ``nesterov`` alone."""
    function = OPTIMIZERS[optimizer.name].function(optimizer)
    model: onnx.ModelProto = function.to_model_proto(ir_version=_IR_VERSION)  # type: ignore[no-untyped-call]
    return model


def unscaled(model: onnx.ModelProto) -> onnx.ModelProto:
    """An update graph without its input ``scale``, for gradients that are taken as they are: 1·g is g to the bit."""
    new = ir.from_proto(model)
    (scale,) = (value for value in new.graph.inputs if value.name == "scale")
    for node, i in tuple(scale.uses()):
        gradient = node.inputs[1 - i]
        assert node.op_type == "Mul" and gradient is not None, "scale is a factor, and nothing else"
        node.outputs[0].replace_all_uses_with(gradient)
        new.graph.remove(node, safe=True)
    new.graph.inputs.remove(scale)
    return ir.to_proto(new)
