"""Initial weights, as the papers give them.

With fan_in the inputs of one output of a layer and fan_out the outputs that one input reaches (both counted with the
kernel's area):

============= ==================================== =============================================================
lecun         U(−√(3/fan_in), √(3/fan_in))         LeCun et al. 1998, Efficient BackProp, §4.6: variance 1/fan_in
he            N(0, 2/fan_out)                      He et al. 2015, arXiv 1502.01852, eq. 14
he_in         N(0, 2/fan_in)                       the same, eq. 10: where in and out differ much, what goes in counts
fan_in        U(−1/√fan_in, 1/√fan_in)             what Torch and PyTorch give a linear layer, bias included
uniform(b)    U(−b, b)                             0.1: NeuralTalk; 1/√units: PyTorch's recurrent layers
zeros         0
positive      0.2                                  biases of the Caffe Model Zoo's GoogLeNet: ReLUs start open
============= ==================================== =============================================================

Values are drawn in float64 and rounded once to float32: where a platform's logarithm differs from another's in the
last bit of float64, the float32 does not.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript import nn

Shape = tuple[int, ...]
Rule = Callable[[np.random.Generator, Shape, Shape], NDArray[np.float32]]
"""(generator, shape of the parameter, shape of its layer's weight) → the parameter's values."""


def lecun(rng: np.random.Generator, shape: Shape, weight: Shape) -> NDArray[np.float32]:
    return _uniform(rng, shape, float(np.sqrt(3 / _fan_in(weight))))


def he(rng: np.random.Generator, shape: Shape, weight: Shape) -> NDArray[np.float32]:
    return _normal(rng, shape, float(np.sqrt(2 / _fan_out(weight))))


def he_in(rng: np.random.Generator, shape: Shape, weight: Shape) -> NDArray[np.float32]:
    return _normal(rng, shape, float(np.sqrt(2 / _fan_in(weight))))


def fan_in(rng: np.random.Generator, shape: Shape, weight: Shape) -> NDArray[np.float32]:
    return _uniform(rng, shape, float(np.sqrt(1 / _fan_in(weight))))


def uniform(bound: float) -> Rule:
    return lambda rng, shape, weight: _uniform(rng, shape, bound)


def zeros(rng: np.random.Generator, shape: Shape, weight: Shape) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


def positive(rng: np.random.Generator, shape: Shape, weight: Shape) -> NDArray[np.float32]:
    return np.full(shape, 0.2, np.float32)


def initialise(network: nn.Module, seed: int, rules: Mapping[type[nn.Module], tuple[Rule, ...]]) -> None:
    """Gives the layers that have no values yet theirs: *rules* has one for each parameter of a class, in their order.

    The first parameter is the layer's weight.  Each parameter has a generator of its own, so that values do not depend
    on the order in which they are read, and is drawn when it is first read.
    """
    own = ((module, [*module.parameters(recurse=False)]) for module in network.modules())
    layers = [(layer, parameters) for layer, parameters in own if any(p.const_value is None for p in parameters)]
    streams = np.random.Generator(np.random.PCG64(seed)).spawn(len(layers))
    for (layer, parameters), stream in zip(layers, streams, strict=True):
        shape = _shape(parameters[0])
        # A layer that was made without a bias has fewer parameters than its class has rules.
        for parameter, rule, rng in zip(parameters, rules[type(layer)], stream.spawn(len(parameters)), strict=False):
            parameter.const_value = _drawn(partial(rule, rng, _shape(parameter), shape), parameter)


def _drawn(draw: Callable[[], NDArray[np.float32]], parameter: nn.Parameter) -> ir.LazyTensor:
    return ir.LazyTensor(
        lambda: ir.tensor(draw()), dtype=ir.DataType.FLOAT, shape=ir.Shape(_shape(parameter)), cache=True
    )


def _shape(parameter: nn.Parameter) -> Shape:
    assert parameter.shape is not None
    return parameter.shape.numpy()


def _uniform(rng: np.random.Generator, shape: Shape, bound: float) -> NDArray[np.float32]:
    return ((2 * rng.random(shape) - 1) * bound).astype(np.float32)


def _normal(rng: np.random.Generator, shape: Shape, deviation: float) -> NDArray[np.float32]:
    values = rng.standard_normal(shape)
    values *= deviation  # in place: VGG's largest layer is of 0.8 GB in float64
    return values.astype(np.float32)


def _fan_in(weight: Shape) -> int:
    return int(np.prod(weight[1:]))


def _fan_out(weight: Shape) -> int:
    return weight[0] * int(np.prod(weight[2:]))
