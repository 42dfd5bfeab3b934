"""Types and shapes that fit the operators, as far as ONNX's own inference can tell: ONNX Runtime runs nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import onnx
import onnx.shape_inference

from dsd_ort.file.limits import malformed

_NO_ERRORS = ("external", "(op_type:MeanVarianceNormalization)", "tensor(bfloat16)")
"""In errors that are none: of values that stand in another file, which inference does not read; of an operator whose
function in ONNX its inference cannot follow; of a type that schemas took up late, and that is computed in float32 here.
"""
_SAID = re.compile(r"\(op_type:([^,)]*)(?:, node name: (.*?))?\): (?:\[\w+\] )?(.*)")


def refuse_bad_shapes(model: onnx.ModelProto, where: str) -> None:
    """Raises ModelError: shapes or types that a node of *model*, which is sound otherwise, cannot have; a cycle.

    What the file declares of values in the middle does not count: what runs is right, whatever is declared.
    """
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    for graph in _graphs(asked.graph):
        _sort(graph, where)
        del graph.value_info[:]
        made = {name for node in graph.node for name in node.output}
        for value in graph.output:
            if value.name in made:  # what a branch takes from outside, only its declaration says
                value.ClearField("type")
    try:
        known = onnx.shape_inference.infer_shapes(asked, check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, MemoryError) as error:
        said = str(error)
        if not any(one in said for one in _NO_ERRORS):
            what, at = _first(said)
            raise malformed(f"shapes or types do not fit {what}", f"{where}: {at}" if at else where) from error
        known = asked
    for graph in _graphs(known.graph):
        _refuse_bad_recurrence(graph, where)


_Dims = tuple[int | None, ...]
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def _refuse_bad_recurrence(graph: onnx.GraphProto, where: str) -> None:
    """What inference does not look at, nor ONNX Runtime before it reads behind the end: weights of recurrent layers."""
    shapes: dict[str, _Dims] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info):
        if value.type.tensor_type.HasField("shape"):
            sizes = (d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim)
            shapes.setdefault(value.name, tuple(sizes))
    for node in graph.node:
        if node.op_type not in _GATES or node.domain:
            continue
        numbers = {a.name: a.i for a in node.attribute if a.type == onnx.AttributeProto.INT}
        ways = 2 if any(a.name == "direction" and a.s == b"bidirectional" for a in node.attribute) else 1
        states = numbers.get("hidden_size")
        rows = None if states is None else _GATES[node.op_type] * states
        both, peeps = (None if rows is None else 2 * rows), (None if states is None else 3 * states)
        features = (shapes.get(node.input[0]) or (None,))[-1]
        expected: list[_Dims] = [(None, None, features), (ways, rows, features), (ways, rows, states), (ways, both)]
        expected += [(None,), (ways, None, states), (ways, None, states), (ways, peeps)]
        for name, wanted in zip(node.input, expected, strict=False):
            dims = shapes.get(name)
            if dims is not None and not _fits(dims, wanted):
                what = f"{node.op_type} wants {list(wanted)} of {name!r}, None being any, and it is {list(dims)}"
                raise malformed(what, f"{where}: {node.op_type} {node.name or ''.join(node.output[:1])}")


def _fits(dims: _Dims, wanted: _Dims) -> bool:
    pairs = zip(dims, wanted, strict=False)
    return len(dims) == len(wanted) and all(a is None or b is None or a == b for a, b in pairs)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """*graph* and all bodies in it, the innermost first."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)
    yield graph


def _sort(graph: onnx.GraphProto, where: str) -> None:
    """Puts nodes, in place, behind those that they, or bodies in them, read from: ONNX wants it, not all files do."""
    maker = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    before = [{maker[name] for name in _reads(node) if name in maker} for node in graph.node]
    if all(earlier < i for i, reads in enumerate(before) for earlier in reads):
        return
    try:
        order = list(TopologicalSorter(dict(enumerate(before))).static_order())
    except CycleError as error:
        raise malformed("the graph has a cycle: a node reads what is computed from it", where) from error
    nodes = [onnx.NodeProto() for _ in order]
    for new, number in zip(nodes, order, strict=True):
        new.CopyFrom(graph.node[number])
    del graph.node[:]
    graph.node.extend(nodes)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            own = {name for inner in attribute.g.node for name in inner.output}
            own.update(one.name for one in (*attribute.g.input, *attribute.g.initializer))
            names = [name for inner in attribute.g.node for name in _reads(inner)]
            yield from (name for name in (*names, *(value.name for value in attribute.g.output)) if name not in own)


def _first(text: str) -> tuple[str, str]:
    """Of what ONNX said, the first operator with the innermost reason; and where that is."""
    found = [
        match.groups() for match in _SAID.finditer(text.replace("[ShapeInferenceError] Inference error(s): ", "\n"))
    ]
    told = [(kind, name, reason) for kind, name, reason in found if reason]
    if not told:
        return f"the graph: {' '.join(text.split())[:300]}", ""
    kind, name, reason = told[0]
    return f"{kind}: {reason[:300]}", f"{kind} {name}" if name else ""
