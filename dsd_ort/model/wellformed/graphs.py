"""Graphs: who makes which value, who reads it where, and what bodies are fed."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import onnx
import onnx.numpy_helper

from dsd_ort.file.limits import DEPTH, NODES, RANK, malformed, refuse_bad_name
from dsd_ort.model.wellformed.nodes import refuse_bad_node, refuse_large_shape, refuse_many_steps
from dsd_ort.model.wellformed.tensors import refuse_bad_tensor, refuse_bad_type

_A = onnx.AttributeProto
_LATEST = 2**31 - 1


def refuse_bad_graphs(model: onnx.ModelProto, where: str) -> None:
    """Raises ModelError: a graph or function of *model* that is not well-formed."""
    versions = {"": 1, **_versions(model.opset_import, where)}  # files before IR version 3 say nothing of it
    calls = {(f.domain, f.name): f for f in model.functions}
    if len(calls) < len(model.functions):
        raise malformed("two functions of the model have one name", where)
    walk = _Walk(versions, calls, where)
    walk.graph(model.graph, frozenset(), "", 0)
    for function in model.functions:
        walk.function(function)
    _refuse_recursion(calls, where)


def _versions(imports: Iterable[onnx.OperatorSetIdProto], where: str) -> dict[str, int]:
    """Domain, ``""`` being ONNX's own → version."""
    versions: dict[str, int] = {}
    for entry in imports:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if not 1 <= entry.version <= _LATEST:
            raise malformed(f"operator set {domain or 'ai.onnx'!r} has the version {entry.version}", where)
        if versions.setdefault(domain, entry.version) != entry.version:
            raise malformed(f"the model names two versions of the operator set {domain or 'ai.onnx'!r}", where)
    return versions


class _Walk:
    def __init__(
        self, versions: Mapping[str, int], functions: Mapping[tuple[str, str], onnx.FunctionProto], where: str
    ) -> None:
        self.versions, self.functions, self.where, self.count = versions, functions, where, 0

    def graph(
        self, graph: onnx.GraphProto, outer: frozenset[str], around: str, depth: int, *, in_function: bool = False
    ) -> None:
        """*outer* are the values of the graphs around this one, *around* how it is told where it stands."""
        here = f"{self.where}: {around}" if around else self.where
        if depth > DEPTH:
            raise malformed(f"bodies stand {depth} deep in each other; {DEPTH} is the most there can be", here)
        self.count += len(graph.node)
        if self.count > NODES:
            raise malformed(f"the model has more than {NODES} nodes", here)
        stored = _stored(graph, here)
        places = [_place(node, index, here) for index, node in enumerate(graph.node)]
        made = {*stored, *_fed(graph, stored, here, main=not around)}
        for node, at in zip(graph.node, places, strict=True):
            for name in filter(None, node.output):
                if name in made:
                    raise malformed(f"the value {name!r} is made twice", at, "give each value a name of its own")
                made.add(name)
        visible = outer | made
        constants = {name: node for node in graph.node if node.op_type == "Constant" for name in node.output}
        for node, at in zip(graph.node, places, strict=True):
            refuse_bad_node(node, self.versions, at, in_function=in_function)
            if unknown := next((name for name in node.input if name and name not in visible), None):
                raise malformed(f"a node reads {unknown!r}, which nothing makes", at)
            self.refuse_bad_call(node, at)
            self.bodies(node, visible, at, depth, in_function=in_function)
            _refuse_large(node, stored, constants, at)
        _refuse_bad_outputs(graph, made, here, main=not around)

    def function(self, function: onnx.FunctionProto) -> None:
        at = f"{self.where}: function {function.name}"
        if len(set(function.input)) < len(function.input):
            raise malformed("two inputs of a function have one name", at)
        as_graph = onnx.GraphProto(name=function.name, node=function.node)
        for name in function.input:
            as_graph.input.add(name=name)
        for name in function.output:
            as_graph.output.add(name=name)
        outside, self.versions = self.versions, {**self.versions, **_versions(function.opset_import, at)}
        self.graph(as_graph, frozenset(), f"function {function.name}", 0, in_function=True)
        self.versions = outside

    def refuse_bad_call(self, node: onnx.NodeProto, at: str) -> None:
        called = self.functions.get((node.domain, node.op_type))
        if called is not None and (len(node.input) > len(called.input) or len(node.output) > len(called.output)):
            has = f"{len(node.input)} inputs and {len(node.output)} outputs"
            takes = f"{len(called.input)} and {len(called.output)}"
            raise malformed(f"a call of the function {called.name!r} has {has}; it takes {takes}", at)

    def bodies(self, node: onnx.NodeProto, visible: frozenset[str], at: str, depth: int, *, in_function: bool) -> None:
        inside = {a.name: a.g for a in node.attribute if a.type == _A.GRAPH}
        inner = at.removeprefix(f"{self.where}: ")
        for name, body in inside.items():
            self.graph(body, visible, f"{inner}, {name}", depth + 1, in_function=in_function)
        for attribute in node.attribute:
            for body in attribute.graphs:
                self.graph(body, visible, f"{inner}, {attribute.name}", depth + 1, in_function=in_function)
        fed = _BODIES.get(node.op_type) if not node.domain or node.domain == "ai.onnx" else None
        for name, body in inside.items() if fed else ():
            assert fed is not None
            has, needs = _Ends(len(body.input), len(body.output)), fed(node, self.versions[""] < 9)
            if needs is None or has != needs:
                told = "" if needs is None else f", and the node feeds {needs.inputs} and takes {needs.outputs}"
                raise malformed(
                    f"the body {name!r} of {node.op_type} has {has.inputs} inputs and {has.outputs} outputs{told}", at
                )


def _stored(graph: onnx.GraphProto, here: str) -> dict[str, onnx.TensorProto]:
    """The initializers by name."""
    stored: dict[str, onnx.TensorProto] = {}
    for tensor in graph.initializer:
        at = f"{here}: initializer {tensor.name!r}"
        refuse_bad_tensor(tensor, at)
        if not tensor.name or tensor.name in stored:
            what = f"two tensors are called {tensor.name!r}" if tensor.name else "a tensor has no name"
            raise malformed(what, at)
        stored[tensor.name] = tensor
    return stored


def _fed(graph: onnx.GraphProto, stored: Container[str], here: str, *, main: bool) -> set[str]:
    """The names of the inputs."""
    seen: set[str] = set()
    for value in graph.input:
        at = f"{here}: input {value.name!r}"
        if value.name in seen or not value.name:
            raise malformed("two inputs have one name" if value.name else "an input has no name", at)
        seen.add(value.name)
        refuse_bad_value(value, at, needed=main and value.name not in stored)
    return seen


def _refuse_bad_outputs(graph: onnx.GraphProto, known: Container[str], here: str, *, main: bool) -> None:
    for value in graph.output:
        at = f"{here}: output {value.name!r}"
        refuse_bad_value(value, at, needed=False)
        if value.name not in known:
            fix = "export the model again" if main else "put an Identity between a value from outside and the output"
            raise malformed("nothing in its graph makes this output", at, fix)
    if main and len({value.name for value in graph.output}) < len(graph.output):
        raise malformed("two outputs of the model have one name", here)
    for value in graph.value_info:
        refuse_bad_value(value, f"{here}: value {value.name!r}", needed=False)


class _Ends(NamedTuple):
    inputs: int
    outputs: int


def _of_if(node: onnx.NodeProto, old: bool) -> _Ends:
    return _Ends(0, len(node.output))


def _of_loop(node: onnx.NodeProto, old: bool) -> _Ends | None:
    carried = len(node.input) - 2
    return _Ends(carried + 2, len(node.output) + 1) if carried <= len(node.output) else None


def _of_scan(node: onnx.NodeProto, old: bool) -> _Ends | None:
    scanned = next((a.i for a in node.attribute if a.name == "num_scan_inputs"), 0)
    given = len(node.input) - old  # at first, lengths of sequences came in front
    return _Ends(given, len(node.output)) if 1 <= scanned <= given and given - scanned <= len(node.output) else None


_BODIES: Mapping[str, Callable[[onnx.NodeProto, bool], _Ends | None]] = {
    "If": _of_if,
    "Loop": _of_loop,
    "Scan": _of_scan,
}
"""What the bodies of a node are fed, and what it takes from them; None where no body fits."""


def refuse_bad_value(value: onnx.ValueInfoProto, where: str, *, needed: bool) -> None:
    """Raises ModelError: a declared type that there is not, or none where it is *needed*."""
    refuse_bad_name(value.name, where)
    kind, depth = value.type, 0
    while kind.WhichOneof("value") in ("sequence_type", "optional_type", "map_type"):
        name = str(kind.WhichOneof("value"))
        kind = getattr(kind, name).value_type if name == "map_type" else getattr(kind, name).elem_type
        depth += 1
    which = kind.WhichOneof("value")
    if which is None and (needed or depth):
        raise malformed("the type of an input is not told" if needed else "a type is without its element type", where)
    if which == "tensor_type":
        if kind.tensor_type.elem_type or needed or depth:
            refuse_bad_type(kind.tensor_type.elem_type, where)
        if len(kind.tensor_type.shape.dim) > RANK:
            raise malformed(f"a value has {len(kind.tensor_type.shape.dim)} axes; {RANK} is the most", where)
        for dim in kind.tensor_type.shape.dim:
            refuse_bad_name(dim.dim_param, where)
            if dim.dim_value > _LATEST:
                raise malformed(f"an axis has the length {dim.dim_value}: no tensor is that large", where)


def _place(node: onnx.NodeProto, index: int, here: str) -> str:
    for name in (node.op_type, node.name, *node.output):
        refuse_bad_name(name, f"{here}: node {index}")
    name = node.name or "".join(node.output[:1])
    return f"{here}: node {index} ({node.op_type} {name})"


_SHAPES = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
"""Operator → which input says how much it makes."""


def _refuse_large(
    node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto], constants: Mapping[str, onnx.NodeProto], at: str
) -> None:
    """Of nodes that make as many numbers, or take as many steps, as the file says."""
    if node.domain not in ("", "ai.onnx"):
        return
    if node.op_type in _SHAPES:
        name = node.input[_SHAPES[node.op_type]] if len(node.input) > _SHAPES[node.op_type] else ""
        if (sizes := _numbers(name, stored, constants, at)) is not None:
            refuse_large_shape(node, sizes, at)
    if node.op_type == "Loop" and (steps := _numbers(node.input[0], stored, constants, at)) is not None:
        refuse_many_steps(node, steps, at)


def _numbers(
    name: str, stored: Mapping[str, onnx.TensorProto], constants: Mapping[str, onnx.NodeProto], at: str
) -> list[int] | None:
    """The whole numbers that the value *name* is in the file; None where it is computed, or stands in another file."""
    tensor = stored.get(name)
    if tensor is None:
        found = next(iter(constants[name].attribute), None) if name in constants else None
        if found is None or found.type not in (_A.TENSOR, _A.INTS, _A.INT):
            return None
        if found.type != _A.TENSOR:
            return list(found.ints) if found.type == _A.INTS else [found.i]
        tensor = found.t
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    if tensor.data_type != onnx.TensorProto.INT64 or len(tensor.dims) > 1:
        raise malformed("lengths that a node makes something of are no list of whole numbers", at)
    return [int(size) for size in np.atleast_1d(onnx.numpy_helper.to_array(tensor))]


def _refuse_recursion(functions: Mapping[tuple[str, str], onnx.FunctionProto], where: str) -> None:
    """Functions call each other, but in no circle."""
    done: set[tuple[str, str]] = set()
    for start in functions:
        path, stack = [start], [iter(_called(functions[start], functions))]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                done.add(path.pop())
                stack.pop()
            elif following in path:
                raise malformed(f"the function {following[1]!r} calls itself", f"{where}: function {following[1]}")
            elif following not in done:
                path.append(following)
                stack.append(iter(_called(functions[following], functions)))
            if len(path) > DEPTH:
                raise malformed(f"functions call each other {len(path)} deep; {DEPTH} is the most there can be", where)


def _called(
    function: onnx.FunctionProto, functions: Mapping[tuple[str, str], onnx.FunctionProto]
) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    nodes = list(function.node)
    while nodes:
        node = nodes.pop()
        if (key := (node.domain, node.op_type)) in functions:
            found.append(key)
        nodes.extend(inner for a in node.attribute if a.type == _A.GRAPH for inner in a.g.node)
    return found
