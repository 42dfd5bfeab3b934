"""Operators on x + iε·d, where NumPy's own are not those that carry a slope along; see :mod:`~dsd_ort.proof.evaluator`.

What chooses, chooses by the real part, and what is constant piece by piece has no slope.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[Any]

CHOOSING = {
    *("ArgMax", "ArgMin", "ConstantOfShape", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less"),
    *("LessOrEqual", "NonMaxSuppression", "NonZero", "Not", "Shape", "Size"),
}
"""Of which nothing that is differentiated comes out."""
UNKNOWN = {"DFT", "GlobalLpPool", "LpPool", "MelWeightMatrix", "Range", "STFT"}
"""Whose own versions lose imaginary parts on the way."""


def _with_slope(value: Array, slope: Array, x: Array) -> tuple[Array]:
    """f(x) + iε·f'(x)·d."""
    return (value + 1j * (slope * x.imag),)


def _flat(function: Callable[[Array], Array]) -> Callable[..., tuple[Array]]:
    return lambda node, x: (function(x.real).astype(np.complex128),)


def _abs(node: Any, x: Array) -> tuple[Array]:
    return (x * np.sign(x.real),)


def _erf(node: Any, x: Array) -> tuple[Array]:
    value = np.asarray(np.frompyfunc(math.erf, 1, 1)(x.real), np.float64)
    return _with_slope(value, 2 / math.sqrt(math.pi) * np.exp(-(x.real**2)), x)


def _sigmoid(node: Any, x: Array) -> tuple[Array]:
    falling = np.exp(-np.abs(x.real))  # overflows nowhere
    value = np.where(x.real >= 0, 1, falling) / (1 + falling)
    return _with_slope(value, falling / (1 + falling) ** 2, x)


def _gelu(node: Any, x: Array, *bias: Array) -> tuple[Array]:
    x = x + bias[0] if bias else x
    return (x * (0.5 + 0.5 * _erf(node, x / math.sqrt(2))[0]),)


def _softplus(node: Any, x: Array) -> tuple[Array]:
    return _with_slope(np.logaddexp(x.real, 0), _sigmoid(node, x)[0].real, x)


def _cast(node: Any, x: Array, *like: Array) -> tuple[Array]:
    to = like[0].dtype if like else ir.DataType(node.to).numpy()
    return (x if to.kind in "fc" else x.real.astype(to),)


def _mean_square(x: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.mean(x * x, axis=axes, keepdims=True))


def _instance_norm(node: Any, x: Array, scale: Array, bias: Array) -> tuple[Array]:
    axes, each = tuple(range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
    centred = x - x.mean(axis=axes, keepdims=True)
    deviation = np.sqrt(_mean_square(centred, axes) + (node.epsilon or 1e-5))
    return (scale.reshape(each) * centred / deviation + bias.reshape(each),)


def _reduce_l1(node: Any, x: Array, *axes: Any) -> tuple[Array]:
    return _reduced(node, _abs(node, x)[0], axes)


def _reduce_l2(node: Any, x: Array, *axes: Any) -> tuple[Array]:
    return (np.sqrt(_reduced(node, x * x, axes)[0]),)


def _reduced(node: Any, x: Array, axes: tuple[Any, ...]) -> tuple[Array]:
    given = axes[0] if axes and axes[0] is not None else getattr(node, "axes", None)
    over = None if given is None or not len(given) else tuple(int(axis) for axis in np.asarray(given).flat)
    if over is None and getattr(node, "noop_with_empty_axes", False):
        return (x,)
    return (np.asarray(x.sum(axis=over, keepdims=bool(node.keepdims))),)


OPERATORS: dict[str, Callable[..., tuple[Array, ...]]] = {
    "Abs": _abs,
    "BiasGelu": _gelu,
    "Cast": _cast,
    "CastLike": _cast,
    "Ceil": _flat(np.ceil),
    "Erf": _erf,
    "Floor": _flat(np.floor),
    "Gelu": _gelu,
    "InstanceNormalization": _instance_norm,
    "ReduceL1": _reduce_l1,
    "ReduceL2": _reduce_l2,
    "Round": _flat(np.rint),
    "Sigmoid": _sigmoid,
    "Sign": _flat(np.sign),
    "Softplus": _softplus,
}
"""Operator → what it makes of complex inputs; its node has the attributes."""
