"""The walk over a protobuf message: from field to field, by tags and lengths, over payloads without a look at them.

A message is a sequence of *fields*; a field is a tag, a length where its kind needs one, and a value::

    field   = varint(number << 3 | kind)  value
    kind 0  = varint                      kind 1 = 8 bytes      kind 5 = 4 bytes
    kind 2  = varint(length)  bytes       (strings, packed numbers, messages inside messages)

Source: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dsd_ort.errors import ModelError

VARINT, FIXED64, LEN, FIXED32 = 0, 1, 2, 5
LARGEST = 2**31 - 1
"""Bytes of a message: no reader takes more."""
_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""ModelProto's field numbers and their kinds: what tells a truncated model from a file that never was one."""

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


class Walk:
    """A walk over an ONNX file, *data*; *path* is for messages only.  What it cannot follow raises ModelError."""

    def __init__(self, data: Buffer, path: Path) -> None:
        self.data, self.path = data, path
        self.inside_graph = False

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

    def number(self, found: list[Field]) -> int:
        """An integer that is there once, or not at all: then it is 0."""
        return next(self.numbers(found[-1:]), 0)

    def numbers(self, found: list[Field]) -> Iterator[int]:
        """The integers of a repeated field, packed or not."""
        for part in found:
            at = part.body
            while at < part.end:
                value, at = self.varint(at, part.end)
                yield value

    def parts(self, message: Field) -> dict[int, list[Field]]:
        """The fields of a message by number."""
        parts: dict[int, list[Field]] = defaultdict(list)
        for part in self.fields(message):
            parts[part.number].append(part)
        return parts

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
