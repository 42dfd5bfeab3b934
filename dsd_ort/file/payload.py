"""How the numbers of a floating-point tensor are written in an ONNX file, and how they become float32 and back.

::

    raw_data                        any type             its bytes, little-endian
    float_data, floats, f           float                4 bytes
    double_data                     double               8 bytes
    int32_data                      float16, bfloat16    a varint of its 16 bits

Repeated fields may be packed (one field for all numbers) or not (a tag in front of every number).

Training computes in float32.  float16 and bfloat16 become float32 exactly, and come back rounded to nearest, ties to
even.  A double loses digits, but what is finite stays finite and what is not zero stays not zero; it comes back as the
double that was there, to the bit, where training did not change its float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.file.protobuf import FIXED32, FIXED64, VARINT

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[Any]
"""Numbers of the type that the file has."""

TYPES = {int(t): np.dtype(t.numpy()) for t in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)}
TYPES[int(ir.DataType.DOUBLE)] = np.dtype(np.float64)
"""What weights can be: ``TensorProto.data_type`` → NumPy's type."""
FIELDS = {4: FIXED32, 5: VARINT, 10: FIXED64}
"""``TensorProto``'s repeated fields of numbers → the kind of one number in them."""
FIELD_OF = {1: 4, 10: 5, 16: 5, 11: 10}
"""``TensorProto.data_type`` → the one of them that holds it."""


class Coding(NamedTuple):
    """How a run of numbers is written: type, the tag in front of each if there is one, and whether as varints.

    Varints are written with three bytes each, the length of the longest: then the length of a file does not depend on
    what the weights are, and numbers that are written so are overwritten in place ever after.  (Protobuf reads
    ``8d 80 00`` as it reads ``0d``.)
    """

    dtype: np.dtype[Any]
    tag: int | None = None
    varint: bool = False

    @property
    def width(self) -> int:
        """Bytes of a number, as :meth:`encode` writes it."""
        return (self.tag is not None) + (3 if self.varint else self.dtype.itemsize)

    def decode(self, data: bytes) -> Values | None:
        """The numbers that stand in *data*, ``[n]``; None where they are not written so."""
        if self.varint:
            numbers = varints(data)
            if numbers is None:
                return None
            if self.tag is not None:  # the tag is a varint of one byte itself
                tags, numbers = numbers[::2], numbers[1::2]
                if tags.size != numbers.size or (tags != self.tag).any():
                    return None
            return numbers.view(self.dtype)
        if len(data) % self.width:
            return None
        rows = np.frombuffer(data, np.uint8).reshape(-1, self.width)
        if self.tag is not None and (rows[:, 0] != self.tag).any():
            return None
        plain = np.ascontiguousarray(rows[:, self.width - self.dtype.itemsize :]).ravel()
        size = self.dtype.itemsize
        return plain.view(f"<u{size}").astype(f"u{size}", copy=False).view(self.dtype)

    def encode(self, values: Values) -> npt.NDArray[np.uint8]:
        """The bytes of *values*, numbers of this type ``[n]``."""
        size = self.dtype.itemsize
        bits = np.ascontiguousarray(values, self.dtype).view(f"u{size}")
        if self.varint:
            rows = np.stack([bits & 0x7F | 0x80, bits >> 7 & 0x7F | 0x80, bits >> 14], axis=1).astype(np.uint8)
        else:
            rows = bits.astype(f"<u{size}", copy=False).view(np.uint8).reshape(-1, size)
        return (rows if self.tag is None else np.insert(rows, 0, self.tag, axis=1)).ravel()


def varints(data: bytes) -> npt.NDArray[np.uint16] | None:
    """The lowest 16 bits of each varint in *data*; None where the last one does not end."""
    content = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(content < 0x80)
    if not content.size:
        return np.empty(0, np.uint16)
    if not ends.size or ends[-1] != content.size - 1:
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    numbers = np.zeros(ends.size, np.uint32)
    for i in range(3):
        at = np.minimum(starts + i, ends)
        numbers |= np.where(starts + i <= ends, (content[at] & np.uint32(0x7F)) << np.uint32(7 * i), np.uint32(0))
    return numbers.astype(np.uint16)


def to_float32(values: Values) -> Floats:
    """*values* in float32: the nearest, but no finite number becomes infinite, and none but 0 becomes 0."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        result: Floats = values.astype(np.float32, copy=False)
        if values.dtype == np.float64:
            limits = np.finfo(np.float32)
            result = np.where(np.isinf(result) & np.isfinite(values), np.copysign(limits.max, result), result)
            result = np.where(
                (result == 0) & (values != 0), np.copysign(limits.smallest_subnormal, result), result
            ).astype(np.float32)
    return result


def from_float32(value: Floats, dtype: np.dtype[Any], old: Values | None = None) -> Values:
    """*value* as *dtype*, rounded to nearest, ties to even; *old* itself where that is *value* in float32.

    Only for double does it matter what the *old* numbers were.  What is too large for the type becomes infinite.
    """
    with np.errstate(over="ignore", under="ignore"):
        new: Values = value.astype(dtype, copy=False)
    return new if old is None else np.where(bits(to_float32(old)) == bits(value), old, new)


def bits(values: Values) -> Values:
    """The numbers as unsigned integers: equal where they are the same to the bit."""
    return np.asarray(values, order="C").view(f"u{values.dtype.itemsize}")
