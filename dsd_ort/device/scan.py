"""A Scan, and how often each part of its body has to be computed; :mod:`~.unroll` says what for."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import onnx_ir as ir

from dsd_ort.rewrite.operators import Does, facts, key
from dsd_ort.rewrite.parts import bodies
from dsd_ort.rewrite.shapes import sizes_of


class Kind(Enum):
    """How often something in a body is computed."""

    FIXED = "once"
    SEQUENCE = "for all steps at once"
    STEP = "at each step"


class Scan:
    """What one computes, and how often each part of it has to be.

    Args:
        node: the Scan; its body is in order.
    """

    def __init__(self, node: ir.Node) -> None:
        self.node, self.body = node, node.attributes["body"].as_graph()
        count = node.attributes.get_int("num_scan_inputs", 0)
        self.states = len(node.inputs) - count
        stacked = len(node.outputs) - self.states
        self.input_axes, self.input_turned = self._flags("input", count)
        self.output_axes, self.output_turned = self._flags("output", stacked)
        self.length = self._length()
        self.nodes = self._live()
        self.kinds: dict[ir.Value, Kind] = dict.fromkeys(self.body.inputs[: self.states], Kind.STEP)
        self.turned: dict[ir.Value, bool] = {}
        """SEQUENCE values → do the steps begin at the end?"""
        for value, turned in zip(self.body.inputs[self.states :], self.input_turned, strict=True):
            self.kinds[value], self.turned[value] = Kind.SEQUENCE, bool(turned)
        for inner in self.nodes:
            self._sort_in(inner)

    def _flags(self, side: str, count: int) -> tuple[Sequence[int], Sequence[int]]:
        """Axis and direction of each."""
        get = self.node.attributes.get_ints
        axes, directions = get(f"scan_{side}_axes", [0] * count), get(f"scan_{side}_directions", [0] * count)
        return axes, directions

    def _length(self) -> int:
        """T; 0 if it is not known."""
        lengths = {
            value.shape[axis]
            for value, axis in zip(self.node.inputs[self.states :], self.input_axes, strict=True)
            if value is not None and value.shape is not None
        }
        (length,) = lengths if len(lengths) == 1 else (0,)
        return length if isinstance(length, int) else 0

    def _live(self) -> list[ir.Node]:
        """The nodes of the body that an output in use depends on, at this step or a later one, in order."""
        pairs = list(zip(self.body.outputs, self.node.outputs, strict=True))
        wanted = {inner for inner, outer in pairs if outer.uses() or outer.is_graph_output()}
        while True:
            needed: set[ir.Value | None] = set(wanted)
            nodes = []
            for node in reversed(self.body):
                if not needed.isdisjoint(node.outputs):
                    nodes.append(node)
                    needed.update(node.inputs)
            states = zip(self.body.inputs[: self.states], self.body.outputs, strict=False)
            later = {after for before, after in states if before in needed}
            if later <= wanted:
                self.wanted = wanted
                return nodes[::-1]
            wanted |= later

    def _sort_in(self, node: ir.Node) -> None:
        kinds = [self.kind(value) for value in node.inputs]
        if Kind.STEP in kinds or Does.RANDOM in facts(node).does:
            kind = Kind.STEP
        elif Kind.SEQUENCE not in kinds:
            kind = Kind.FIXED
        else:
            sequences = [value for value in node.inputs if value is not None and self.kind(value) is Kind.SEQUENCE]
            directions = {self.turned[value] for value in sequences}
            kind = Kind.SEQUENCE if len(directions) == 1 and self._for_all_steps(node, sequences) else Kind.STEP
            if kind is Kind.SEQUENCE:
                self.turned |= dict.fromkeys(node.outputs, *directions)
        self.kinds |= dict.fromkeys(node.outputs, kind)

    def _for_all_steps(self, node: ir.Node, sequences: Sequence[ir.Value]) -> bool:
        """Does *node* compute the same with one more axis in front of *sequences*, which then broadcast the same?"""
        if Does.ENTRYWISE not in facts(node).does and key(node) not in ("Identity", "Split"):
            return False
        first_only = node.op_type in {"Clip", "Split"}
        if (first_only and list(sequences) != [node.inputs[0]]) or None in map(sizes_of, node.outputs):
            return False
        rank, broadcast = rank_of(node.outputs[0]), sequences if first_only else filter(None, node.inputs)
        return {rank} == set(map(rank_of, sequences)) and all(0 <= rank_of(value) <= rank for value in broadcast)

    def kind(self, value: ir.Value | None) -> Kind:
        return Kind.FIXED if value is None else self.kinds.get(value, Kind.FIXED)

    def steps(self) -> list[ir.Node]:
        """The nodes that come T times."""
        return [node for node in self.nodes if self.kind(node.outputs[0]) is Kind.STEP]

    def obstacle(self) -> str | None:
        """Why it has to stay a Scan."""
        if not self.length:
            return "its number of steps is not known"
        if any(bodies(node) for node in self.nodes):
            return "its body branches or loops"
        crossing = (*self.body.inputs[self.states :], *self.body.outputs[self.states :])
        known = all(size is not None and 0 not in size for size in map(sizes_of, crossing))
        return None if known else "sizes in its body are not known"

    def size(self) -> int:
        """About how many nodes it becomes."""
        cuts = (len(self.node.inputs) + len(self.node.outputs)) * (1 + self.length // 8)
        return len(self.nodes) + len(self.steps()) * self.length + cuts


def rank_of(value: ir.Value) -> int:
    """-1 if it is not known."""
    return -1 if value.shape is None else len(value.shape)
