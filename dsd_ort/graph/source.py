"""The user's ONNX file, read once and never changed: its parameters, its digest, and a copy of it to train."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from dsd_ort.errors import ModelError, RunError, UnsupportedError
from dsd_ort.graph import wire
from dsd_ort.graph.parameters import Parameter, find, inlined
from dsd_ort.graph.places import Floats, Place, locate, read
from dsd_ort.graph.splice import without_payloads


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
        return read(self.path, self.places[name])

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
        slim = without_payloads(data, file)
    if file.sparse:
        raise UnsupportedError(
            "sparse tensors are not supported", where=f"{path}: {file.sparse[0]}", fix="export with dense weights"
        )
    model = _deserialize(slim, file)
    found = locate(model.graph, file)
    parameters = list(find(model, found, file))
    return Source(
        path=path,
        digest=_digest(files),
        model=model,
        parameters=tuple(p for p in parameters if p.role != "statistic"),
        statistics=tuple(p for p in parameters if p.role == "statistic"),
        places=found,
        file=file,
        files=files,
        stamps=stamps,
    )


def training_copy(source: Source) -> ir.Model:
    """A copy in which each parameter and statistic is a graph input under its name, behind the model's own inputs.

    Constant, ConstantOfShape and Identity nodes that only carry parameters, unused nodes and unused initializers are
    gone, the model's own functions are inlined, and all other constants are in memory: it serialises to a small model
    that needs no other file.  ``source.model`` stays as it is.

    Raises:
        UnsupportedError: the model's functions cannot be inlined.
    """
    model = inlined(source.model.clone())
    graph = model.graph
    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
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
    _bring_into_memory(model)
    return model


def _remove_unused(graph: ir.Graph) -> None:
    for node in reversed(graph):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not (value.uses() or value.is_graph_output()):
            del graph.initializers[name]


def _bring_into_memory(model: ir.Model) -> None:
    """Turns external tensors, which a model in memory cannot find, into tensors in memory."""
    ir.external_data.load_to_model(model)  # the initializers
    for node in model.graph.all_nodes():
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.value, ir.ExternalTensor):
                (tensor,) = ir.external_data.convert_tensors_from_external([attribute.value])
                node.attributes[name] = ir.AttrTensor(name, tensor)


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
        if path.stat().st_size < external.end:
            raise ModelError(
                f"the external data file {external.location!r} is too short: it has {path.stat().st_size} bytes, "
                f"and this tensor ends at byte {external.end}",
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
