"""The walk: node by node, from the inputs on, with the float value of each quantised one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.dequantize import numbers
from dsd_ort.graph.dequantize.table import INTEGER, PASSES, ROWS, Bias, Of, Row
from dsd_ort.graph.dequantize.values import Grid, Values, needed, optional, refusal
from dsd_ort.model.source import outline
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.quantised import RANGES

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_NOTHING, _WEIGHT = "nothing", "a float weight"


@dataclass(frozen=True)
class Dequantized:
    """A float model, and what became of the quantised one."""

    model: ir.Model
    became: dict[tuple[str, str], int]
    """Quantised operator, what took its place → how often."""
    weights: dict[str, str]
    """Float weight → the stored numbers that it stands for."""


def dequantized(path: str | Path) -> Dequantized:
    """The float model that the file at *path* stands for.

    Raises:
        ModelError: the file is no sound ONNX file.
        UnsupportedError: it has no quantised numbers, or some that nothing is known of.
    """
    walk = _Walk(outline(path))
    walk.graph(walk.model.graph)
    if not walk.became:
        what = "the model has no quantised operators, so there is nothing to make floats of"
        raise UnsupportedError(what, where=str(path), fix="train it as it is; dsd-ort inspect says what prevents that")
    walk.settle()
    return Dequantized(walk.model, dict(walk.became), walk.values.weights)


class _Walk:
    def __init__(self, model: ir.Model) -> None:
        self.model, self.values = model, Values(model)
        self.became: Counter[tuple[str, str]] = Counter()
        self.gone: list[ir.Node] = []

    def graph(self, graph: ir.Graph) -> None:
        """All nodes of *graph*, and of those inside of it."""
        for node in list(graph):
            self.node(node)
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH:
                    self.graph(attribute.as_graph())

    def node(self, node: ir.Node) -> None:
        """What becomes of *node*, by its operator."""
        operator = node.op_type if node.op_type in _PAIR else key(node)
        if operator == "QuantizeLinear":
            self._give(node, needed(node, 0), _grid(node))
        elif operator == "DequantizeLinear":
            self._dequantize(node)
        elif operator == "DynamicQuantizeLinear":
            y, scale, zero = node.outputs
            self.values.stand(y, needed(node, 0), Grid(scale, zero))
            self._done(node, _NOTHING)
        elif operator in INTEGER:
            self._integer(node, INTEGER[operator])
        elif operator == "com.microsoft.QLinearConcat":
            self._concat(node)
        elif operator in ROWS:
            self._row(node, ROWS[operator])
        elif operator in PASSES:
            self._pass(node)

    def settle(self) -> None:
        """Removes what nothing reads; what is read as quantised numbers still, or is an output, is quantised anew."""
        floats, grids = self.values.floats, self.values.grids
        for node in self.gone:
            for old in node.outputs:
                used = old.is_graph_output() or any(use.node not in self.gone for use in old.uses())
                if used and old in floats and node.op_type not in _PAIR:
                    new, grid = self.values.new(node), grids[old]
                    self._replace(old, new.QuantizeLinear(floats[old], grid.scale, grid.zero))
                    new.put_before(node)
        for node in reversed(self.gone):
            if node.graph is not None and not any(old.uses() or old.is_graph_output() for old in node.outputs):
                node.graph.remove(node, safe=True)
        RemoveUnusedNodesPass()(self.model)
        used_domains = {node.domain for node in self.model.graph.all_nodes()} | {""}
        used_domains |= {function.domain for function in self.model.functions.values()}
        for domain in [name for name in self.model.opset_imports if name not in used_domains]:
            del self.model.opset_imports[domain]

    # --- rules

    def _dequantize(self, node: ir.Node) -> None:
        q, out = needed(node, 0), node.outputs[0]
        known = self.values.known(q, _grid(node), node, str(out.name))
        if known is not None:
            self._replace(out, known)
            self._done(node, _NOTHING if q in self.values.floats else _WEIGHT)

    def _row(self, node: ir.Node, row: Row) -> None:
        if node.attributes.get_int("channels_last", 0):
            raise refusal(node, "has its channels last, in the order of one kind of processor")
        new, inputs = self.values.new(node), [self._operand(node, entry, row) for entry in row.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        attributes = {name: a.value for name, a in node.attributes.items() if name not in row.without}
        out = new.op(row.operator, *inputs, **attributes)
        if row.bias is not None and (bias := optional(node, row.bias)) is not None:
            out = new.Add(out, bias)
        new.put_before(node)
        scale = None if row.output is None else optional(node, row.output[0])
        if scale is None or row.output is None:
            self._replace(node.outputs[0], out)
            self._done(node, row.operator.removeprefix("com.microsoft."))
        else:
            self._give(node, out, Grid(scale, optional(node, row.output[1])), row.operator)

    def _concat(self, node: ir.Node) -> None:
        count = (len(node.inputs) - 2) // 3
        parts = [self._operand(node, Of(2 + 3 * i, 3 + 3 * i, 4 + 3 * i)) for i in range(count)]
        new = self.values.new(node)
        out = new.op("Concat", *parts, axis=node.attributes["axis"].as_int())
        new.put_before(node)
        self._give(node, out, Grid(needed(node, 0), optional(node, 1)), "Concat")

    def _integer(self, node: ir.Node, operator: str) -> None:
        """A product of whole numbers, a Cast and a Mul by both scales."""
        cast = _only_reader(node.outputs[0], "Cast")
        mul = _only_reader(cast.outputs[0], "Mul") if cast else None
        a, b = needed(node, 0), needed(node, 1)
        scales = _factors(mul, cast) if mul and cast and a in self.values.grids else []
        if mul is None or cast is None or not scales or (mine := self.values.grids[a].scale) not in scales:
            raise refusal(node, "is not followed by a Cast and a Mul by the scales of both factors")
        (other,) = [scale for scale in scales if scale is not mine] or [mine]
        axis = 0 if operator == "Conv" else -1
        x, w = self.values.floats[a], self.values.known(b, Grid(other, optional(node, 3), axis), node)
        if w is None:
            raise refusal(node, f"multiplies by {b.name!r}, of which nothing is known")
        new = self.values.new(node)
        out = new.op(operator, x, w, **{name: a.value for name, a in node.attributes.items()})
        new.put_before(mul)
        self._replace(mul.outputs[0], out)
        self.gone += [cast, mul]
        self._done(node, operator)

    def _pass(self, node: ir.Node) -> None:
        """The same operator, on what the numbers stand for."""
        read = [i for i, value in enumerate(node.inputs) if value in self.values.grids]
        first = node.inputs[1 if node.op_type == "Where" else 0] if node.inputs else None
        if read:
            value = node.inputs[read[0]]
            assert value is not None
            grid = self.values.grids[value]
        elif (
            first is None
            or first.dtype not in RANGES
            or constant_value(first) is None
            or (found := next(self._ahead(node.outputs[0]), None)) is None
        ):
            return
        else:
            grid = found
        for i, value in enumerate(node.inputs):
            if value is not None and (value in self.values.grids or value is first or self._is_padding(node, i)):
                node.replace_input_with(i, self.values.known(value, grid, node) or value)
        places = PASSES[node.op_type]
        for i, out in enumerate(node.outputs):
            if places is None or i in places:
                if out.is_graph_output():
                    self._quantised_end(node, out, grid)
                out.dtype = grid.scale.dtype or ir.DataType.FLOAT
                self.values.stand(out, out, grid)

    def _quantised_end(self, node: ir.Node, out: ir.Value, grid: Grid) -> None:
        """An output of the model stays one of quantised numbers."""
        new, graph = self.values.new(node), out.graph
        assert graph is not None
        end = new.QuantizeLinear(out, grid.scale, grid.zero)
        end.type, end.shape = ir.TensorType(out.dtype or ir.DataType.UINT8), out.shape
        new.put_behind(out)
        graph.outputs[:] = [end if value is out else value for value in graph.outputs]
        end.name, out.name = out.name, self.values.names.free(f"{out.name}/float")

    def _operand(self, node: ir.Node, entry: Of | Bias | int, row: Row | None = None) -> ir.Value | None:
        """What the float operator reads in the place of an input."""
        if isinstance(entry, int):
            return optional(node, entry)
        if optional(node, entry.value) is None:
            return None
        q = needed(node, entry.value)
        if isinstance(entry, Of):
            axis = entry.axis
            if node.op_type == "QGemm":
                axis = 0 if node.attributes.get_int("transB", 0) else 1
            grid = Grid(needed(node, entry.scale), optional(node, entry.zero), axis)
            known = self.values.known(q, grid, node)
            if known is None:  # of an input of the model no gradient is wanted
                new = self.values.new(node)
                known = new.DequantizeLinear(q, grid.scale, grid.zero)
                new.put_before(node)
            return known
        assert row is not None
        factors = [constant_value(needed(node, of.scale)) for of in row.inputs if isinstance(of, Of)]
        scales, stored = [scale for scale in factors if scale is not None], constant_value(q)
        if stored is None or len(scales) < len(factors):
            raise refusal(node, "adds sums that are computed at run time")
        together = np.prod(np.broadcast_arrays(*scales), axis=0) * node.attributes.get_float("alpha", 1.0)
        value = numbers.stands_for(stored, together.astype(scales[0].dtype), None)
        return self.values.store(q, value, tuple(scales))

    def _give(self, node: ir.Node, x: ir.Value, grid: Grid, operator: str = _NOTHING) -> None:
        """The node's output stands for *x*, cut to what its numbers can stand for."""
        uses = node.outputs[0].uses()
        end = all(use.node.op_type == "DequantizeLinear" and use.node.outputs[0].is_graph_output() for use in uses)
        cut = self.values.cut(node, x, grid, end=end)
        self.values.stand(node.outputs[0], cut, grid)
        maker = cut.producer()
        added = [maker.op_type] if cut is not x and maker is not None else []
        self._done(node, ", ".join([*([] if operator == _NOTHING and added else [operator]), *added]))

    def _ahead(self, value: ir.Value) -> Iterator[Grid]:
        """By which scale and zero point those read *value* who dequantise it."""
        for use in value.uses():
            if use.node.op_type == "DequantizeLinear":
                yield Grid(needed(use.node, 1), optional(use.node, 2))
            elif key(use.node) in PASSES:
                yield from self._ahead(use.node.outputs[0])
            elif row := ROWS.get(key(use.node)):
                found = (of for of in row.inputs if isinstance(of, Of) and of.value == use.idx)
                yield from (Grid(needed(use.node, of.scale), optional(use.node, of.zero)) for of in found)

    def _is_padding(self, node: ir.Node, i: int) -> bool:
        value = node.inputs[i]
        return node.op_type in ("Pad", "Concat", "Where") and value is not None and value.dtype in RANGES

    def _replace(self, old: ir.Value, new: ir.Value) -> None:
        """Who reads *old* reads *new*; an output of the model keeps its name."""
        if old.is_graph_output():
            graph = old.graph
            assert graph is not None
            if new.producer() is None or new.is_graph_output():
                maker = old.producer()
                assert maker is not None
                more = self.values.new(maker)
                new = more.Identity(new)
                more.put_before(maker)
            graph.outputs[:] = [new if value is old else value for value in graph.outputs]
            name, old.name = old.name, self.values.names.free(f"{old.name}/quantised")
            new.name = name
        new.shape = new.shape or old.shape
        if new.type is None:
            new.type = ir.TensorType(ir.DataType.FLOAT)
        ir.convenience.replace_all_uses_with(old, new)
        if old in self.values.floats:
            self.values.stand(new, self.values.floats[old], self.values.grids[old])

    def _done(self, node: ir.Node, became: str) -> None:
        self.gone.append(node)
        self.became[node.op_type, became] += 1


def _grid(node: ir.Node) -> Grid:
    """Of a QuantizeLinear or DequantizeLinear."""
    axis, block = node.attributes.get_int("axis", 1), node.attributes.get_int("block_size", 0)
    return Grid(needed(node, 1), optional(node, 2), axis, block)


def _only_reader(value: ir.Value, op_type: str) -> ir.Node | None:
    readers = [use.node for use in value.uses()]
    return readers[0] if len(readers) == 1 and readers[0].op_type == op_type and not value.is_graph_output() else None


def _factors(mul: ir.Node, cast: ir.Node) -> list[ir.Value]:
    """Both scales that a Cast's output is multiplied by; none where it is not by these."""
    others = [value for value in mul.inputs if value is not None and value is not cast.outputs[0]]
    product = others[0].producer() if others else None
    if product is None or product.op_type != "Mul":
        return []
    return [value for value in product.inputs if value is not None]
