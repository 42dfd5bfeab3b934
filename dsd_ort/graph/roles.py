"""Where weights sit: which stored tensor has which role.

Operators that have weights have slots for them (:data:`SLOTS`).  Identity, Transpose, Reshape, Squeeze, Unsqueeze,
Flatten and Cast may stand between a tensor and the operator that uses it.

Add and Mul say nothing about their constants, so these count by their place:

- ``norm``: a Mul by one factor a channel between two layers (layer scale, decomposed batch norm), or behind a division
  by a square root (decomposed layer norm) or a group norm; and an Add behind such a Mul;
- ``bias``: an Add of one number a channel, behind a matrix product or convolution, or between two layers;
- ``embedding``: an Add of a larger constant between two layers (positions).

An Add between two layers is not counted where it is an attention mask: a constant with an entry ≤ -100.

So neither the normalisation of an image before the first layer nor the decoding of boxes after the last is a parameter,
and neither are constants of other operators (Resize scales, Clip bounds, epsilons, exponents), nor anything inside
If, Loop and Scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.places import Place, read

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

_RECURRENT = {1: "recurrent", 2: "recurrent", 3: "bias"}
_KERNEL = {1: "kernel", 2: "bias"}
_SCALE = {1: "norm", 2: "norm"}
_PRODUCT = {0: "matrix", 1: "matrix"}
SLOTS: dict[tuple[str, str], dict[int, str]] = {
    ("", "Conv"): _KERNEL,
    ("", "ConvTranspose"): _KERNEL,
    ("", "DeformConv"): {1: "kernel", 3: "bias"},
    ("", "Gemm"): {**_PRODUCT, 2: "bias"},
    ("", "MatMul"): _PRODUCT,
    ("", "LSTM"): {**_RECURRENT, 7: "norm"},
    ("", "GRU"): _RECURRENT,
    ("", "RNN"): _RECURRENT,
    ("", "Gather"): {0: "embedding"},
    ("", "BatchNormalization"): {1: "norm", 2: "norm", 3: "statistic", 4: "statistic"},
    ("", "LayerNormalization"): _SCALE,
    ("", "SimplifiedLayerNormalization"): {1: "norm"},
    ("", "RMSNormalization"): {1: "norm"},
    ("", "InstanceNormalization"): _SCALE,
    ("", "GroupNormalization"): _SCALE,
    ("", "PRelu"): {1: "norm"},
    ("com.microsoft", "FusedConv"): _KERNEL,
    ("com.microsoft", "FusedMatMul"): _PRODUCT,
    ("com.microsoft", "FusedGemm"): {**_PRODUCT, 2: "bias"},
    ("com.microsoft", "Attention"): {1: "matrix", 2: "bias"},
    ("com.microsoft", "BiasGelu"): {1: "bias"},
    ("com.microsoft", "FastGelu"): {1: "bias"},
    ("com.microsoft", "SkipLayerNormalization"): {2: "norm", 3: "norm", 4: "bias"},
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): {2: "norm", 3: "bias"},
    ("com.microsoft", "EmbedLayerNormalization"): {
        2: "embedding",
        3: "embedding",
        4: "embedding",
        5: "norm",
        6: "norm",
    },
}
"""Operator → input → role: where weights sit."""
_PASSING = {"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast"}
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
        self.nodes = _live(graph)
        self.varying = _varying(graph, self.nodes, places)

    def uses(self) -> Iterator[Use]:
        nodes = self.nodes
        listed = {node: list(self.listed(node)) for node in nodes}
        layers = {node for node, uses in listed.items() if uses}
        products = {node for node, uses in listed.items() if any(use.role in PRUNABLE_ROLES for use in uses)}
        behind, ahead = _behind(nodes, layers), _ahead(nodes, layers)
        behind_product = _behind(nodes, {node for node in nodes if PRUNABLE_ROLES & {*_slots(node).values()}})
        scales: set[ir.Node | None] = set()
        for node in nodes:
            for use in listed[node]:
                yield use._replace(first_conv=use.role == "kernel" and behind_product.isdisjoint(node.inputs))
            for slot, name, x in self.operands(node):
                between, origin = x in behind and node.outputs[0] in ahead, _origin(x)
                if node.op_type == "Mul":
                    role = self.factor(name) if between or _is_normalised(origin) else None
                    scales |= {node} if role else set()
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
            if slot < len(node.inputs) and (name := self.carrier(node.inputs[slot])):
                if node.op_type in ("Gather", "Einsum") and len(self.places[name].dims) < 2:
                    continue  # a list of numbers that is picked from, or an outer product's factor
                if _is_group_norm(node) and np.ptp(read(self.path, self.places[name])) == 0:
                    continue  # ones and zeros; the scale and shift of the channels follow
                yield Use(name, role, node, slot)

    def operands(self, node: ir.Node) -> Iterator[tuple[int, str, ir.Value]]:
        """Of an Add or Mul of a stored tensor and a varying value: the tensor's slot and name, and the value."""
        if node.domain or node.op_type not in ("Add", "Mul"):
            return
        for slot, x in ((0, node.inputs[1]), (1, node.inputs[0])):
            if x is not None and x in self.varying and (name := self.carrier(node.inputs[slot])):
                yield slot, name, x

    def factor(self, name: str) -> str | None:
        """The role of a constant factor that stands where a scale can be: one number a channel."""
        return "norm" if _axes(self.places[name]) == 1 else None

    def summand(self, name: str, between: bool, directly: str | None) -> str | None:
        """The role of a constant that is added between two layers, or *directly* behind a scale or product."""
        place = self.places[name]
        axes = _axes(place)
        if directly and axes <= 1 and place.dims:
            return directly
        if not between or not axes or self.is_mask(place):
            return None
        return "bias" if axes == 1 else "embedding"

    def is_mask(self, place: Place) -> bool:
        """Whether a constant hides positions from attention: it has entries that softmax turns into zeros."""
        return place.dtype == ir.DataType.FLOAT and not bool((read(self.path, place) > -100).all())

    def carrier(self, value: ir.Value | None) -> str | None:
        """The stored floating-point tensor that *value* is, through nodes that change no number."""
        if value is None or value in self.varying:
            return None
        name = next((v.name for v in _back(value) if v.name in self.places), None)
        if name is None:
            return None
        place = self.places[name]
        return name if place.dtype in _FLOATING and 0 not in place.dims else None


def _axes(place: Place) -> int:
    """Along how many axes a tensor has more than one entry."""
    return sum(dim > 1 for dim in place.dims)


def _slots(node: ir.Node) -> dict[int, str]:
    """Input → role, for an operator that has weights."""
    if node.op_type == "Einsum" and not node.domain:
        return dict.fromkeys(range(len(node.inputs)), "matrix")
    return SLOTS.get((node.domain, node.op_type), {})


def _back(value: ir.Value | None) -> Iterator[ir.Value]:
    """*value*, and before it the values that it is made from by nodes that change no number."""
    while value is not None:
        yield value
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type in _PASSING and not node.domain else None


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


def _live(graph: ir.Graph) -> list[ir.Node]:
    """The nodes that an output depends on, in graph order."""
    needed: set[ir.Value | None] = set(graph.outputs)
    live = []
    for node in reversed(graph):
        if not needed.isdisjoint(node.outputs):
            live.append(node)
            needed.update(node.inputs)
            for inner in _inner_nodes(node):
                needed.update(inner.inputs)
    return live[::-1]


def _inner_nodes(node: ir.Node) -> Iterator[ir.Node]:
    """The nodes of If's, Loop's or Scan's bodies; they read values of the graph around them too."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from ir.traversal.RecursiveGraphIterator(attribute.as_graph())


def _varying(graph: ir.Graph, nodes: list[ir.Node], places: Mapping[str, Place]) -> set[ir.Value]:
    """The values that are not constant: they depend on an input of the model, or on chance."""
    varying = {value for value in graph.inputs if value.name not in places}
    for node in nodes:
        fixed = node.op_type == "Constant" or (
            any(value is not None for value in node.inputs)
            and varying.isdisjoint(node.inputs)
            and not node.op_type.startswith("Random")
            and not any(True for _ in _inner_nodes(node))
        )
        if not fixed:
            varying.update(node.outputs)
    return varying


def _behind(nodes: list[ir.Node], marked: set[ir.Node]) -> set[ir.Value]:
    """The values that depend on a marked node."""
    found: set[ir.Value] = set()
    for node in nodes:
        if node in marked or not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return found


def _ahead(nodes: list[ir.Node], marked: set[ir.Node]) -> set[ir.Value | None]:
    """The values that a marked node depends on."""
    found: set[ir.Value | None] = set()
    for node in reversed(nodes):
        if node in marked or not found.isdisjoint(node.outputs):
            found.update(node.inputs)
    return found
