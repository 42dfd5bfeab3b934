"""Where every tensor's bytes stand in an ONNX file, read from the protobuf wire format without parsing weights.

An ONNX file is a ``ModelProto``; its tensors stand at ``graph.initializer`` and in node attributes, also in those of
subgraphs and functions.  A float tensor keeps its payload in one of four ways, all of them little-endian float32 that
can be overwritten in place: ``raw_data``, packed ``float_data`` (one field), unpacked ``float_data`` (one field an
element: the tag byte 0x25, then 4 bytes), or external data (another file, an offset and a length).

Message and field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import math
import mmap
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.errors import ModelError
from dsd_ort.graph.protobuf import FIXED32, LEN, Buffer, Field, Walk

EXTERNAL = 1
"""``TensorProto.data_location``: in another file."""
FLOAT_TAG = 4 << 3 | FIXED32
"""The byte in front of each element of an unpacked ``TensorProto.float_data``."""


class Span(NamedTuple):
    """Bytes ``[body, end)`` of a payload, in a field that begins at ``start``.

    ``tagged``: a run of unpacked floats, 5 bytes an element, the first of them :data:`FLOAT_TAG`.
    """

    start: int
    body: int
    end: int
    tagged: bool = False

    @property
    def floats(self) -> int:
        """How many float32 stand here."""
        return (self.end - self.body) // (5 if self.tagged else 4)


@dataclass(frozen=True)
class External:
    """A payload in another file: ``length`` bytes from ``offset`` of ``location``, relative to the model's folder."""

    location: str
    offset: int
    length: int
    fields: tuple[tuple[int, int], ...] = ()
    """The bytes of the model file that say so."""

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True)
class Tensor:
    """A ``TensorProto``: where it stands, what it is, and where its payload stands."""

    field: Field
    place: str
    """For people: ``initializer 'w'``, ``node 3 (Constant c), attribute value``."""
    value: str | None
    """The value of the main graph that it is stored for: an initializer's name or a Constant node's output."""
    dims: tuple[int, ...]
    dtype: int
    spans: tuple[Span, ...]
    """Raw data or float data; other inline encodings (``int64_data``, …) are not listed."""
    external: External | None

    @property
    def size(self) -> int:
        return math.prod(self.dims)

    @property
    def initializer(self) -> bool:
        """Whether it is an initializer of the main graph."""
        return self.place.startswith("initializer ")


@dataclass(frozen=True)
class Node:
    """A ``NodeProto`` of the main graph."""

    field: Field
    op_type: str
    name: str
    outputs: tuple[str, ...]


@dataclass
class File:
    """What stands in an ONNX file.  Nothing here holds the file open, or a weight."""

    path: Path
    size: int
    ir_version: int = 0
    tensors: list[Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    sparse: list[str] = field(default_factory=list)
    """Places of sparse tensors."""


@contextmanager
def mapped(path: Path) -> Iterator[Buffer]:
    """The bytes of *path*, memory-mapped.

    Raises:
        ModelError: there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise ModelError("not an ONNX file: it is empty", where=str(path), fix="export the model again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except FileNotFoundError as error:
        raise ModelError("no such file", where=str(path), fix="give the path of an ONNX file") from error
    except IsADirectoryError as error:
        raise ModelError("a folder, not an ONNX file", where=str(path), fix="give the .onnx file inside it") from error
    except OSError as error:
        raise ModelError(f"the file cannot be read: {error.strerror}", where=str(path)) from error


def decode(data: bytes, tagged: bool = False) -> npt.NDArray[np.float32] | None:
    """The float32 that stand in a span's bytes, ``f32[n]``; None where they are not tagged as they should be."""
    if not tagged:
        return np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    rows = np.frombuffer(data, np.uint8).reshape(-1, 5)
    return None if (rows[:, 0] != FLOAT_TAG).any() else rows[:, 1:].copy().view("<f4").ravel().astype(np.float32)


def read(data: Buffer, path: Path) -> File:
    """Where the tensors and nodes of an ONNX file stand.  *path* is for messages only.

    Raises:
        ModelError: not an ONNX file, truncated, or damaged.
    """
    return _Reader(data, path).file()


class _Reader(Walk):
    """ONNX's messages, each with a method that notes what it finds."""

    def __init__(self, data: Buffer, path: Path) -> None:
        super().__init__(data, path)
        self.found = File(path, len(data))

    def file(self) -> File:
        # All of the outermost fields first: a file that ends too early is told before anything inside is read.
        for part in list(self.fields()):
            if part.number == 1:
                self.found.ir_version = self.number([part])
            elif part.number == 7:
                self.inside_graph = True
                self.graph(part, "")
            elif part.number == 25:
                function = self.parts(part)
                for index, node in enumerate(function[7]):
                    self.node(node, index, f"function {self.name(function[1])}, ")
        return self.found

    def graph(self, graph: Field, around: str) -> None:
        """*around* says where the graph stands; it is empty for the main graph."""
        index = 0
        for part in self.fields(graph):
            if part.number == 1:
                self.node(part, index, around)
                index += 1
            elif part.number == 5:
                self.tensor(part, around, initializer=True)
            elif part.number == 15:
                self.found.sparse.append(f"{around}sparse initializer")

    def node(self, node: Field, index: int, around: str) -> None:
        parts = self.parts(node)
        outputs = tuple(self.text(part) for part in parts[2])
        name, op_type = self.name(parts[3]), self.name(parts[4])
        if not around:
            self.found.nodes.append(Node(node, op_type, name, outputs))
        constant = outputs[0] if not around and outputs and op_type == "Constant" else None
        for part in parts[5]:
            attribute = self.parts(part)
            key = self.name(attribute[1])
            place = f"{around}node {index} ({op_type} {name or ''.join(outputs[:1])}), attribute {key}"
            for tensor in attribute[5] + attribute[10]:
                self.tensor(tensor, place, constant if key == "value" else None)
            for graph in attribute[6] + attribute[11]:
                self.graph(graph, f"{place}: ")
            if attribute[22] or attribute[23]:
                self.found.sparse.append(place)

    def tensor(self, tensor: Field, place: str, value: str | None = None, *, initializer: bool = False) -> None:
        """*place* is the tensor's; an initializer's is what stands around its graph, and its name decides the rest."""
        parts: dict[int, list[Field]] = defaultdict(list)
        spans = []
        at = tensor.body
        while at < tensor.end:
            part = self.field_at(at, tensor)
            parts[part.number].append(part)
            at = part.end
            if part.number == 4:
                spans.append(self.floats(part))
                at = spans[-1].end
        if initializer:
            name = self.name(parts[8])
            place, value = f"{place}initializer {name!r}", None if place else name
        dims, dtype = tuple(self.numbers(parts[1])), self.number(parts[2])
        external = None
        if self.number(parts[14]) == EXTERNAL:
            external = self.external(parts[13], parts[14], dims, dtype, f"{self.path}: {place}")
            spans = []
        elif raw := parts[9]:
            spans = [Span(raw[-1].start, raw[-1].body, raw[-1].end)]
        self.found.tensors.append(Tensor(tensor, place, value, dims, dtype, tuple(spans), external))

    def floats(self, first: Field) -> Span:
        """Packed floats, or the whole run of unpacked floats that *first* begins."""
        if first.kind == LEN:
            return Span(first.start, first.body, first.end)
        assert first.parent is not None
        most = (first.parent.end - first.start) // 5
        tags = np.frombuffer(self.data, np.uint8, most * 5, first.start)[::5]
        others = np.flatnonzero(tags != FLOAT_TAG)
        end = first.start + 5 * int(others[0] if others.size else most)
        return Span(first.start, first.start, max(end, first.end), tagged=True)

    def external(
        self, entries: list[Field], location: list[Field], dims: tuple[int, ...], dtype: int, where: str
    ) -> External:
        pairs = [self.parts(entry) for entry in entries]
        texts = {self.name(pair[1]): self.name(pair[2]) for pair in pairs}
        try:
            needed = (math.prod(dims) * ir.DataType(dtype).bitwidth + 7) // 8
            offset, length = int(texts.get("offset") or 0), int(texts.get("length") or needed)
            if not texts.get("location"):
                raise ValueError("it names no file")
            if offset < 0 or length != needed:
                raise ValueError(f"offset {offset}, length {length}, while its shape takes {needed} bytes")
        except (ValueError, TypeError) as error:
            what = f"the external data of a tensor is described wrongly: {error}"
            raise ModelError(what, where=where, fix="export the model again") from error
        fields = tuple((part.start, part.end) for part in entries + location)
        return External(Path(texts["location"]).as_posix(), offset, length, fields)
