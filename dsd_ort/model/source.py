"""The user's ONNX file, read once and never changed: its parameters, their values, its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from dsd_ort.errors import ModelError, RunError, UnsupportedError
from dsd_ort.file import contents, external, reader
from dsd_ort.file.payload import Floats
from dsd_ort.file.splice import without_payloads
from dsd_ort.file.tensors import Numbers, Place, count, locate, read
from dsd_ort.model.parameters import Constant, Parameter, find
from dsd_ort.model.select import chosen
from dsd_ort.model.wellformed import refuse_malformed
from dsd_ort.notes import Note, listing
from dsd_ort.recipe import Parameters


@dataclass(frozen=True)
class Source:
    """An ONNX file and what was found in it.  No weight is in memory."""

    path: Path
    model: ir.Model
    """Large tensors are external tensors that point into the files; values of subgraphs have their public names
    (:meth:`contents.File.public`).  Never modified."""
    tensors: tuple[Parameter | Constant, ...]
    """What it stores and training changes, or could, in the order in which the graph uses it."""
    places: Mapping[str, Place]
    """Where the tensors of the main graph and its subgraphs stand."""
    file: contents.File
    files: tuple[Path, ...]
    """The model file, then its external-data files."""
    stamps: tuple[tuple[int, int], ...]
    """Size and time of change of each of the files when they were read."""
    notes: tuple[Note, ...] = ()
    """What people should know of the file."""

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """What gradients train, in the order in which the graph uses it."""
        return tuple(t for t in self.tensors if isinstance(t, Parameter) and t.role != "statistic")

    @cached_property
    def statistics(self) -> tuple[Parameter, ...]:
        """Running statistics of batch norms."""
        return tuple(t for t in self.tensors if isinstance(t, Parameter) and t.role == "statistic")

    @cached_property
    def constants(self) -> tuple[Constant, ...]:
        """What gradients arrive at and nobody learned, so that it is no parameter."""
        return tuple(t for t in self.tensors if isinstance(t, Constant))

    @property
    def changeable(self) -> tuple[Parameter, ...]:
        """Parameters, statistics, and the constants that a recipe can make parameters of."""
        return (*self.parameters, *self.statistics, *(constant.parameter for constant in self.constants))

    def with_parameters(self, names: Collection[str]) -> Source:
        """The same with exactly these parameters, as a run was prepared with.

        Raises:
            RunError: no gradient arrives at one of them.
        """
        known = {p.name for p in self.changeable}
        if missing := [name for name in names if name not in known]:
            raise RunError(
                f"the run trains {listing(missing)}, which this version of dsd-ort knows as no weight of the model",
                where=str(self.path),
                fix="prepare the model anew into another folder",
            )
        made = []
        for tensor in self.tensors:
            p = tensor.parameter if isinstance(tensor, Constant) else tensor
            known_as = p.role == "statistic" or p.name in names
            made.append(p if known_as else Constant(p, "no parameter when the run was prepared"))
        return replace(self, tensors=tuple(made))

    @cached_property
    def digest(self) -> str:
        """``sha256:…`` over the model file, and over names and bytes of its external-data files; reads them all.

        Raises:
            RunError: a file changed after it was loaded.
        """
        self.require_unchanged()
        return digest_of(self.files)

    def value(self, name: str) -> Floats:
        """The weights of the parameter or statistic *name*: a read-only f32 array of its shape, read from the file now.

        Raises:
            RunError: the file changed after it was loaded.
            UnsupportedError: a double that float32 cannot hold.
        """
        self.require_unchanged()
        value = read(self.path, self.places[name])
        if self.places[name].dtype == ir.DataType.DOUBLE and (np.abs(value) == np.finfo(np.float32).max).any():
            raise UnsupportedError(
                f"the weight {name!r} holds numbers beyond 3.4e38, where float32 ends, in which it would be trained",
                where=str(self.path),
                fix="mend the weight: a network with such numbers cannot have been trained",
            )
        return value

    @cached_property
    def numbers(self) -> Mapping[str, Numbers]:
        """Parameter or statistic → what kinds of numbers it holds; reads them all, a piece at a time.

        Raises:
            RunError: a file changed after it was loaded.
        """
        self.require_unchanged()
        return {p.name: count(self.path, self.places[p.name]) for p in (*self.parameters, *self.statistics)}

    def kept(self, name: str) -> npt.NDArray[np.int64]:
        """Where the flat tensor of the parameter *name* has what no training changes: entries that are not finite."""
        own = any(p.name == name for p in self.parameters)
        return self.numbers[name].not_finite if own else np.empty(0, np.int64)

    def start(self, name: str) -> Floats:
        """What training begins with: :meth:`value`, but 0.0 where it is :meth:`kept`.

        The graphs put these entries in again (:mod:`dsd_ort.graph.training_copy`), and so does the export.
        """
        value, kept = self.value(name), self.kept(name)
        if kept.size:
            value = value.copy()
            value.flat[kept] = 0.0
        return value

    def require_unchanged(self) -> None:
        """Raises RunError if one of the files changed after it was loaded."""
        for file, stamp in zip(self.files, self.stamps, strict=True):
            if not file.is_file() or _stamp(file) != stamp:
                raise RunError("the model changed while it was in use", where=str(file), fix="start again with it")


def load(path: str | Path, wanted: Parameters | None = None, *, judged: bool = True) -> Source:
    """Reads an ONNX file; *wanted* is what a recipe says of its parameters.

    Not *judged*, all that could be a parameter is one, for who knows which are: see :meth:`Source.with_parameters`.

    Raises:
        ModelError: no such file, not ONNX, truncated, without a graph or outputs, external data missing, too short or
            outside of the model's folder.
        UnsupportedError: a weight that is sparse; a statistic that is also something else.
        RecipeError: *wanted* names what no gradient arrives at.
    """
    path = Path(path)
    with reader.mapped(path) as data:
        file = reader.read(data, path)
        files = external.found(file)
        stamps = tuple(_stamp(file) for file in files)
        slim = without_payloads(data, file)
    if file.sparse:
        raise UnsupportedError(
            "sparse tensors are not supported", where=f"{path}: {file.sparse[0]}", fix="export with dense weights"
        )
    model = _deserialize(slim, file)
    found = locate(model.graph, file)
    _sort(model.graph, path)
    return Source(
        path=path,
        model=model,
        tensors=chosen(tuple(find(model, found, file, judged=judged)), wanted or Parameters(), found),
        places=found,
        file=file,
        files=files,
        stamps=stamps,
        notes=tuple(_moved(file)),
    )


def _moved(file: contents.File) -> Iterator[Note]:
    """Of external data that does not stand where the file says."""
    data = [tensor.external for tensor in file.tensors if tensor.external]
    for written, location in dict.fromkeys((found.written, found.location) for found in data):
        if written != location:
            words = f"the file says that weights stand in {written!r}; they are read from {location!r}, and shipped so"
            yield Note(kind="weights", words=words)


def outline(path: str | Path) -> ir.Model:
    """The graph of an ONNX file without its weights, also where :func:`load` refuses these.

    Raises:
        ModelError: the file is no sound ONNX file.
    """
    path = Path(path)
    with reader.mapped(path) as data:
        file = reader.read(data, path)
        slim = without_payloads(data, file)
    return _deserialize(slim, file)


def _sort(graph: ir.Graph, path: Path) -> None:
    """Puts nodes behind those that they read from, as ONNX asks, and as ONNX Runtime's converters may not do."""
    try:
        graph.sort()
    except ValueError as error:
        what = "the graph has a cycle: a node reads what is computed from it"
        raise ModelError(what, where=str(path), fix="export the model again") from error


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def digest_of(files: tuple[Path, ...]) -> str:
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


def _deserialize(content: bytes, file: contents.File) -> ir.Model:
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
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        if value.type.HasField("map_type") or value.type.sequence_type.elem_type.HasField("map_type"):
            value.ClearField("type")  # a map of labels, at the end of a classical model, is no tensor for anybody
    refuse_malformed(proto, where)
    try:
        return ir.from_proto(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError, NotImplementedError) as error:  # onnx_ir's
        cause: BaseException = error
        while cause.__cause__:  # the outer messages repeat the whole model
            cause = cause.__cause__
        raise ModelError(f"the ONNX file cannot be read: {cause}", where=where, fix="export the model again") from error
