"""Initial weights, as the papers give them.

With fan_in the inputs of one output of a layer and fan_out the outputs that one input reaches (both counted with the
kernel's area):

============= ==================================== =============================================================
lecun         U(−√(3/fan_in), √(3/fan_in))         LeCun et al. 1998, Efficient BackProp, §4.6: variance 1/fan_in
he            N(0, 2/fan_out)                      He et al. 2015, arXiv 1502.01852, eq. 14
fan_in        U(−1/√fan_in, 1/√fan_in)             what Torch and PyTorch give a linear layer, bias included
zeros         0
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

from graphs.layers import Conv, Linear

Shape = tuple[int, ...]
Rule = Callable[[np.random.Generator, Shape, Shape], NDArray[np.float32]]
"""(generator, shape of the parameter, shape of its layer's weight) → the parameter's values."""


def lecun(rng: np.random.Generator, shape: Shape, weight: Shape) -> NDArray[np.float32]:
    return _uniform(rng, shape, float(np.sqrt(3 / _fan_in(weight))))


def he(rng: np.random.Generator, shape: Shape, weight: Shape) -> NDArray[np.float32]:
    values: NDArray[np.float64] = rng.standard_normal(shape) * np.sqrt(2 / _fan_out(weight))
    return values.astype(np.float32)


def fan_in(rng: np.random.Generator, shape: Shape, weight: Shape) -> NDArray[np.float32]:
    return _uniform(rng, shape, float(np.sqrt(1 / _fan_in(weight))))


def zeros(rng: np.random.Generator, shape: Shape, weight: Shape) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


def initialise(network: nn.Module, seed: int, rules: Mapping[type[nn.Module], tuple[Rule, Rule]]) -> None:
    """Gives every Conv and Linear its weight and bias by the two *rules* for its class.

    Each parameter has a generator of its own, so that values do not depend on the order in which they are read, and
    is drawn when it is first read.
    """
    layers = [module for module in network.modules() if isinstance(module, Conv | Linear)]
    streams = np.random.Generator(np.random.PCG64(seed)).spawn(len(layers))
    for layer, stream in zip(layers, streams, strict=True):
        for parameter, rule, rng in zip((layer.weight, layer.bias), rules[type(layer)], stream.spawn(2), strict=True):
            if parameter is not None:
                parameter.const_value = _drawn(partial(rule, rng, _shape(parameter), _shape(layer.weight)), parameter)


def _drawn(draw: Callable[[], NDArray[np.float32]], parameter: nn.Parameter) -> ir.LazyTensor:
    return ir.LazyTensor(
        lambda: ir.tensor(draw()), dtype=ir.DataType.FLOAT, shape=ir.Shape(_shape(parameter)), cache=True
    )


def _shape(parameter: nn.Parameter) -> Shape:
    assert parameter.shape is not None
    return parameter.shape.numpy()


def _uniform(rng: np.random.Generator, shape: Shape, bound: float) -> NDArray[np.float32]:
    return ((2 * rng.random(shape) - 1) * bound).astype(np.float32)


def _fan_in(weight: Shape) -> int:
    return int(np.prod(weight[1:]))


def _fan_out(weight: Shape) -> int:
    return weight[0] * int(np.prod(weight[2:]))
