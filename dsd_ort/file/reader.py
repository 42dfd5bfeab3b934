"""The reader of an ONNX file: finds its :mod:`~dsd_ort.file.contents` on the wire, without parsing weights.

Message and field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import math
import mmap
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dsd_ort.errors import ModelError
from dsd_ort.file.contents import EXTERNAL, External, File, Node, Scope, Span, Tensor, step_into
from dsd_ort.file.limits import DEPTH, NAME, malformed
from dsd_ort.file.payload import FIELD_OF, FIELDS, TYPES, Coding, varints
from dsd_ort.file.protobuf import FIXED32, FIXED64, LARGEST, LEN, VARINT, Buffer, Field, Walk

_DIGITS = 20
"""Of a number of bytes: no file has as many."""
_BYTES = Coding(np.dtype(np.uint8))
_FLOAT = Coding(np.dtype(np.float32))
_WIDTHS = {FIXED32: 4, FIXED64: 8}


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
        fix = "check the path and its permissions, and that it is a file"
        raise ModelError(f"the file cannot be read: {error.strerror or error}", where=str(path), fix=fix) from error


def read(data: Buffer, path: Path) -> File:
    """Where the tensors and nodes of an ONNX file stand.  *path* is for messages only.

    Raises:
        ModelError: not an ONNX file, truncated, damaged, or too large to be one.
    """
    if len(data) > LARGEST:
        raise ModelError(
            f"the file has {len(data)} bytes; an ONNX file can have {LARGEST}, and larger ones nothing can read",
            where=str(path),
            fix="save the model with external data: onnx.save(model, path, save_as_external_data=True)",
        )
    return _Reader(data, path).file()


class _Reader(Walk):
    """ONNX's messages, each with a method that notes what it finds."""

    def __init__(self, data: Buffer, path: Path) -> None:
        super().__init__(data, path)
        self.found = File(path, len(data))
        self.depth = 0
        """How many graphs stand around the one that is read."""
        self.tensors: list[Tensor] = []
        """As they come; what they are called outside, the whole file decides."""

    def file(self) -> File:
        # All of the outermost fields first: a file that ends too early is told before anything inside is read.
        for part in list(self.fields()):
            if part.number == 1:
                self.found.ir_version = self.number([part])
            elif part.number == 7:
                self.inside_graph = True
                self.graph(part, "", ())
            elif part.number == 25:
                function = self.parts(part)
                for index, node in enumerate(function[7]):
                    self.node(node, index, f"function {self.name(function[1])}, ", None)
        named = (t if t.value is None else replace(t, value=self.found.public(t.scope, t.name)) for t in self.tensors)
        self.found.tensors.extend(named)
        return self.found

    def graph(self, graph: Field, around: str, scope: Scope | None) -> None:
        """*around* says where the graph stands; it is empty for the main graph.  In functions there is no scope."""
        self.depth += 1
        if self.depth > DEPTH + 1:
            raise malformed(f"bodies stand more than {DEPTH} deep in each other", f"{self.path}: {around[:80]}…")
        index = 0
        for part in self.fields(graph):
            if part.number == 1:
                self.node(part, index, around, scope)
                index += 1
            elif part.number == 5:
                self.tensor(part, around, scope, initializer=True)
            elif part.number == 11 and scope is not None:
                self.found.scopes[self.name(self.parts(part)[1])].add(scope)
            elif part.number == 15:
                self.found.sparse.append(f"{around}sparse initializer")
        self.depth -= 1

    def node(self, node: Field, index: int, around: str, scope: Scope | None) -> None:
        parts = self.parts(node)
        outputs = tuple(self.text(part) for part in parts[2])
        name, op_type = self.name(parts[3]), self.name(parts[4])
        if scope is not None:
            self.found.nodes.append(Node(node, op_type, name, outputs, index, scope))
            for output in outputs:
                self.found.scopes[output].add(scope)
        constant = outputs[0] if scope is not None and outputs and op_type == "Constant" else None
        for part in parts[5]:
            attribute = self.parts(part)
            key = self.name(attribute[1])
            place = f"{around}node {index} ({op_type} {name or ''.join(outputs[:1])}), attribute {key}"
            for tensor in attribute[5] + attribute[10]:
                self.tensor(tensor, place, scope, constant if key == "value" else None)
            if constant and key in ("value_float", "value_floats"):
                self.floats(part, attribute[2 if key == "value_float" else 7], place, scope or (), constant)
            for graph in attribute[6]:
                inside = None if scope is None else (*scope, step_into(op_type, index, key))
                self.graph(graph, f"{place}: ", inside)
            for graph in attribute[11]:
                self.graph(graph, f"{place}: ", None)
            if attribute[22] or attribute[23]:
                self.found.sparse.append(place)

    def tensor(
        self, tensor: Field, place: str, scope: Scope | None, value: str | None = None, *, initializer: bool = False
    ) -> None:
        """*place* is the tensor's; an initializer's is what stands around its graph, and its name decides the rest."""
        parts: dict[int, list[Field]] = defaultdict(list)
        runs: dict[int, list[tuple[Field, int]]] = defaultdict(list)
        at = tensor.body
        while at < tensor.end:
            part = self.field_at(at, tensor)
            parts[part.number].append(part)
            at = part.end
            if part.number in FIELDS and part.kind in (LEN, FIELDS[part.number]):
                at = self.end_of_run(part)
                runs[part.number].append((part, at))
        if initializer:
            name = self.name(parts[8])
            place, value = f"{place}initializer {name!r}", None if scope is None else name
            if scope is not None:
                self.found.scopes[name].add(scope)
        dims, dtype = tuple(self.numbers(parts[1])), self.number(parts[2])
        external, spans = None, []
        if self.number(parts[14]) == EXTERNAL:
            external = self.external(parts[13], parts[14], dims, dtype, f"{self.path}: {place}")
        elif raw := parts[9]:
            spans = [self.span(raw[-1], raw[-1].end, Coding(TYPES[dtype]) if dtype in TYPES else _BYTES)]
        elif dtype in TYPES:
            coding = Coding(TYPES[dtype], varint=FIELD_OF[dtype] == 5)
            spans = [self.span(first, end, coding) for first, end in runs[FIELD_OF[dtype]]]
        stored = (value, dims, dtype, tuple(spans), external, initializer, value or "", scope or ())
        self.tensors.append(Tensor(tensor, place, *stored))

    def floats(self, attribute: Field, parts: list[Field], place: str, scope: Scope, value: str) -> None:
        """The floats that an attribute holds: one, or a list of them."""
        spans: list[Span] = []
        for first in parts:
            if first.kind in (LEN, FIXED32) and not (spans and first.start < spans[-1].end):
                spans.append(self.span(first, self.end_of_run(first), _FLOAT))
        if place.endswith("value_float"):
            spans = [span._replace(body=span.end - 4, coding=_FLOAT, numbers=1) for span in spans[-1:]]
        dims = () if place.endswith("value_float") else (sum(span.numbers for span in spans),)
        stored = (value, dims, int(ir.DataType.FLOAT), tuple(spans), None, False, value, scope)
        self.tensors.append(Tensor(attribute, place, *stored, attribute=True))

    def span(self, first: Field, end: int, coding: Coding) -> Span:
        """Packed numbers (or raw data), or the run of unpacked ones from *first* to *end*."""
        if first.kind == LEN:
            body, parent = first.body, first
        else:
            assert first.parent is not None
            body, parent = first.start, first.parent
            coding = coding._replace(tag=first.number << 3 | first.kind)
        if coding.varint:
            ends = np.frombuffer(self.data, np.uint8, end - body, body) < 0x80
            count = int(np.count_nonzero(ends)) // (1 if coding.tag is None else 2)
        else:
            count, rest = divmod(end - body, coding.width)
            count = 0 if rest else count
        return Span(first.start, body, end, coding, parent, count)

    def end_of_run(self, first: Field) -> int:
        """Where the packed numbers, or the whole run of unpacked ones that *first* begins, end."""
        tag = first.number << 3 | first.kind
        if first.kind == LEN or self.data[first.start] != tag:  # a tag may be written longer than it has to be
            return first.end
        assert first.parent is not None
        if first.kind == VARINT:
            window = self.data[first.start : first.parent.end]
            ends = np.flatnonzero(np.frombuffer(window, np.uint8) < 0x80)
            numbers = varints(window[: ends[-1] + 1])
            assert numbers is not None
            others = np.flatnonzero(numbers[::2] != tag)  # a tag, a number, a tag, …
            last = 2 * int(others[0]) - 1 if others.size else numbers.size // 2 * 2 - 1
            return first.start + int(ends[last]) + 1
        width = 1 + _WIDTHS[first.kind]
        most = (first.parent.end - first.start) // width
        others = np.flatnonzero(np.frombuffer(self.data, np.uint8, most * width, first.start)[::width] != tag)
        return first.start + width * int(others[0] if others.size else most)

    def external(
        self, entries: list[Field], location: list[Field], dims: tuple[int, ...], dtype: int, where: str
    ) -> External:
        pairs = [self.parts(entry) for entry in entries]
        texts = {self.name(pair[1]): self.name(pair[2]) for pair in pairs}
        try:
            needed = (math.prod(dims) * ir.DataType(dtype).bitwidth + 7) // 8
            offset, length = (_whole(texts, key, other) for key, other in (("offset", 0), ("length", needed)))
            named = texts.get("location", "")
            if not named or len(named) > NAME or "\0" in named:
                raise ValueError("it names a file as nothing can be called" if named else "it names no file")
            if length != needed:
                raise ValueError(f"offset {offset}, length {length}, while its shape takes {needed} bytes")
        except (ValueError, TypeError) as error:
            what = f"the external data of a tensor is described wrongly: {error}"
            raise ModelError(what, where=where, fix="export the model again") from error
        fields = tuple((part.start, part.end) for part in entries + location)
        written = Path(named).as_posix()
        entry = next(pair[2][-1] for pair in pairs if self.name(pair[1]) == "location" and pair[2])
        return External(written, offset, length, fields, written, entry)


def _whole(texts: Mapping[str, str], key: str, otherwise: int) -> int:
    """The number of bytes that stands under *key*; raises ValueError if it is none."""
    text = texts.get(key) or str(otherwise)
    if not (text.isascii() and text.isdigit() and len(text) < _DIGITS):
        raise ValueError(f"its {key} is {text[:40]!r}, no number of bytes")
    return int(text)
