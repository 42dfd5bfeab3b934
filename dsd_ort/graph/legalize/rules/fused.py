"""Operators that ONNX Runtime's optimizers leave in a file, in terms of those that they were made from.

They are expanded wherever they stand, before the gradient path is known: what they expand to has rules of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx.defs
import onnx_ir as ir

from dsd_ort.rewrite.autograd import operator
from dsd_ort.rewrite.nodes import Operand
from dsd_ort.rewrite.operators import OPERATORS, Does
from dsd_ort.rewrite.site import Site


def _activated(site: Site, y: ir.Value, parameters: Sequence[float] | None = None) -> ir.Value:
    """*y* behind the node's activation, whose *parameters* are attributes of their own where they are not given."""
    attributes = site.node.attributes
    name = attributes.get_string("activation", "")
    if parameters is not None and name == "Clip":
        return site.Clip(y, *(float(bound) for bound in parameters))
    if not name:
        return y
    known = OPERATORS.get(name)
    if known is None or Does.ACTIVATION not in known.does:
        raise site.refusal(f"with the activation {name} has no rule", "save the model with a lower optimization level")
    keys = sorted(onnx.defs.get_schema(name).attributes)  # FusedConv's activation_params come in this order
    if parameters is None:
        given = {key: attributes.get_float(f"activation_{key}", None) for key in keys}
    else:
        given = dict(zip(keys, parameters, strict=False))
    return site.op(name, y, **{key: value for key, value in given.items() if value is not None})


def conv(site: Site) -> ir.Value:
    """Conv, Add of the fourth input, activation"""
    parameters = site.node.attributes.get_floats("activation_params", [])
    inputs = _trimmed(site.input(0), site.input(1), site.optional(2))
    y = site.Conv(*inputs, **site.attributes("activation", "activation_params"))
    z = site.optional(3)
    return _activated(site, y if z is None else site.Add(y, z), list(parameters))


def _trimmed(*inputs: ir.Value | None) -> list[Operand]:
    """*inputs* without the absent ones at the end."""
    count = max(i + 1 for i, value in enumerate(inputs) if value is not None)
    return list(inputs[:count])


def gemm(site: Site) -> ir.Value:
    """Gemm and activation"""
    own = [name for name in site.node.attributes if name.startswith("activation")]
    inputs = _trimmed(site.input(0), site.input(1), site.optional(2))
    return _activated(site, site.Gemm(*inputs, **site.attributes(*own)))


def matmul(site: Site) -> ir.Value:
    """``α · MatMul`` of factors that Transpose turned"""
    turned = any(name.startswith("trans") and attr.as_int() for name, attr in site.node.attributes.items())
    if turned and any(site.rank(site.input(i)) < 2 for i in range(2)):
        raise site.refusal("of a vector with trans is computed wrongly by ONNX Runtime", "write it as a MatMul")
    factors = [_turned(site, site.input(i), side) for i, side in enumerate("AB")]
    product = site.MatMul(*factors)
    alpha = site.node.attributes.get_float("alpha", 1.0)
    return product if alpha == 1 else site.Mul(product, alpha)


def _turned(site: Site, factor: ir.Value, side: str) -> ir.Value:
    """*factor* with its first axis moved behind the batch axes (``transBatch``), then the last two exchanged."""
    attributes = site.node.attributes
    batch, last = (bool(attributes.get_int(f"trans{kind}{side}", 0)) for kind in ("Batch", ""))
    if not (batch or last):
        return factor
    rank = site.rank(factor)
    axes = list(range(rank))
    if batch:
        axes = [*axes[1:-1], 0, axes[-1]]
    if last:
        axes[-2:] = axes[:-3:-1]
    return site.Transpose(factor, perm=axes) if axes != sorted(axes) else factor


def simplified_layer_norm(site: Site) -> Sequence[ir.Value]:
    """``x / √(mean x² + ε) · scale``"""
    attributes = site.node.attributes
    return _by_root_mean_square(
        site, site.input(0), site.input(1), attributes.get_int("axis", -1), attributes.get_float("epsilon", 1e-5)
    )


def _by_root_mean_square(
    site: Site, x: ir.Value, scale: ir.Value, axis: int, epsilon: float
) -> tuple[ir.Value, ir.Value]:
    axes = list(range(axis, 0 if axis < 0 else site.rank(x)))
    root = site.Sqrt(site.Add(site.ReduceMean(site.Pow(x, 2.0), axes, keepdims=1), epsilon))
    return site.Mul(site.Div(x, root), scale), site.Reciprocal(root)


def _summed(site: Site, x: ir.Value, *others: ir.Value | None) -> ir.Value:
    for other in others:
        if other is not None:
            x = site.Add(x, other)
    return x


def skip_layer_norm(site: Site) -> Sequence[ir.Value]:
    """LayerNormalization of the sum of input, skip and bias"""
    total = _summed(site, site.input(0), site.input(1), site.optional(4))
    return *_layer_norm(site, total, site.input(2), site.optional(3)), total


def _layer_norm(site: Site, x: ir.Value, scale: ir.Value, bias: ir.Value | None) -> Sequence[ir.Value]:
    epsilon = site.node.attributes.get_float("epsilon", 1e-12)
    return site.several("LayerNormalization", 3, *_trimmed(x, scale, bias), axis=-1, epsilon=epsilon)


def skip_simplified_layer_norm(site: Site) -> Sequence[ir.Value]:
    """``t / √(mean t² + ε) · scale`` of the sum t of input and skip"""
    if site.optional(3) is not None:
        raise site.refusal("with a bias is computed wrongly by ONNX Runtime's CPU kernel", "add the bias by an Add")
    total = _summed(site, site.input(0), site.input(1))
    epsilon = site.node.attributes.get_float("epsilon", 1e-12)
    y, inverse = _by_root_mean_square(site, total, site.input(2), -1, epsilon)
    return y, site.Identity(inverse), site.Identity(inverse), total


def embed_layer_norm(site: Site) -> Sequence[ir.Value]:
    """LayerNormalization of the sum of looked up words, positions and segments"""
    words, segments, mask = site.input(0), site.optional(1), site.optional(7)
    positions: Operand = site.optional(8)
    if positions is None and isinstance(length := site.shape(words)[1], int):
        positions = list(range(length))
    elif positions is None:
        positions = site.Range(0, site.Squeeze(site.Shape(words, start=1, end=2), [0]), 1)
    total = site.Add(site.Gather(site.input(2), words), site.Gather(site.input(3), positions))
    if segments is not None:
        total = site.Add(total, site.Gather(site.input(4), segments))
    y = _layer_norm(site, total, site.input(5), site.input(6))[0]
    kept = site.Equal(site.Cast(words if mask is None else mask, to=ir.DataType.INT64), 1)
    count = site.ReduceSum(site.Cast(kept, to=ir.DataType.INT32), [1], keepdims=0)
    return y, count if mask is not None else site.Mul(count, np.zeros((), np.int32)), total


def fast_gelu(site: Site) -> ir.Value | None:
    """FastGelu behind an Add"""
    bias = site.optional(1)
    return None if bias is None else site.op("com.microsoft.FastGelu", site.Add(site.input(0), bias))


def expand_dims(site: Site) -> ir.Value:
    """Unsqueeze"""
    axis = site.known(site.input(1), "axis").item()
    return site.Unsqueeze(site.input(0), [int(axis)])


def gather_nd(site: Site) -> ir.Value:
    """ONNX's GatherND"""
    return site.GatherND(site.input(0), site.Cast(site.input(1), to=ir.DataType.INT64))


def pad(site: Site) -> ir.Value:
    """ONNX's Pad"""
    pads, value = site.input(1), site.optional(2)
    known = ir.convenience.get_const_tensor(pads)
    widths: Operand = site.Reshape(pads, [-1]) if known is None else known.numpy().ravel()
    fill = [] if value is None else [site.Reshape(value, np.empty(0, np.int64))]
    return site.Pad(site.input(0), widths, *fill, **site.attributes())


def same(site: Site) -> ir.Value:
    """ONNX's operator of the same name"""
    inputs = _trimmed(*(site.optional(i) for i in range(len(site.node.inputs))))
    return site.op(site.node.op_type, *inputs, **site.attributes())


def conv_transpose(site: Site) -> ir.Value:
    """ConvTranspose with its pads written out"""
    pads = site.known(site.input(2), "pads").ravel().tolist()
    inputs = _trimmed(site.input(0), site.input(1), site.optional(3))
    return site.ConvTranspose(*inputs, **site.attributes("pads"), pads=pads)


def distances(site: Site) -> ir.Value:
    """``√Σ(a - b)²`` of all pairs of rows, whose derivative is taken as 0 where two rows are equal"""
    a, b = site.Unsqueeze(site.input(0), [1]), site.Unsqueeze(site.input(1), [0])
    squares = site.ReduceSum(site.Pow(site.Sub(a, b), 2.0), [-1], keepdims=0)
    if site.node.attributes.get_string("metric", "sqeuclidean") == "sqeuclidean":
        return squares
    apart = site.Cast(site.Greater(squares, 0.0), to=ir.DataType.FLOAT)
    return site.Mul(site.Sqrt(site.Add(squares, site.Sub(1.0, apart))), apart)


# y = x⁻¹, so dy = -y·dx·y, and the gradient is -yᵀ·g·yᵀ.
_INVERSE = operator(
    "Inverse",
    forward="(x) => (y) { y = com.microsoft.Inverse (x) }",
    backward="(dy, y) => (dx) { t = com.microsoft.FusedMatMul <alpha = -1.0, transA = 1> (y, dy) "
    "dx = com.microsoft.FusedMatMul <transB = 1> (t, y) }",
)


def inverse(site: Site) -> Sequence[ir.Value]:
    """The same, with the gradient ``-yᵀ · dy · yᵀ``"""
    return site.call(_INVERSE, site.input(0))
