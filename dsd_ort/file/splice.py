"""A new ONNX file as pieces of an old one and what stands between them, with every length around an edit set right.

An :class:`Edit` replaces bytes of one message by others of another length; then the length in front of this message
changes, and perhaps the length of that length, and so of the message around it, up to the whole file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsd_ort.file.contents import EXTERNAL, External, File, Tensor
from dsd_ort.file.payload import Coding, Values
from dsd_ort.file.protobuf import Buffer, Field, opened, varint

_LARGE = 1024
"""Payloads from this many bytes on are left in the file by :func:`without_payloads`."""


@dataclass(frozen=True)
class Copy:
    """A piece of a new file: bytes ``[start, end)`` of the file that it is made from."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Hole:
    """A piece of a new file: *count* numbers of a parameter, from its element *first* on, written as *coding* says."""

    name: str
    first: int
    count: int
    coding: Coding

    def __len__(self) -> int:
        return self.count * self.coding.width

    def encode(self, values: Values) -> npt.NDArray[np.uint8]:
        """The bytes of *values*, numbers of the file's type ``[count]``."""
        return self.coding.encode(values)


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
    messages = {message.start: message for edit in edits for message in _around(edit.parent)}
    growth: dict[int, int] = defaultdict(int)
    for edit in edits:
        if edit.parent:
            growth[edit.parent.start] += edit.growth
    # Inner messages, which begin later, come first: a longer length prefix lengthens the message around it too.
    for start, message in sorted(messages.items(), reverse=True):
        if growth[start]:
            length = varint(message.end - message.body + growth[start])
            edits.append(Edit(message.prefix, message.body, (length,)))
            if message.parent:
                growth[message.parent.start] += growth[start] + edits[-1].growth
    pieces: list[Piece] = []
    at = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        assert edit.start >= at, "edits overlap"
        pieces += [Copy(at, edit.start), *edit.pieces]
        at = edit.end
    return [*pieces, Copy(at, size)]


def _around(message: Field | None) -> Iterator[Field]:
    """The message and all those that it stands in, the innermost first."""
    while message:
        yield message
        message = message.parent


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
        entries = describe(tensor) if describe else _in_place(tensor, file.path)
        if entries is None:
            continue
        gone = [(span.start, span.end) for span in tensor.spans]
        gone += tensor.external.fields if tensor.external else ()
        edits += [Edit(start, end, (), tensor.field) for start, end in gone]
        new = b"".join(_entry(key.encode(), text.encode()) for key, text in entries.items())
        if not tensor.attribute:
            new += varint(14 << 3) + varint(EXTERNAL)
            edits.append(Edit(tensor.field.end, tensor.field.end, (new,), tensor.field))
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
    """Where the payload of a large or external tensor stands."""
    payload = tensor.external
    if not payload:
        span = tensor.spans[0] if len(tensor.spans) == 1 else None
        if span is None or not span.plain or tensor.attribute or span.end - span.body < _LARGE:
            return None
        payload = External(path.name, span.body, span.end - span.body)
    location = path.absolute().parent / payload.location
    return {"location": str(location), "offset": str(payload.offset), "length": str(payload.length)}
