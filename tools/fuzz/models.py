"""Mutated models: of the message's parts, and of its bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.helper
from google.protobuf.message import DecodeError

from tools.fuzz import seeds
from tools.fuzz.mutations import BAD_NAMES, NUMBERS, broken

Model = onnx.ModelProto
_OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""})
_CODES = (0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 14, 16, 17, 20, 21, 22, 23, 25, 99, -1, 2**31 - 1)


def _graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    inner = [a.g for node in graph.node for a in node.attribute if a.type == a.GRAPH]
    return [graph, *(one for g in inner for one in _graphs(g))]


def _graph(model: Model, rng: Random) -> onnx.GraphProto:
    return rng.choice(_graphs(model.graph))


def _node(model: Model, rng: Random) -> onnx.NodeProto:
    nodes = [node for graph in _graphs(model.graph) for node in graph.node]
    return rng.choice(nodes) if nodes else model.graph.node.add(op_type="Relu", input=["x"], output=["y"])


def _tensor(model: Model, rng: Random) -> onnx.TensorProto:
    graphs = _graphs(model.graph)
    inside = [a.t for graph in graphs for node in graph.node for a in node.attribute if a.type == a.TENSOR]
    found = [tensor for graph in graphs for tensor in graph.initializer] + inside
    return rng.choice(found) if found else model.graph.initializer.add(name="w", data_type=1)


def _value(model: Model, rng: Random) -> onnx.ValueInfoProto:
    found = [value for graph in _graphs(model.graph) for value in (*graph.input, *graph.output)]
    return rng.choice(found) if found else model.graph.value_info.add(name="x")


def _names(model: Model) -> list[str]:
    graphs = _graphs(model.graph)
    made = [name for graph in graphs for node in graph.node for name in node.output]
    return made + [one.name for graph in graphs for one in (*graph.input, *graph.initializer)] or ["x"]


def dims(model: Model, rng: Random) -> None:
    tensor = _tensor(model, rng)
    sizes = list(tensor.dims)
    if sizes and rng.random() < 0.6:
        sizes[rng.randrange(len(sizes))] = rng.choice(NUMBERS)
    elif rng.random() < 0.5:
        sizes.insert(rng.randrange(len(sizes) + 1), rng.choice(NUMBERS))
    elif rng.random() < 0.5:
        sizes = [1] * rng.choice((9, 33, 65, 1000))
    else:
        rng.shuffle(sizes)
        sizes = sizes[1:] if rng.random() < 0.5 else sizes
    tensor.ClearField("dims")
    tensor.dims.extend(sizes)


def reshaped(model: Model, rng: Random) -> None:
    """Another rank, with as many numbers."""
    tensor = _tensor(model, rng)
    count = int(np.prod(list(tensor.dims), dtype=np.int64)) if tensor.dims else 1
    tensor.ClearField("dims")
    tensor.dims.extend(rng.choice(([count], [1, count], [count, 1, 1], [1, 1, 1, count], [])))


def element_type(model: Model, rng: Random) -> None:
    _tensor(model, rng).data_type = rng.choice(_CODES)


def payload(model: Model, rng: Random) -> None:
    tensor = _tensor(model, rng)
    what = rng.randrange(5)
    if what == 0:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif what == 1:
        tensor.raw_data += bytes(rng.choice((1, 3, 4, 1000)))
    elif what == 2:
        tensor.float_data.extend([1.0] * rng.choice((1, 5)))
    elif what == 3:
        tensor.string_data.extend([b"\xff\x00", b"text"])
    else:
        tensor.raw_data = np.frombuffer(tensor.raw_data, np.uint8).copy().tobytes()
        tensor.int64_data.append(rng.choice(NUMBERS))


def declared(model: Model, rng: Random) -> None:
    """Of an input or output: type, rank or size."""
    kind = _value(model, rng).type
    what = rng.randrange(6)
    if what == 0:
        kind.tensor_type.elem_type = rng.choice(_CODES)
    elif what == 1:
        kind.tensor_type.ClearField("shape")
    elif what == 2 and kind.tensor_type.shape.dim:
        rng.choice(list(kind.tensor_type.shape.dim)).dim_value = rng.choice(NUMBERS)
    elif what == 3:
        kind.tensor_type.shape.dim.add().dim_param = rng.choice(BAD_NAMES)
    elif what == 4 and kind.tensor_type.shape.dim:
        del kind.tensor_type.shape.dim[rng.randrange(len(kind.tensor_type.shape.dim)) :]
    else:
        {
            0: kind.sequence_type.elem_type.tensor_type.SetInParent,
            1: kind.optional_type.elem_type.tensor_type.SetInParent,
            2: kind.map_type.value_type.tensor_type.SetInParent,
            3: kind.Clear,
        }[rng.randrange(4)]()


def renamed(model: Model, rng: Random) -> None:
    """A value has the name of another, or a bad one, wherever it is read, or in one place only."""
    old = rng.choice(_names(model))
    new = rng.choice((*BAD_NAMES, *_names(model), ""))
    once = rng.random() < 0.4
    for graph in _graphs(model.graph):
        for node in graph.node:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name == old and not (once and rng.random() < 0.5):
                        names[i] = new
        for one in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            if one.name == old and not (once and rng.random() < 0.5):
                one.name = new


def node_names(model: Model, rng: Random) -> None:
    name = rng.choice(("same", *BAD_NAMES))
    for graph in _graphs(model.graph):
        for node in graph.node:
            if rng.random() < 0.7:
                node.name = name


def attribute(model: Model, rng: Random) -> None:
    node = _node(model, rng)
    if not node.attribute or rng.random() < 0.2:
        new = node.attribute.add(
            name=rng.choice(("axis", "axes", "kernel_shape", "to", "value", "perm", "body", "odd"))
        )
        new.type, new.i = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 77)), rng.choice(NUMBERS)
        return
    found = rng.choice(list(node.attribute))
    what = rng.randrange(8)
    if what == 0:
        found.type = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14))
    elif what == 1:
        found.i = rng.choice(NUMBERS)
        if found.ints:
            found.ints[rng.randrange(len(found.ints))] = rng.choice(NUMBERS)
    elif what == 2:
        found.ints.extend([rng.choice(NUMBERS)] * rng.choice((1, 5)))
    elif what == 3:
        found.ClearField("ints")
    elif what == 4:
        node.attribute.remove(found)
    elif what == 5:
        node.attribute.add().CopyFrom(found)
    elif what == 6:
        found.name = rng.choice((*BAD_NAMES, "axis", "perm"))
    else:
        found.ref_attr_name = "other"


def operator(model: Model, rng: Random) -> None:
    node = _node(model, rng)
    if rng.random() < 0.8:
        node.op_type = rng.choice((*_OPERATORS, *BAD_NAMES))
    else:
        node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "ai.onnx", "nobody", *BAD_NAMES))


def inputs(model: Model, rng: Random) -> None:
    node = _node(model, rng)
    what = rng.randrange(5)
    if what == 0 and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif what == 1:
        node.input.append(rng.choice(_names(model)))
    elif what == 2 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(("", "nowhere", *_names(model)))
    elif what == 3:
        shuffled = list(node.input)
        rng.shuffle(shuffled)
        node.input[:] = shuffled
    else:
        del node.input[:]


def outputs(model: Model, rng: Random) -> None:
    node = _node(model, rng)
    what = rng.randrange(4)
    if what == 0 and node.output:
        del node.output[rng.randrange(len(node.output))]
    elif what == 1:
        node.output.append(rng.choice(("new", "", *_names(model))))
    elif what == 2 and node.output:
        node.output[rng.randrange(len(node.output))] = rng.choice(("", "other", *_names(model)))
    else:
        graph = _graph(model, rng)
        if rng.random() < 0.5 and graph.output:
            del graph.output[rng.randrange(len(graph.output))]
        else:
            graph.output.add(name=rng.choice(("nowhere", *_names(model))))


def nodes(model: Model, rng: Random) -> None:
    graph = _graph(model, rng)
    if not graph.node:
        return
    what = rng.randrange(4)
    at = rng.randrange(len(graph.node))
    if what == 0:
        del graph.node[at]
    elif what == 1:
        graph.node.add().CopyFrom(graph.node[at])
    elif what == 2:
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
        rng.shuffle(kept)
        del graph.node[:]
        graph.node.extend(kept)
    elif graph.node[at].input:  # a cycle
        graph.node[at].input[0] = rng.choice([name for node in graph.node for name in node.output] or ["x"])


def initializers(model: Model, rng: Random) -> None:
    graph = _graph(model, rng)
    what = rng.randrange(5)
    if what == 0 and graph.initializer:
        graph.initializer.add().CopyFrom(rng.choice(list(graph.initializer)))
    elif what == 1 and graph.initializer:
        del graph.initializer[rng.randrange(len(graph.initializer))]
    elif what == 2 and graph.initializer:
        graph.input.add(name=rng.choice(list(graph.initializer)).name)
    elif what == 3:
        graph.input.add().CopyFrom(_value(model, rng))
    else:
        sparse = graph.sparse_initializer.add()
        sparse.dims.extend([rng.choice(NUMBERS)])
        sparse.values.name = rng.choice(_names(model))


def versions(model: Model, rng: Random) -> None:
    what = rng.randrange(4)
    if what == 0:
        model.ir_version = rng.choice((0, 1, 2, 3, 4, 99, -1, 2**40))
    elif what == 1 and model.opset_import:
        model.opset_import[0].version = rng.choice((0, -1, 1, 5, 7, 11, 13, 25, 999, 2**40))
    elif what == 2:
        model.opset_import.add(
            domain=rng.choice(("", "ai.onnx", "com.microsoft", *BAD_NAMES)), version=rng.choice(NUMBERS)
        )
    else:
        del model.opset_import[:]


def nested(model: Model, rng: Random) -> None:
    """Bodies in bodies, deeper than anybody needs."""
    names = [value.name for value in model.graph.output] or ["y"]
    inner = onnx.helper.make_node("Identity", [rng.choice(_names(model))], ["deepest"])
    value = "deepest"
    for depth in range(rng.choice((3, 20, 40, 90, 400))):
        branches = {}
        for key in ("then_branch", "else_branch")[: 2 if depth < 3 else 1]:
            graph = onnx.GraphProto(name=f"g{depth}")
            graph.node.append(inner)
            graph.output.add(name=value)
            branches[key] = graph
        value = f"d{depth}"
        inner = onnx.NodeProto(op_type="If", input=[names[0]], output=[value])
        for key, graph in branches.items():
            inner.attribute.add(name=key, type=onnx.AttributeProto.GRAPH).g.CopyFrom(graph)
    model.graph.node.append(inner)
    model.graph.output.add(name=value)


def functions(model: Model, rng: Random) -> None:
    """A function of the model's own, of which something is wrong."""
    made = model.functions.add(name="F", domain="own", input=["a"], output=["b"])
    made.opset_import.add(domain="", version=rng.choice((17, 5, 0)))
    what = rng.randrange(4)
    calls = {"op_type": "F", "domain": "own"} if what == 0 else {"op_type": rng.choice(("Relu", "Nothing"))}
    made.node.add(input=["a" if what != 1 else "nowhere"], output=["b" if what != 2 else "c"], **calls)
    node = _node(model, rng)
    node.op_type, node.domain = "F", "own"
    model.opset_import.add(domain="own", version=1)


def external(model: Model, rng: Random) -> None:
    tensor = _tensor(model, rng)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    if not tensor.external_data:
        tensor.ClearField("raw_data")
        tensor.external_data.add(key="location", value=seeds.EXTERNAL)
    places = (
        "/etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "../secret.bin",
        "a/../../secret.bin",
        "link.bin",
        "loop.bin",
        "fifo.bin",
        "folder",
        "missing.bin",
        "model.onnx",
        "",
        "a\0b",
        "x" * 5000,
        *BAD_NAMES,
    )
    key = rng.choice(("location", "location", "offset", "length", "checksum", *BAD_NAMES[:1]))
    value = rng.choice(places) if key == "location" else str(rng.choice((*NUMBERS, "1e3", "x", "", " 4", "٤")))
    for entry in tensor.external_data:
        if entry.key == key:
            entry.value = value
            return
    tensor.external_data.add(key=key, value=value)


STRUCTURE: tuple[Callable[[Model, Random], None], ...] = (
    dims,
    reshaped,
    element_type,
    payload,
    declared,
    renamed,
    node_names,
    attribute,
    operator,
    inputs,
    outputs,
    nodes,
    initializers,
    versions,
    nested,
    functions,
    external,
)
_RARE = {nested, functions, versions}
_WEIGHTS = [1 if change in _RARE else 4 for change in STRUCTURE]


def make(folder: Path, rng: Random) -> tuple[str, list[tuple[str, ...]]]:
    """Writes a case; what was done to what, and the commands to run."""
    name = rng.choice(list(seeds.MODELS))
    model = Model()
    model.CopyFrom(seeds.MODELS[name])
    done: list[str] = []
    if rng.random() < 0.7:
        for change in rng.choices(STRUCTURE, _WEIGHTS, k=rng.choice((1, 1, 1, 2, 3))):
            done.append(change.__name__)
            try:
                change(model, rng)
            except (ValueError, TypeError, IndexError, DecodeError):  # what protobuf itself does not write
                done.append("refused by protobuf")
        content = model.SerializeToString()
    else:
        content, done = broken(model.SerializeToString(), rng), ["bytes"]
    (folder / "model.onnx").write_bytes(content)
    (folder / "sound.onnx").write_bytes(seeds.MODELS[name].SerializeToString())
    (folder / seeds.EXTERNAL).write_bytes(seeds.EXTERNAL_BYTES)
    (folder / "folder").mkdir()
    (folder / "link.bin").symlink_to("/etc/passwd")
    (folder / "loop.bin").symlink_to("loop.bin")
    os.mkfifo(folder / "fifo.bin")
    (folder.parent / "secret.bin").write_bytes(bytes(1000))
    arrays: dict[str, Any] = seeds.arrays(name)
    np.savez(folder / "data.npz", **arrays)
    commands = [
        ("inspect", "model.onnx"),
        ("prepare", "model.onnx", "-o", "run"),
        ("evaluate", "model.onnx", "--data", "data.npz"),
        ("verify", "model.onnx", "sound.onnx"),
        ("verify", "sound.onnx", "model.onnx"),
    ]
    return f"{name}: {', '.join(done)}", commands
