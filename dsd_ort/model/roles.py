"""Where weights sit: which stored tensor has which role.

Operators that have weights have slots for them (``weights`` in :mod:`dsd_ort.rewrite.operators`).  What comes into a
slot may be computed: a parameter is the tensor that is stored, wherever the way from it to the slot leads only through
operators that compute from the numbers of one tensor (``PASSES``, ``CARRIES``) or of several (``JOINS``: gates of an
LSTM in another order, weight norm, low-rank updates).  Single numbers and patterns (masks, grids) that others are
joined with are no parameters (:mod:`dsd_ort.model.appearance`).  If is seen through, both its branches, and so is a
step of a Scan (:mod:`dsd_ort.rewrite.flattened`).

Add, Mul, Concat and Where say nothing about their constants, so these count by their place:

- ``norm``: a Mul by one factor a channel between two layers (layer scale, decomposed batch norm), or behind a division
  by a square root (decomposed layer norm, of any shape) or a group norm; and an Add behind such a Mul;
- ``bias``: an Add of one number a channel, behind a matrix product or convolution, or between two layers;
- ``embedding``: an Add of a larger constant between two layers (positions); a constant that a Concat or Where puts
  among the values between two layers (class and mask tokens).

An Add between two layers is not counted where it is an attention mask: a constant with an entry ≤ -100.

Whatever else is stored, in floating point, where a gradient arrives, has the role ``other``: centres, first states,
transition scores, weights behind what is no product.  Settings of operators (Resize scales, Clip bounds: ``numbers``
in the table of operators) get none, nor does anything inside a Loop that is no Scan (:mod:`dsd_ort.rewrite.loops`).
Which of all these are no parameters but constants, :mod:`dsd_ort.model.constants` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import onnx_ir as ir

from dsd_ort.file.tensors import Place
from dsd_ort.model.appearance import axes, is_even, is_mask, is_pattern, is_token, is_zero
from dsd_ort.rewrite import flow
from dsd_ort.rewrite.operators import Does, facts
from dsd_ort.rewrite.parts import bodies

ROLES = {
    "kernel": "convolution kernel",
    "matrix": "factor of a matrix product",
    "recurrent": "weights of a recurrent layer",
    "bias": "added, one number a channel",
    "norm": "scale, shift or slope of a channel: normalisation, layer scale, PRelu, peephole",
    "embedding": "table that is looked up, or added position by position",
    "other": "stored elsewhere, where a gradient arrives",
    "statistic": "running mean or variance of a batch norm; not trained by gradient",
}
PRUNABLE_ROLES = {"kernel", "matrix", "recurrent"}

_ARITHMETIC = {"Add", "Sub", "Mul", "Div"}
_FLOATING = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}


class Use(NamedTuple):
    """A place where the tensor that carries the value *name* sits as a weight."""

    name: str
    role: str
    node: ir.Node
    slot: int
    first_conv: bool = False
    normalises: bool = False
    """Whether what it meets is an input of the model, or what arithmetic with stored numbers has made of one."""

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
        self.inputs, self.outputs = list(graph.inputs), list(graph.outputs)
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
        arrives, raw = self.arrives(), self.raw()
        for node in nodes:
            for use in listed[node]:
                yield use._replace(first_conv=use.role == "kernel" and behind_product.isdisjoint(node.inputs))
            for slot in _numbers(node) if not arrives.isdisjoint(node.outputs) else ():
                value = node.inputs[slot]
                if value is not None and (name := str(value.name)) in self.places and self.is_floating(name):
                    reader = _reader(node)
                    normalises = reader.op_type in _ARITHMETIC and not raw.isdisjoint(reader.inputs)
                    yield Use(name, "other", reader, slot, normalises=normalises)
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
                    role = None if self.hides_nothing(name, node) else self.summand(name, between, directly)
                if role:
                    yield Use(name, role, node, slot)

    def arrives(self) -> set[ir.Value | None]:
        """The values that a gradient of an output arrives at."""
        found: set[ir.Value | None] = {value for value in self.outputs if value in self.varying}
        for node in reversed(self.nodes):
            if not found.isdisjoint(node.outputs):
                found.update(node.inputs[slot] for slot in _numbers(node))
        return found

    def raw(self) -> set[ir.Value | None]:
        """The inputs of the model, and what arithmetic with stored numbers makes of them."""
        found: set[ir.Value | None] = {value for value in self.inputs if value in self.varying}
        for node in self.nodes:
            data = [x for x in node.inputs if x in self.varying]
            if data and found.issuperset(data) and (node.op_type in _ARITHMETIC or Does.PASSES in facts(node).does):
                found.update(node.outputs)
        return found

    def is_floating(self, name: str) -> bool:
        """Whether the tensor that carries *name* is one of floating-point numbers."""
        return self.places[name].dtype in _FLOATING and 0 not in self.places[name].dims

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
                if node.op_type == "Gather" and self.varying.isdisjoint(node.inputs) and is_pattern(self.path, place):
                    continue  # anchors, not a table that data is looked up in
                if _is_group_norm(node) and is_even(self.path, place):
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
        place = self.places[name]
        if axes(place) and normalised:
            return "norm"
        return "norm" if axes(place) == 1 and between and not is_zero(self.path, place) else None

    def is_token(self, name: str, node: ir.Node) -> bool:
        """Whether a constant that a Concat or Where puts among other values is learned."""
        place = self.places[name]
        joined = node.op_type == "Concat" and len(place.dims) == 3 and node.attributes.get_int("axis", 0) in (1, -2)
        return is_token(self.path, place, in_sequence=joined)

    def hides_nothing(self, name: str, node: ir.Node) -> bool:
        """Whether a summand of scores in front of a Softmax is the same for all: a mask that hides none of them."""
        place, readers = self.places[name], [use.node.op_type for use in node.outputs[0].uses()]
        return axes(place) > 1 and readers == ["Softmax"] and is_even(self.path, place)

    def summand(self, name: str, between: bool, directly: str | None) -> str | None:
        """The role of a constant that is added between two layers, or *directly* behind a scale or product."""
        place = self.places[name]
        if directly and (axes(place) <= 1 or directly == "norm") and place.dims:
            return directly
        if not between or not axes(place) or is_mask(self.path, place):
            return None
        return "bias" if axes(place) == 1 else "embedding"

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
            if self.is_floating(own):
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
                    if node.op_type == "Concat" or (place.size > 1 and not is_pattern(self.path, place)):
                        yield name


def _numbers(node: ir.Node) -> Iterator[int]:
    """The inputs of *node* that a gradient of its outputs goes on to."""
    known = facts(node)
    if Does.FLAT in known.does or known.stops or bodies(node):
        return
    for slot, value in enumerate(node.inputs[: 1 if Does.LAYOUT in known.does else known.numbers]):
        numbers = value is not None and (value.dtype is None or value.dtype.is_floating_point())
        if numbers and known.weights.get(slot) != "statistic":
            yield slot


def _reader(node: ir.Node) -> ir.Node:
    """*node*, or where its numbers are only handed on, the first node behind it that computes with them."""
    while Does.PASSES in facts(node).does and (uses := node.outputs[0].uses()):
        node = next(iter(uses)).node
    return node


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
