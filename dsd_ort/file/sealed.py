"""A safetensors file that says itself whether it is still what was written.

::

    u64 length of the header │ header, JSON │ tensors, one behind the other
    "__metadata__": {"dsd_ort": "…", "digest": "sha256:9f86d081…"}

``digest`` is that of all bytes of the file, with zeros in the place of its own 64 digits.  So one digest covers header
and tensors, the file stays one that every reader of safetensors knows, and nobody has to keep two files in step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

_MARK = b'"digest":"sha256:'
_ZEROS = b"0" * 64
_TYPES = {"float32": "F32", "uint8": "U8"}
_LONGEST = 100_000_000
"""Bytes of a header, as safetensors has it."""
_CHUNK = 1 << 22


def write(file: BinaryIO, tensors: Mapping[str, npt.NDArray[Any]], record: str) -> None:
    """Fills *file* with tensors, f32 or u8, and the text *record*."""
    header: dict[str, Any] = {"__metadata__": {"dsd_ort": record, "digest": f"sha256:{_ZEROS.decode()}"}}
    end = 0
    for name, value in tensors.items():
        begin, end = end, end + value.nbytes
        kind = _TYPES[value.dtype.name]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = len(text).to_bytes(8, "little") + text
    digest = hashlib.sha256(start)
    parts = [np.ascontiguousarray(value).reshape(-1).view(np.uint8).data for value in tensors.values() if value.size]
    for part in parts:
        digest.update(part)
    # The record is text in JSON, in which quotes are escaped: the mark stands in the header once.
    at = start.index(_MARK) + len(_MARK)
    file.write(start[:at] + digest.hexdigest().encode() + start[at + len(_ZEROS) :])
    for part in parts:
        file.write(part)


def is_whole(file: BinaryIO) -> bool | None:
    """Whether *file* is what was written; None where it does not say, as files of earlier versions; reads it all."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > _LONGEST:
        return False
    text = file.read(length)
    at = text.find(_MARK) + len(_MARK)
    if at < len(_MARK):
        return None if _is_unsealed(text) else False
    digest = hashlib.sha256(start + text[:at] + _ZEROS + text[at + len(_ZEROS) :])
    buffer = memoryview(bytearray(_CHUNK))
    while count := file.readinto(buffer):  # type: ignore[attr-defined]  # of a file that is open for reading
        digest.update(buffer[:count])
    return text[at : at + len(_ZEROS)] == digest.hexdigest().encode()


def says(file: BinaryIO) -> bool:
    """Whether *file* has a digest to be checked by; reads its header only."""
    length = int.from_bytes(file.read(8), "little")
    return length > _LONGEST or not _is_unsealed(file.read(length))


def _is_unsealed(header: bytes) -> bool:
    """Whether it is a header of before there were digests, and not one whose digest can no longer be found."""
    try:
        return list(json.loads(header)["__metadata__"]) == ["dsd_ort"]
    except (ValueError, KeyError, TypeError):
        return False
