"""Where weights sit: which stored tensor has which role.

Operators that have weights have slots for them (``weights`` in :mod:`dsd_ort.rewrite.operators`).  What comes into a
slot may be computed: a parameter is the tensor that is stored, wherever the way from it to the slot leads only through
operators that compute from the numbers of one tensor (``PASSES``, ``CARRIES``) or of several (``JOINS``: gates of an
LSTM in another order, weight norm, low-rank updates).  Single numbers and patterns (:func:`is_pattern`: masks, grids)
that others are joined with are no parameters.  If is seen through, both its branches.

Add, Mul, Concat and Where say nothing about their constants, so these count by their place:

- ``norm``: a Mul by one factor a channel between two layers (layer scale, decomposed batch norm), or behind a division
  by a square root (decomposed layer norm, of any shape) or a group norm; and an Add behind such a Mul;
- ``bias``: an Add of one number a channel, behind a matrix product or convolution, or between two layers;
- ``embedding``: an Add of a larger constant between two layers (positions); a constant that a Concat or Where puts
  among the values between two layers (class and mask tokens).

An Add between two layers is not counted where it is an attention mask: a constant with an entry ≤ -100.

So neither the normalisation of an image before the first layer nor the decoding of boxes after the last is a parameter,
and neither are constants of other operators (Resize scales, Clip bounds, epsilons, exponents), nor anything inside
Loop and Scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dsd_ort.file.tensors import Place, read, sample
from dsd_ort.rewrite import flow
from dsd_ort.rewrite.operators import Does, facts

ROLES = {
    "kernel": "convolution kernel",
    "matrix": "factor of a matrix product",
    "recurrent": "weights of a recurrent layer",
    "bias": "added, one number a channel",
    "norm": "scale, shift or slope of a channel: normalisation, layer scale, PRelu, peephole",
    "embedding": "table that is looked up, or added position by position",
    "statistic": "running mean or variance of a batch norm; not trained by gradient",
}
PRUNABLE_ROLES = {"kernel", "matrix", "recurrent"}

_FLOATING = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}


class Use(NamedTuple):
    """A place where the tensor that carries the value *name* sits as a weight."""

    name: str
    role: str
    node: ir.Node
    slot: int
    first_conv: bool = False

    @property
    def layer(self) -> str:
        return f"{self.node.op_type} {self.node.name or self.node.outputs[0].name}"


def uses(graph: ir.Graph, places: Mapping[str, Place], path: Path) -> Iterator[Use]:
    """Every use of a stored tensor as a weight, in graph order.

    Args:
        graph: the main graph, without calls of functions.
        places: where the tensors stand that carry its values.
        path: the model file.
    """
    return _Finder(graph, places, path).uses()


class _Finder:
    """The rules that stand at the top of this file."""

    def __init__(self, graph: ir.Graph, places: Mapping[str, Place], path: Path) -> None:
        self.places, self.path = places, path
        self.nodes = flow.live(graph)
        self.varying = flow.varying(graph, self.nodes, places)
        self.found: dict[ir.Value, tuple[str, ...]] = {}

    def uses(self) -> Iterator[Use]:
        nodes = self.nodes
        listed = {node: list(self.listed(node)) for node in nodes}
        layers = {node for node, uses in listed.items() if uses}
        products = {node for node, uses in listed.items() if any(use.role in PRUNABLE_ROLES for use in uses)}
        behind, ahead = flow.behind(nodes, layers), flow.ahead(nodes, layers)
        behind_product = flow.behind(nodes, {node for node in nodes if PRUNABLE_ROLES & {*_slots(node).values()}})
        scales: set[ir.Node | None] = set()
        for node in nodes:
            for use in listed[node]:
                yield use._replace(first_conv=use.role == "kernel" and behind_product.isdisjoint(node.inputs))
            for slot, name, x in self.operands(node):
                between, origin = x in behind and node.outputs[0] in ahead, _origin(x)
                role: str | None
                if node.op_type == "Mul":
                    role = self.factor(name, between, _is_normalised(origin))
                    scales |= {node} if role else set()
                elif node.op_type in ("Concat", "Where"):
                    role = "embedding" if between and self.is_token(name, node) else None
                else:
                    directly = "norm" if origin in scales else "bias" if origin in products else None
                    role = self.summand(name, between, directly)
                if role:
                    yield Use(name, role, node, slot)

    def listed(self, node: ir.Node) -> Iterator[Use]:
        """The weights of an operator that has slots for them."""
        if node.op_type != "Gather" and self.varying.isdisjoint(node.inputs):
            return
        for slot, role in _slots(node).items():
            for name in self.carriers(node.inputs[slot]) if slot < len(node.inputs) else ():
                place = self.places[name]
                if role == "statistic" and all(value.name != name for value in _back(node.inputs[slot])):
                    continue  # computed from others, it cannot follow the batch
                if node.op_type in ("Gather", "Einsum") and len(place.dims) < 2:
                    continue  # a list of numbers that is picked from, or an outer product's factor
                if node.op_type == "Gather" and self.varying.isdisjoint(node.inputs) and self.is_pattern(place):
                    continue  # anchors, not a table that data is looked up in
                if _is_group_norm(node) and np.ptp(read(self.path, place)) == 0:
                    continue  # ones and zeros; the scale and shift of the channels follow
                yield Use(name, role, node, slot)

    def operands(self, node: ir.Node) -> Iterator[tuple[int, str, ir.Value]]:
        """Where stored tensors meet varying values outside of slots: a tensor's slot and name, and such a value."""
        if node.domain or node.op_type not in ("Add", "Mul", "Concat", "Where"):
            return
        data = range(1, 3) if node.op_type == "Where" else range(len(node.inputs))
        varying = [x for x in (node.inputs[slot] for slot in data) if x is not None and x in self.varying]
        for slot in data if varying else ():
            for name in self.carriers(node.inputs[slot]):
                yield slot, name, varying[0]

    def factor(self, name: str, between: bool, normalised: bool) -> str | None:
        """The role of a constant factor: a scale has one number a channel, behind a normalisation also more."""
        axes = _axes(self.places[name])
        if axes and normalised:
            return "norm"
        return "norm" if axes == 1 and between and read(self.path, self.places[name]).any() else None

    def is_token(self, name: str, node: ir.Node) -> bool:
        """Whether a constant that a Concat or Where puts among other values is learned: a vector or several.

        Not where all entries are equal (padding), but for one vector in a sequence, as it is before any training.
        """
        place = self.places[name]
        if not _axes(place) or self.is_pattern(place) or self.is_mask(place):
            return False
        sequence = node.op_type == "Concat" and len(place.dims) == 3 and node.attributes.get_int("axis", 0) in (1, -2)
        return bool(np.ptp(read(self.path, place))) or (sequence and _axes(place) == 1)

    def summand(self, name: str, between: bool, directly: str | None) -> str | None:
        """The role of a constant that is added between two layers, or *directly* behind a scale or product."""
        place = self.places[name]
        axes = _axes(place)
        if directly and (axes <= 1 or directly == "norm") and place.dims:
            return directly
        if not between or not axes or self.is_mask(place):
            return None
        return "bias" if axes == 1 else "embedding"

    def is_mask(self, place: Place) -> bool:
        """Whether a constant hides positions from attention: it has entries that softmax turns into zeros."""
        return not bool((read(self.path, place) > -100).all())

    def is_pattern(self, place: Place) -> bool:
        """Whether a constant was written down, not learned: few numbers again and again, or whole numbers only."""
        if place.size < 2:
            return False
        values = sample(self.path, place, _LOOKED_AT)
        few = values.size // 4
        if ir.DataType(place.dtype).bitwidth == 16:  # of which there are only a few thousand about the size of weights
            few = min(few, 256)
        different = np.unique(values).size
        return different > 1 and (different <= few or bool((values == np.round(values)).all()))

    def carriers(self, value: ir.Value | None) -> tuple[str, ...]:
        """The stored floating-point tensors whose numbers a constant *value* is computed from."""
        if value is None or value in self.varying:
            return ()
        if value not in self.found:
            self.found[value] = tuple(dict.fromkeys(self._carriers(value)))
        return self.found[value]

    def _carriers(self, value: ir.Value) -> Iterator[str]:
        own = value.name or ""
        if own in self.places:
            place = self.places[own]
            if place.dtype in _FLOATING and 0 not in place.dims:
                yield own
            return
        node = value.producer()
        if node is None or node.domain:
            return
        does = facts(node).does
        if (Does.PASSES | Does.CARRIES) & does:
            yield from self.carriers(node.inputs[0])
        elif Does.JOINS in does:
            for x in node.inputs[1:] if node.op_type == "Where" else node.inputs:
                for name in self.carriers(x):
                    place = self.places[name]
                    if node.op_type == "Concat" or (place.size > 1 and not self.is_pattern(place)):
                        yield name


_LOOKED_AT = 1 << 16
"""Entries, evenly spread, that a large tensor is judged by."""


def _axes(place: Place) -> int:
    """Along how many axes a tensor has more than one entry."""
    return sum(dim > 1 for dim in place.dims)


def _slots(node: ir.Node) -> Mapping[int, str]:
    """Input → role, for an operator that has weights."""
    return facts(node).weights


def _back(value: ir.Value | None) -> Iterator[ir.Value]:
    """*value*, and before it the values that it is made from by nodes that change no number."""
    while value is not None:
        yield value
        node = value.producer()
        value = node.inputs[0] if node is not None and Does.PASSES in facts(node).does else None


def _origin(value: ir.Value) -> ir.Node | None:
    """The node that computes *value*, seen through nodes that change no number."""
    *_, first = _back(value)
    return first.producer()


def _is_group_norm(node: ir.Node) -> bool:
    """Whether *node* normalises groups of channels, as exporters write GroupNormalization."""
    x = node.inputs[0].producer() if node.inputs and node.inputs[0] else None
    around = [x, *(use.node for use in node.outputs[0].uses())]
    return node.op_type == "InstanceNormalization" and all(n is not None and n.op_type == "Reshape" for n in around)


def _is_normalised(node: ir.Node | None) -> bool:
    """Whether *node* computes x / √y or x · (1 / √y), or is a normalisation in one piece."""
    if node is None or node.domain or node.op_type not in ("Div", "Mul"):
        return node is not None and node.op_type == "InstanceNormalization"
    factors = [_origin(factor) if factor is not None else None for factor in node.inputs]
    if node.op_type == "Div":
        return factors[1] is not None and factors[1].op_type == "Sqrt"
    return any(factor is not None and factor.op_type in ("Reciprocal", "Pow") for factor in factors)
