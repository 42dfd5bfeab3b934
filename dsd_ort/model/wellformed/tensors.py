"""Stored tensors: known element types, shapes that fit their bytes, one field for the numbers."""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir

from dsd_ort.file.limits import RANK, malformed, refuse_bad_name

T = ir.DataType
_TYPES = frozenset(map(int, T)) - {int(T.UNDEFINED)}
_PAYLOADS = ("raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_OTHER_FIELDS = {
    T.FLOAT: "float_data",
    T.COMPLEX64: "float_data",
    T.DOUBLE: "double_data",
    T.COMPLEX128: "double_data",
    T.INT64: "int64_data",
    T.UINT32: "uint64_data",
    T.UINT64: "uint64_data",
    T.STRING: "string_data",
}
"""Element type → the field of its numbers; of all others that is ``int32_data``."""


def refuse_bad_tensor(tensor: onnx.TensorProto, where: str) -> None:
    """Raises ModelError: an element type that there is not, a shape that its bytes do not fit, two kinds of bytes."""
    refuse_bad_name(tensor.name, where)
    refuse_bad_type(tensor.data_type, where)
    if len(tensor.dims) > RANK:
        raise malformed(f"a tensor has {len(tensor.dims)} axes; {RANK} is the most there can be", where)
    if any(size < 0 for size in tensor.dims):
        raise malformed(f"a tensor has the shape {list(tensor.dims)}, with a negative length", where)
    if tensor.HasField("segment"):
        raise malformed("a tensor is stored in segments, which no reader puts together", where)
    held = [name for name in _PAYLOADS if (tensor.HasField(name) if name == "raw_data" else len(getattr(tensor, name)))]
    dtype, count = T(tensor.data_type), math.prod(tensor.dims)
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    if len(held) + external > 1:
        kinds = [*held, *(["external data"] if external else [])]
        raise malformed(f"a tensor has its numbers more than once: as {' and '.join(kinds)}", where)
    if external:
        _refuse_bad_length(tensor, dtype, count, where)
    elif held == ["raw_data"]:
        if dtype == T.STRING:
            raise malformed("texts of a tensor are stored as raw bytes", where)
        needed = (count * dtype.bitwidth + 7) // 8
        _refuse_unequal(needed, len(tensor.raw_data), "bytes", tensor, where)
    else:
        field = _OTHER_FIELDS.get(dtype, "int32_data")
        if held and held != [field]:
            raise malformed(f"a tensor of {dtype.name.lower()} has its numbers in {held[0]}, not in {field}", where)
        each = 2 if dtype in (T.COMPLEX64, T.COMPLEX128) else 1
        packed = 8 // dtype.bitwidth if dtype != T.STRING and dtype.bitwidth < 8 else 1
        _refuse_unequal(-(-count * each // packed), len(getattr(tensor, field)), "numbers", tensor, where)


def refuse_bad_type(code: int, where: str) -> None:
    """Raises ModelError: no element type has this number."""
    if code not in _TYPES:
        raise malformed(f"element type {code} is none of ONNX's", where)


def _refuse_bad_length(tensor: onnx.TensorProto, dtype: ir.DataType, count: int, where: str) -> None:
    if dtype == T.STRING:
        raise malformed("texts of a tensor are stored as external data", where)
    length = next((entry.value for entry in tensor.external_data if entry.key == "length"), None)
    if length is not None and length.isascii() and length.isdigit():
        _refuse_unequal((count * dtype.bitwidth + 7) // 8, int(length), "bytes", tensor, where)


def _refuse_unequal(needed: int, there: int, of: str, tensor: onnx.TensorProto, where: str) -> None:
    if needed != there:
        shape, dtype = list(tensor.dims), T(tensor.data_type).name.lower()
        raise malformed(f"a tensor of shape {shape} of {dtype} takes {needed} {of}, and it has {there}", where)
