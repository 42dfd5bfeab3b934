"""Where every tensor's bytes stand in an ONNX file, read from the protobuf wire format without parsing weights.

A protobuf message is a sequence of *fields*; a field is a tag, a length where its kind needs one, and a value::

    field   = varint(number << 3 | kind)  value
    kind 0  = varint                      kind 1 = 8 bytes      kind 5 = 4 bytes
    kind 2  = varint(length)  bytes       (strings, packed numbers, messages inside messages)

An ONNX file is a ``ModelProto``; its tensors stand at ``graph.initializer`` and in node attributes, also in those of
subgraphs and functions.  A float tensor keeps its payload in one of four ways, all of them little-endian float32 that
can be overwritten in place: ``raw_data``, packed ``float_data`` (one field), unpacked ``float_data`` (one field an
element: the tag byte 0x25, then 4 bytes), or external data (another file, an offset and a length).

Message and field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import heapq
import math
import mmap
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.errors import ModelError

VARINT, FIXED64, LEN, FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1
"""``TensorProto.data_location``: in another file."""
FLOAT_TAG = 4 << 3 | FIXED32
"""The byte in front of each element of an unpacked ``TensorProto.float_data``."""
_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""ModelProto's field numbers and their kinds: what tells a truncated model from a file that never was one."""
_LARGE = 1024
"""Payloads from this many bytes on are left in the file by :func:`without_payloads`."""

Buffer = bytes | mmap.mmap


class Field(NamedTuple):
    """One field: its tag stands at ``start``, its length (kind 2) at ``prefix``, its value at ``[body, end)``."""

    number: int
    kind: int
    start: int
    prefix: int
    body: int
    end: int
    parent: Field | None


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


def read(data: Buffer, path: Path) -> File:
    """Where the tensors and nodes of an ONNX file stand.  *path* is for messages only.

    Raises:
        ModelError: not an ONNX file, truncated, or damaged.
    """
    return _Reader(data, path).file()


class _Reader:
    """A walk over the wire format; it touches tags and lengths, and jumps over payloads."""

    def __init__(self, data: Buffer, path: Path) -> None:
        self.data, self.path = data, path
        self.found = File(path, len(data))
        self.inside_graph = False

    # --- the wire format

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """The number at *at*, and the position behind it."""
        value = shift = 0
        while at < end and shift < 64:
            byte = self.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise self.damaged(at)

    def field_at(self, start: int, parent: Field | None) -> Field:
        end = parent.end if parent else len(self.data)
        tag, prefix = self.varint(start, end)
        number, kind = tag >> 3, tag & 7
        if parent is None and _MODEL_FIELDS.get(number, kind if number > max(_MODEL_FIELDS) else None) != kind:
            raise self.not_onnx()
        body = prefix
        if kind == VARINT:
            stop = self.varint(prefix, end)[1]
        elif kind == LEN:
            length, body = self.varint(prefix, end)
            stop = body + length
        elif kind in (FIXED32, FIXED64) and number:
            stop = body + (4 if kind == FIXED32 else 8)
        else:
            raise self.damaged(start)
        if stop > end:
            raise self.truncated(stop) if parent is None and number in _MODEL_FIELDS else self.damaged(start)
        return Field(number, kind, start, prefix, body, stop, parent)

    def fields(self, parent: Field | None = None) -> Iterator[Field]:
        at, end = (parent.body, parent.end) if parent else (0, len(self.data))
        while at < end:
            found = self.field_at(at, parent)
            yield found
            at = found.end

    def text(self, found: Field) -> str:
        return self.data[found.body : found.end].decode("utf-8", "replace")

    def name(self, found: list[Field]) -> str:
        """A text that is there once or not at all."""
        return self.text(found[-1]) if found else ""

    def numbers(self, found: Field) -> Iterator[int]:
        """The integers of a repeated field, packed or not."""
        at = found.body
        while at < found.end:
            value, at = self.varint(at, found.end)
            yield value

    # --- what can be wrong

    def not_onnx(self) -> ModelError:
        head = bytes(self.data[:40])
        fix = "give a model in ONNX format"
        if head.startswith(b"version https://git-lfs"):
            fix = "this is a Git LFS pointer; fetch the file itself with `git lfs pull`"
        elif head[4:8] == b"ORTM":
            fix = "this is ONNX Runtime's own format; give the .onnx file that it was made from"
        return ModelError("not an ONNX file", where=str(self.path), fix=fix)

    def truncated(self, needed: int) -> ModelError:
        size = len(self.data)
        what = f"truncated at byte {size}: its fields need at least {needed} bytes"
        return ModelError(what, where=str(self.path), fix="copy or export the file again")

    def damaged(self, at: int) -> ModelError:
        if at >= len(self.data):
            return self.truncated(at + 1)
        if not self.inside_graph:
            return self.not_onnx()
        return ModelError(f"damaged at byte {at}", where=str(self.path), fix="copy or export the file again")

    # --- ONNX's messages

    def parts(self, message: Field) -> dict[int, list[Field]]:
        """The fields of a message by number."""
        parts: dict[int, list[Field]] = defaultdict(list)
        for part in self.fields(message):
            parts[part.number].append(part)
        return parts

    def file(self) -> File:
        # All of the outermost fields first: a file that ends too early is told before anything inside is read.
        for part in list(self.fields()):
            if part.number == 1:
                self.found.ir_version = self.varint(part.body, part.end)[0]
            elif part.number == 7:
                self.inside_graph = True
                self.graph(part, "", main=True)
            elif part.number == 25:
                function = self.parts(part)
                for index, node in enumerate(function[7]):
                    self.node(node, index, f"function {self.name(function[1])}, ")
        return self.found

    def graph(self, graph: Field, place: str, *, main: bool = False) -> None:
        index = 0
        for part in self.fields(graph):
            if part.number == 1:
                self.node(part, index, place, main=main)
                index += 1
            elif part.number == 5:
                self.tensor(part, f"{place}initializer", main=main)
            elif part.number == 15:
                self.found.sparse.append(f"{place}sparse initializer")

    def node(self, node: Field, index: int, place: str, *, main: bool = False) -> None:
        parts = self.parts(node)
        outputs = tuple(self.text(part) for part in parts[2])
        name, op_type = self.name(parts[3]), self.name(parts[4])
        if main:
            self.found.nodes.append(Node(node, op_type, name, outputs))
        place += f"node {index} ({op_type} {name or ''.join(outputs[:1])})"
        for part in parts[5]:
            attribute = self.parts(part)
            name = self.name(attribute[1])
            here = f"{place}, attribute {name}"
            value = outputs[0] if main and outputs and op_type == "Constant" and name == "value" else None
            for tensor in attribute[5] + attribute[10]:
                self.tensor(tensor, here, value=value)
            for graph in attribute[6] + attribute[11]:
                self.graph(graph, f"{here}: ")
            if attribute[22] or attribute[23]:
                self.found.sparse.append(here)

    def tensor(self, tensor: Field, place: str, *, value: str | None = None, main: bool = False) -> None:
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
        dims = tuple(number for part in parts[1] for number in self.numbers(part))
        dtype = next((number for part in parts[2][-1:] for number in self.numbers(part)), 0)
        if place.endswith("initializer"):
            place, value = f"{place} {self.name(parts[8])!r}", self.name(parts[8]) if main else None
        external = None
        if any(number == _EXTERNAL for part in parts[14][-1:] for number in self.numbers(part)):
            external = self.external(parts[13], parts[14], dims, dtype, f"{self.path}: {place}")
        elif raw := parts[9]:
            spans = [Span(raw[-1].start, raw[-1].body, raw[-1].end)]
        self.found.tensors.append(Tensor(tensor, place, value, dims, dtype, () if external else tuple(spans), external))

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


@dataclass(frozen=True)
class Copy:
    """A piece of a new file: bytes ``[start, end)`` of the file that it is made from."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Hole:
    """A piece of a new file: *count* float32 of a parameter, from its element *first* on; tagged as in `Span`."""

    name: str
    first: int
    count: int
    tagged: bool = False

    def __len__(self) -> int:
        return self.count * (5 if self.tagged else 4)

    def encode(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """The bytes of *values*, ``f32[count]``."""
        plain = np.ascontiguousarray(values, "<f4").view(np.uint8)
        return np.insert(plain.reshape(-1, 4), 0, FLOAT_TAG, axis=1).ravel() if self.tagged else plain

    def decode(self, data: bytes) -> npt.NDArray[np.float32] | None:
        """The values, ``f32[count]``, or None where the bytes have another layout."""
        if not self.tagged:
            return np.frombuffer(data, "<f4").astype(np.float32, copy=False)
        rows = np.frombuffer(data, np.uint8).reshape(-1, 5)
        return None if (rows[:, 0] != FLOAT_TAG).any() else rows[:, 1:].copy().view("<f4").ravel().astype(np.float32)


Piece = Copy | Hole | bytes


@dataclass(frozen=True)
class Edit:
    """Bytes ``[start, end)`` give way to *pieces*; ``parent`` is the message that they stand in."""

    start: int
    end: int
    pieces: Sequence[Piece]
    parent: Field | None = None

    @property
    def growth(self) -> int:
        return sum(len(piece) for piece in self.pieces) - (self.end - self.start)


def splice(size: int, edits: Sequence[Edit]) -> list[Piece]:
    """A file of *size* bytes under *edits*, as pieces in order, with every enclosing message's length set right.

    Pieces are :class:`Copy` for what stays, and the edits' own pieces.
    """
    edits = list(edits)
    growth: dict[int, int] = defaultdict(int)
    messages: dict[int, Field] = {}
    queue: list[int] = []

    def grow(message: Field | None, by: int) -> None:
        if message and by:
            if message.start not in messages:
                messages[message.start] = message
                heapq.heappush(queue, -message.start)
            growth[message.start] += by

    for edit in edits:
        grow(edit.parent, edit.growth)
    # Inner messages, which begin later, come first: a longer length prefix lengthens the message around it too.
    while queue:
        start = -heapq.heappop(queue)
        message = messages[start]
        prefix = Edit(message.prefix, message.body, (varint(message.end - message.body + growth[start]),))
        edits.append(prefix)
        grow(message.parent, growth[start] + prefix.growth)
    pieces: list[Piece] = []
    at = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        assert edit.start >= at, "edits overlap"
        pieces += [Copy(at, edit.start), *edit.pieces]
        at = edit.end
    return [*pieces, Copy(at, size)]


def varint(value: int) -> bytes:
    """``value ≥ 0``, 7 bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def opened(number: int, length: int) -> bytes:
    """What stands in front of the value of a field of kind 2."""
    return varint(number << 3 | LEN) + varint(length)


def without_payloads(
    data: Buffer, file: File, describe: Callable[[Tensor], Mapping[str, str] | None] | None = None
) -> bytes:
    """The model with large payloads left out, each replaced by external data that says what *describe* says.

    A tensor for which it returns None stays as it is.  By default external data points into the file itself, and
    other files keep their own place, both by absolute path: a model of any size becomes a small message, whose tensors
    are still all there to read.
    """
    edits: list[Edit] = []
    for tensor in file.tensors:
        entries = (describe or (lambda tensor: _in_place(tensor, file.path)))(tensor)
        if entries is None:
            continue
        gone = [(span.start, span.end) for span in tensor.spans]
        gone += tensor.external.fields if tensor.external else ()
        edits += [Edit(start, end, (), tensor.field) for start, end in gone]
        new = b"".join(_entry(key.encode(), text.encode()) for key, text in entries.items())
        external = varint(14 << 3) + varint(1)
        edits.append(Edit(tensor.field.end, tensor.field.end, (new + external,), tensor.field))
    out = bytearray()
    for piece in splice(len(data), edits):
        assert not isinstance(piece, Hole)
        out += data[piece.start : piece.end] if isinstance(piece, Copy) else piece
    return bytes(out)


def _entry(key: bytes, value: bytes) -> bytes:
    """An entry of ``external_data``."""
    inner = opened(1, len(key)) + key + opened(2, len(value)) + value
    return opened(13, len(inner)) + inner


def _in_place(tensor: Tensor, path: Path) -> dict[str, str] | None:
    if tensor.external:
        location, offset, length = tensor.external.location, tensor.external.offset, tensor.external.length
    elif len(tensor.spans) == 1 and not tensor.spans[0].tagged and tensor.spans[0].end - tensor.spans[0].body >= _LARGE:
        location, offset, length = path.name, tensor.spans[0].body, tensor.spans[0].end - tensor.spans[0].body
    else:
        return None
    folder = path.absolute().parent
    return {"location": str(folder / location), "offset": str(offset), "length": str(length)}
