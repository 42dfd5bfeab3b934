"""The user's ONNX file, read once and never changed: its parameters and its digest.

A *parameter* is a float32 tensor of the main graph that sits where weights sit (:data:`SLOTS`) on a path to an output.
It is kept in one of three ways: an initializer, a Constant node, or a ConstantOfShape node with a constant shape.
Identity, Transpose, Reshape, Squeeze, Unsqueeze, Flatten and Cast may stand between it and the operator that uses it.

Add and Mul say nothing about their constants, so these count by their place:

- ``norm``: a Mul by one factor a channel between two layers (layer scale, decomposed batch norm), or behind a division
  by a square root (decomposed layer norm) or a group norm; and an Add behind such a Mul;
- ``bias``: an Add of one number a channel, behind a matrix product or convolution, or between two layers;
- ``embedding``: an Add of a larger constant between two layers (positions).

An Add between two layers is not counted where it is an attention mask: a constant with an entry ≤ -100.

So neither the normalisation of an image before the first layer nor the decoding of boxes after the last is a parameter,
and neither are constants of other operators (Resize scales, Clip bounds, epsilons, exponents), nor anything inside
If, Loop and Scan.  Two tensors that are the same bytes (``Identity(initializer)``, equal places in an external file)
are tied: one parameter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from dsd_ort.errors import ModelError, RunError, UnsupportedError
from dsd_ort.graph import wire

Floats = npt.NDArray[np.float32]

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


class Filled(NamedTuple):
    """A ConstantOfShape node with a constant shape: *dims* full of *value*."""

    node: wire.Node
    dims: tuple[int, ...]
    dtype: int
    value: float


Place = wire.Tensor | Filled


@dataclass(frozen=True)
class Parameter:
    """A tensor that training changes."""

    name: str
    """The graph value that carries it: an initializer's name, or a Constant or ConstantOfShape node's output."""
    shape: tuple[int, ...]
    role: str
    layer: str
    """Operator and name of the first node that uses it, for people: ``Conv conv1``."""
    storage: str
    """``initializer``, ``constant`` or ``constant-of-shape``."""
    first_conv: bool = False
    """A kernel that a model input reaches through no other matrix product."""
    aliases: tuple[str, ...] = ()
    """Other values that are always equal to it."""

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def prunable(self) -> bool:
        return self.role in PRUNABLE_ROLES


@dataclass(frozen=True)
class Source:
    """An ONNX file and what was found in it.  No weight is in memory."""

    path: Path
    digest: str
    """``sha256:…`` over the model file, and over names and bytes of its external-data files."""
    model: ir.Model
    """Large tensors are external tensors that point into the files.  Never modified."""
    parameters: tuple[Parameter, ...]
    """What gradients train, in the order in which the graph uses it."""
    statistics: tuple[Parameter, ...]
    """Running statistics of batch norms."""
    places: Mapping[str, Place]
    """Where the tensors of the main graph stand."""
    file: wire.File
    files: tuple[Path, ...]
    """The model file, then its external-data files."""
    stamps: tuple[tuple[int, int], ...]
    """Size and time of change of each of the files when they were read."""

    def value(self, name: str) -> Floats:
        """The weights of the parameter or statistic *name*: a read-only f32 array of its shape, read from the file now.

        Raises:
            RunError: the file changed after it was loaded.
        """
        self.require_unchanged()
        return _value(self.path, self.places[name])

    def require_unchanged(self) -> None:
        """Raises RunError if one of the files changed after it was loaded."""
        for file, stamp in zip(self.files, self.stamps, strict=True):
            if not file.is_file() or _stamp(file) != stamp:
                raise RunError("the model changed while it was in use", where=str(file), fix="start again with it")


def load(path: str | Path) -> Source:
    """Reads an ONNX file.

    Raises:
        ModelError: no such file, not ONNX, truncated, without a graph or outputs, external data missing, too short or
            outside of the model's folder.
        UnsupportedError: a weight that is not float32, or sparse; a statistic that is also something else.
    """
    path = Path(path)
    with wire.mapped(path) as data:
        file = wire.read(data, path)
        files = (path, *_external_files(file))
        stamps = tuple(_stamp(file) for file in files)
        slim = wire.without_payloads(data, file)
    if file.sparse:
        raise UnsupportedError(
            "sparse tensors are not supported", where=f"{path}: {file.sparse[0]}", fix="export with dense weights"
        )
    model = _deserialize(slim, file)
    places = _places(model.graph, file)
    found = list(_parameters(model, places, file))
    return Source(
        path,
        _digest(files),
        model,
        tuple(p for p in found if p.role != "statistic"),
        tuple(p for p in found if p.role == "statistic"),
        places,
        file,
        files,
        stamps,
    )


def training_copy(source: Source) -> ir.Model:
    """A copy in which each parameter and statistic is a graph input under its name, behind the model's own inputs.

    Constant, ConstantOfShape and Identity nodes that only carry parameters, unused nodes and unused initializers are
    gone, the model's own functions are inlined, and all other constants are in memory: it serialises to a small model
    that needs no other file.  ``source.model`` stays as it is.

    Raises:
        UnsupportedError: the model's functions cannot be inlined.
    """
    model = _inlined(source.model.clone())
    graph = model.graph
    values = _named_values(graph)
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    for parameter in (*source.parameters, *source.statistics):
        new = ir.val(parameter.name, ir.DataType.FLOAT, parameter.shape)
        values[parameter.name].replace_all_uses_with(new, replace_graph_outputs=True)
        for name in parameter.aliases:
            if not values[name].is_graph_output():  # an output keeps its name, and so its Identity
                values[name].replace_all_uses_with(new)
        inputs.append(new)
    graph.inputs[:] = inputs
    model.ir_version = max(model.ir_version, 4)  # from which on initializers are not inputs
    _remove_unused(graph)
    for inner in model.graphs():
        _bring_into_memory(inner)
    return model


def _remove_unused(graph: ir.Graph) -> None:
    for node in reversed(graph):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not (value.uses() or value.is_graph_output()):
            del graph.initializers[name]


def _bring_into_memory(graph: ir.Graph) -> None:
    """Turns external tensors, which a model in memory cannot find, into tensors in memory."""
    for value in graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = _in_memory(value.const_value)
    for node in graph:
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.value, ir.ExternalTensor):
                node.attributes[name] = ir.AttrTensor(name, _in_memory(attribute.value))


def _in_memory(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    (loaded,) = ir.external_data.convert_tensors_from_external([tensor])
    return loaded


# --- the file


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _external_files(file: wire.File) -> tuple[Path, ...]:
    """The files that external data stands in, each there and long enough."""
    folder = file.path.parent
    paths: dict[str, Path] = {}
    for tensor in file.tensors:
        if not (external := tensor.external):
            continue
        where, path = f"{file.path}: {tensor.place}", folder / external.location
        inside = path.resolve().is_relative_to(folder.resolve()) and not Path(external.location).is_absolute()
        if not inside:
            raise ModelError(
                f"external data at {external.location!r} is outside of the model's folder",
                where=where,
                fix="export the model again, with its data file (no link) in the model's own folder",
            )
        if not path.is_file():
            raise ModelError(
                f"the external data file {external.location!r} is missing",
                where=where,
                fix=f"put the file that was exported with the model at {path}",
            )
        if path.stat().st_size < external.offset + external.length:
            raise ModelError(
                f"the external data file {external.location!r} is too short: it has {path.stat().st_size} bytes, "
                f"and this tensor ends at byte {external.offset + external.length}",
                where=where,
                fix="copy or export the file again",
            )
        paths[external.location] = path
    return tuple(paths[location] for location in sorted(paths))


def _digest(files: tuple[Path, ...]) -> str:
    """SHA-256 over the bytes of all files; the external ones come with their names, the model file may be renamed."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    for i, file in enumerate(files):
        if i:
            digest.update(f"{file.relative_to(files[0].parent).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                digest.update(buffer[:count])
    return f"sha256:{digest.hexdigest()}"


def _deserialize(content: bytes, file: wire.File) -> ir.Model:
    where = str(file.path)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except Exception as error:  # protobuf's DecodeError, which has no types
        raise ModelError("the ONNX file is damaged", where=where, fix="copy or export the file again") from error
    if not proto.HasField("graph"):
        raise ModelError("not an ONNX model: it has no graph", where=where, fix="give a model in ONNX format")
    if not proto.graph.output:
        raise ModelError("the model's graph has no outputs", where=where, fix="export the model again")
    if proto.ir_version >= 3 and not proto.opset_import:
        what = "the model does not say which operator set it uses: it is truncated, or was written wrongly"
        raise ModelError(what, where=where, fix="copy or export the file again")
    try:
        return ir.from_proto(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        cause: BaseException = error
        while cause.__cause__:  # the outer messages repeat the whole model
            cause = cause.__cause__
        raise ModelError(f"the ONNX file cannot be read: {cause}", where=where, fix="export the model again") from error


def _value(path: Path, place: Place) -> Floats:
    if isinstance(place, Filled):
        flat = np.full(place.dims, place.value, np.float32)
    elif place.external:
        file = path.parent / place.external.location
        flat = np.fromfile(file, "<f4", place.size, offset=place.external.offset).astype(np.float32, copy=False)
    else:
        with path.open("rb") as stream:
            parts = [np.empty(0, np.float32)]
            for span in place.spans:
                stream.seek(span.body)
                part = wire.Hole("", 0, span.floats, span.tagged).decode(stream.read(span.end - span.body))
                assert part is not None, "the file changed"
                parts.append(part)
        flat = parts[-1] if len(parts) == 2 else np.concatenate(parts)
    value = flat.reshape(place.dims)
    value.flags.writeable = False
    return value


# --- the graph


def _inlined(model: ir.Model) -> ir.Model:
    """*model*, changed: without functions of its own."""
    try:
        InlinePass()(model)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(
            f"the model's own functions cannot be put into its graph: {error}",
            where=", ".join(name for _, name, _ in model.functions),
            fix="export the model without functions",
        ) from error
    model.functions.clear()
    return model


def _named_values(graph: ir.Graph) -> dict[str, ir.Value]:
    values = [*graph.inputs, *graph.initializers.values(), *(output for node in graph for output in node.outputs)]
    return {value.name: value for value in values if value.name}


def _places(graph: ir.Graph, file: wire.File) -> dict[str, Place]:
    """Where the tensors stand that carry a value of the main graph."""
    places: dict[str, Place] = {}
    for tensor in file.tensors:
        if not tensor.value:
            continue
        if tensor.value in places:
            what, where = f"two tensors are called {tensor.value!r}", f"{file.path}: {tensor.place}"
            raise ModelError(what, where=where, fix="export the model again")
        places[tensor.value] = tensor
    for entry, node in zip(file.nodes, graph, strict=True):
        if node.op_type != "ConstantOfShape" or node.domain:
            continue
        shape = ir.convenience.get_const_tensor(node.inputs[0]) if node.inputs[0] is not None else None
        fill = node.attributes.get_tensor("value")
        if shape is not None:
            dims = tuple(int(d) for d in shape.numpy())
            dtype, value = (fill.dtype, fill.numpy().item()) if fill is not None else (ir.DataType.FLOAT, 0.0)
            places[entry.outputs[0]] = Filled(entry, dims, int(dtype), float(value))
    return places


class _Use(NamedTuple):
    """A place where the tensor that carries the value *name* sits as a weight."""

    name: str
    role: str
    node: ir.Node
    slot: int
    first_conv: bool = False

    @property
    def layer(self) -> str:
        return f"{self.node.op_type} {self.node.name or self.node.outputs[0].name}"


def _parameters(model: ir.Model, places: Mapping[str, Place], file: wire.File) -> Iterator[Parameter]:
    """Parameters and statistics, in the order in which the graph uses them."""
    graph = _inlined(model.clone()).graph if model.functions else model.graph
    groups: dict[object, list[_Use]] = {}
    for use in _uses(graph, places, file.path):
        groups.setdefault(_identity(places[use.name]), []).append(use)
    _refuse_overlaps(groups, file)
    names: dict[object, list[str]] = {}
    for name, origin in {**{name: name for name in places}, **_identity_copies(graph, places)}.items():
        names.setdefault(_identity(places[origin]), []).append(name)
    for identity, uses in groups.items():
        first, place, roles = uses[0], places[uses[0].name], [use.role for use in uses]
        _refuse_unusable(place, uses, file.path)
        yield Parameter(
            first.name,
            place.dims,
            # A table that is looked up and also multiplied by (tied embeddings) is not pruned.
            next((role for role in roles if role not in PRUNABLE_ROLES), roles[0]),
            first.layer,
            "constant-of-shape" if isinstance(place, Filled) else "initializer" if place.initializer else "constant",
            any(use.first_conv for use in uses),
            tuple(name for name in names[identity] if name != first.name),
        )


def _identity(place: Place) -> object:
    """What is equal for tensors that are the same bytes, and for no others."""
    if isinstance(place, Filled):
        return place.node.field.start
    if place.external is None:
        return place.field.start
    return place.external.location, place.external.offset, place.dims, place.dtype


def _identity_copies(graph: ir.Graph, places: Mapping[str, Place]) -> dict[str, str]:
    """Output of an Identity → the tensor that it copies, also through several of them."""
    copies: dict[str, str] = {}
    for node in graph:
        if node.op_type == "Identity" and not node.domain and node.inputs[0] is not None:
            origin = node.inputs[0].name or ""
            origin = copies.get(origin, origin)
            if origin in places and node.outputs[0].name:
                copies[node.outputs[0].name] = origin
    return copies


def _refuse_overlaps(parameters: Collection[object], file: wire.File) -> None:
    """Refuses a parameter whose bytes in an external file are also another tensor's."""
    stored = [(tensor.external, tensor) for tensor in file.tensors if tensor.external and tensor.size]
    furthest: tuple[str, int, wire.Tensor] | None = None
    for external, tensor in sorted(stored, key=lambda pair: (pair[0].location, pair[0].offset)):
        if furthest and furthest[0] == external.location and external.offset < furthest[1]:
            other = furthest[2]
            tied = _identity(tensor) == _identity(other) and tensor.value and other.value
            if not tied and (_identity(tensor) in parameters or _identity(other) in parameters):
                raise UnsupportedError(
                    f"{other.place} and {tensor.place} share bytes of {external.location!r}, but are not one tensor",
                    where=str(file.path),
                    fix="export the model again, each tensor with data of its own",
                )
        if not furthest or (external.location, external.offset + external.length) > furthest[:2]:
            furthest = external.location, external.offset + external.length, tensor


def _refuse_unusable(place: Place, uses: list[_Use], path: Path) -> None:
    name, where = uses[0].name, f"{path}: {uses[0].layer}"
    if place.dtype != ir.DataType.FLOAT:
        raise UnsupportedError(
            f"the weight {name!r} is {ir.DataType(place.dtype).name.lower()}; only float (32 bits) can be trained",
            where=where,
            fix="export the model in float32",
        )
    if len({(use.role, use.slot) for use in uses}) > 1 and any(use.role == "statistic" for use in uses):
        raise UnsupportedError(
            f"the running statistic {name!r} is also {uses[1].role} of {uses[1].layer}: one tensor cannot be both",
            where=where,
            fix="export the model again without merging equal tensors (PyTorch: torch.onnx.export(…, dynamo=True))",
        )
    if isinstance(place, wire.Tensor) and not place.external and sum(s.floats for s in place.spans) != place.size:
        raise ModelError(
            f"the tensor {name!r} has data for {sum(s.floats for s in place.spans)} elements, "
            f"but its shape {list(place.dims)} takes {place.size}",
            where=f"{path}: {place.place}",
            fix="copy or export the file again",
        )


def _uses(graph: ir.Graph, places: Mapping[str, Place], path: Path) -> Iterator[_Use]:
    """Every use of a tensor as a weight, in graph order; the rules stand at the top of this file."""
    nodes = _live(graph)
    varying = _varying(graph, nodes, places)
    listed = {node: list(_listed(node, varying, places, path)) for node in nodes}
    layers = {node for node, uses in listed.items() if uses}
    products = {node for node, uses in listed.items() if any(use.role in PRUNABLE_ROLES for use in uses)}
    behind, ahead = _behind(nodes, layers), _ahead(nodes, layers)
    behind_product = _behind(nodes, {node for node in nodes if PRUNABLE_ROLES & {*_slots(node).values()}})
    scales: set[ir.Node | None] = set()
    for node in nodes:
        for use in listed[node]:
            first = use.role == "kernel" and not any(value in behind_product for value in node.inputs)
            yield use._replace(first_conv=first)
        if node.domain or node.op_type not in ("Add", "Mul"):
            continue
        for slot, x in ((0, node.inputs[1]), (1, node.inputs[0])):
            name = _carrier(node.inputs[slot], varying, places) if x in varying else None
            if name is None or x is None:
                continue
            between, origin = x in behind and node.outputs[0] in ahead, _origin(x)
            if node.op_type == "Mul":
                role = _factor(places[name], between or _is_normalised(origin))
                scales |= {node} if role else set()
            else:
                directly = "norm" if origin in scales else "bias" if origin in products else None
                role = _summand(places[name], path, between, directly)
            if role:
                yield _Use(name, role, node, slot)


def _factor(place: Place, scaling: bool) -> str | None:
    """The role of a constant factor: one number a channel, where a scale can be."""
    return "norm" if scaling and sum(dim > 1 for dim in place.dims) == 1 else None


def _summand(place: Place, path: Path, between: bool, directly: str | None) -> str | None:
    """The role of a constant that is added between two layers, or *directly* behind a scale or product."""
    axes = sum(dim > 1 for dim in place.dims)
    if directly and axes <= 1 and place.dims:
        return directly
    if not between or not axes or _is_mask(path, place):
        return None
    return "bias" if axes == 1 else "embedding"


def _slots(node: ir.Node) -> dict[int, str]:
    """Input → role, for an operator that has weights."""
    if node.op_type == "Einsum" and not node.domain:
        return dict.fromkeys(range(len(node.inputs)), "matrix")
    return SLOTS.get((node.domain, node.op_type), {})


def _listed(node: ir.Node, varying: set[ir.Value], places: Mapping[str, Place], path: Path) -> Iterator[_Use]:
    """The weights of an operator that has slots for them."""
    if node.op_type != "Gather" and not any(value in varying for value in node.inputs):
        return
    for slot, role in _slots(node).items():
        if slot < len(node.inputs) and (name := _carrier(node.inputs[slot], varying, places)):
            if node.op_type in ("Gather", "Einsum") and len(places[name].dims) < 2:
                continue  # a list of numbers that is picked from, or an outer product's factor
            if _is_group_norm(node) and np.ptp(_value(path, places[name])) == 0:
                continue  # ones and zeros; the scale and shift of the channels follow
            yield _Use(name, role, node, slot)


def _is_group_norm(node: ir.Node) -> bool:
    """Whether *node* normalises groups of channels, as exporters write GroupNormalization."""
    x = node.inputs[0].producer() if node.inputs and node.inputs[0] else None
    around = [x, *(use.node for use in node.outputs[0].uses())]
    return node.op_type == "InstanceNormalization" and all(n is not None and n.op_type == "Reshape" for n in around)


def _carrier(value: ir.Value | None, varying: set[ir.Value], places: Mapping[str, Place]) -> str | None:
    """The stored floating-point tensor that *value* is, through nodes that change no number."""
    if value in varying:
        return None
    while value is not None and value.name not in places:
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type in _PASSING and not node.domain else None
    if value is None or value.name is None:
        return None
    place = places[value.name]
    return value.name if place.dtype in _FLOATING and 0 not in place.dims else None


def _origin(value: ir.Value) -> ir.Node | None:
    """The node that computes *value*, seen through nodes that change no number."""
    node = value.producer()
    while node is not None and node.op_type in _PASSING and not node.domain and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def _is_normalised(node: ir.Node | None) -> bool:
    """Whether *node* computes x / √y or x · (1 / √y), or is a normalisation in one piece."""
    if node is None or node.domain or node.op_type not in ("Div", "Mul"):
        return node is not None and node.op_type == "InstanceNormalization"
    factors = [_origin(factor) if factor is not None else None for factor in node.inputs]
    if node.op_type == "Div":
        return factors[1] is not None and factors[1].op_type == "Sqrt"
    return any(factor is not None and factor.op_type in ("Reciprocal", "Pow") for factor in factors)


def _is_mask(path: Path, place: Place) -> bool:
    """Whether a constant hides positions from attention: it has entries that softmax turns into zeros."""
    return place.dtype == ir.DataType.FLOAT and not bool((_value(path, place) > -100).all())


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


def _behind(nodes: list[ir.Node], marked: set[ir.Node]) -> set[ir.Value | None]:
    """The values that depend on a marked node."""
    found: set[ir.Value | None] = set()
    for node in nodes:
        if node in marked or not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return found - {None}


def _ahead(nodes: list[ir.Node], marked: set[ir.Node]) -> set[ir.Value | None]:
    """The values that a marked node depends on."""
    found: set[ir.Value | None] = set()
    for node in reversed(nodes):
        if node in marked or not found.isdisjoint(node.outputs):
            found.update(node.inputs)
    return found - {None}
