"""Products that have a weight as a factor: which axes of it are its outputs and inputs, and what it meets.

==============  =======================  ======================  =================================
operator        weight                   outputs, inputs         what it meets, and its features
==============  =======================  ======================  =================================
MatMul          ``[…, I, O]``            last, last but one      the first factor, its last axis
                ``[…, O, I]`` · x        last but one, last      not known by axes alone
Gemm            by transA and transB     as these say            the other factor
Conv            ``[O, I/groups, …]``     0, 1                    the image, axis 1
ConvTranspose   ``[I, O, …]``            1, 0                    the image, axis 1
LSTM, GRU, RNN  ``[D, gates·O, I]``      1, 2                    of W the sequence, its last axis
==============  =======================  ======================  =================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import onnx_ir as ir


class Product(NamedTuple):
    """What a weight is in the node that it is a factor of."""

    outputs: int
    """The axis of the weight, where the node reads it."""
    inputs: int
    data: int | None = None
    """Which of the node's inputs it meets; None where that does not say which features the weight's inputs are."""
    leading: int | None = None
    """The shape of those is ``[…, I]``; or ``[leading, I, …]``, of which 0 is any length."""
    groups: int = 1


def _matmul(node: ir.Node, slot: int) -> Product:
    turned = (node.attributes.get_int("transA", 0), node.attributes.get_int("transB", 0))[slot]  # of FusedMatMul
    if slot == 0:
        return Product(-1, -2) if turned else Product(-2, -1)
    known = None if node.attributes.get_int("transA", 0) else 0
    return Product(-2, -1, known) if turned else Product(-1, -2, known)


def _gemm(node: ir.Node, slot: int) -> Product:
    left, right = node.attributes.get_int("transA", 0), node.attributes.get_int("transB", 0)
    if slot == 0:
        return Product(left, 1 - left, 1, None if right else 1)
    return Product(1 - right, right, 0, 1 if left else None)


def _conv(node: ir.Node, _: int) -> Product:
    return Product(0, 1, 0, 0, node.attributes.get_int("group", 1))


def _transposed(node: ir.Node, _: int) -> Product | None:
    return Product(1, 0, 0, 0) if node.attributes.get_int("group", 1) == 1 else None


def _recurrent(_: ir.Node, slot: int) -> Product:
    return Product(1, 2, 0 if slot == 1 else None)


PRODUCTS: dict[str, Callable[[ir.Node, int], Product | None]] = {
    "MatMul": _matmul,
    "FusedMatMul": _matmul,
    "TransposeMatMul": _matmul,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "Conv": _conv,
    "FusedConv": _conv,
    "DeformConv": lambda node, slot: Product(0, 1),
    "ConvTranspose": _transposed,
    "Attention": lambda node, slot: Product(1, 0, 0),
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
HANDS_ON = ("Identity", "Cast", "Transpose")
"""Operators between a stored tensor and the product that keep its axes, or say where they go."""


def product(node: ir.Node, slot: int) -> Product | None:
    """What the input *slot* of *node* is in it; None where that is no such product."""
    return PRODUCTS[node.op_type](node, slot) if node.op_type in PRODUCTS else None


def axes(node: ir.Node, slot: int, rank: int) -> tuple[int, int] | None:
    """The axes of outputs and inputs of the stored tensor, of *rank* axes, that *node* reads at *slot*."""
    found = product(node, slot)
    if found is None or rank < 2:
        return None
    pair, value = [axis % rank for axis in (found.outputs, found.inputs)], node.inputs[slot]
    while value is not None and (before := value.producer()) is not None:
        if before.op_type == "Transpose":
            order = before.attributes.get_ints("perm", list(reversed(range(rank))))
            if len(order) != rank:
                return None
            pair = [order[axis] for axis in pair]
        elif before.op_type not in HANDS_ON:
            return (pair[0], pair[1]) if before.op_type in ("Constant", "ConstantOfShape") else None
        value = before.inputs[0]
    return pair[0], pair[1]
