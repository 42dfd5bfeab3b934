"""Numbers as an ONNX file writes them, against protobuf and NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dsd_ort.file import payload
from dsd_ort.file.payload import Coding, bits, from_float32, to_float32

TYPES = {1: np.float32, 10: np.float16, 16: ml_dtypes.bfloat16, 11: np.float64}
TAGS = {1: 0x25, 10: 0x28, 16: 0x28, 11: 0x51}
ANY = st.tuples(st.sampled_from(sorted(TYPES)), st.lists(st.integers(0, 2**64 - 1), max_size=40))


def of_bits(code: int, numbers: list[int]) -> np.ndarray:
    """Numbers of a type with these bits, among them NaN, infinities, both zeros and subnormals."""
    size = np.dtype(TYPES[code]).itemsize
    return np.array([n % (1 << 8 * size) for n in numbers], f"u{size}").view(TYPES[code])


@given(ANY, st.booleans())
@settings(max_examples=200, deadline=None)
def test_what_is_written_protobuf_reads(case, packed):
    code, numbers = case
    values = of_bits(code, numbers)
    number = {1: 4, 10: 5, 16: 5, 11: 10}[code]
    coding = Coding(np.dtype(TYPES[code]), None if packed else TAGS[code], code in (10, 16))
    data = coding.encode(values).tobytes()
    assert len(data) == coding.width * values.size
    body = data
    if packed:
        length, body = len(data), bytes([number << 3 | 2])
        while length > 127:
            body, length = body + bytes([length & 127 | 128]), length >> 7
        body += bytes([length]) + data
    tensor = onnx.TensorProto.FromString(b"\x08" + bytes([values.size]) + b"\x10" + bytes([code]) + body)
    np.testing.assert_array_equal(bits(onnx.numpy_helper.to_array(tensor)), bits(values))
    decoded = coding.decode(data)
    assert decoded is not None
    assert decoded.dtype == values.dtype
    np.testing.assert_array_equal(bits(decoded), bits(values))


@given(st.lists(st.integers(-(2**31), 2**32 - 1), max_size=40))
@settings(max_examples=100, deadline=None)
def test_varints_of_any_length_are_read(numbers):
    """Also sign-extended ones of ten bytes, as a writer gives that takes int16 for the 16 bits."""
    numbers = [n if n < 2**31 else n - 2**32 for n in numbers]
    tensor = onnx.TensorProto(int32_data=numbers).SerializeToString()
    behind_length = next((i for i, byte in enumerate(tensor) if i and byte < 128), 0) + 1
    found = payload.varints(tensor[behind_length:])
    assert found is not None
    assert found.tolist() == [n & 0xFFFF for n in numbers]


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        (Coding(np.dtype(np.float32)), b"12345"),
        (Coding(np.dtype(np.float32), 0x25), b"\x25\0\0\0\0\x26\0\0\0\0"),
        (Coding(np.dtype(np.float16), None, True), b"\x80\x80"),
        (Coding(np.dtype(np.float16), 0x28, True), b"\x28\x05\x28"),
        (Coding(np.dtype(np.float16), 0x28, True), b"\x28\x05\x29\x05"),
    ],
)
def test_bytes_that_are_not_whole_tagged_numbers_are_none(coding, data):
    assert coding.decode(data) is None


@given(ANY)
@example(case=(16, [32641]))
@settings(max_examples=300, deadline=None)
def test_what_becomes_float32_comes_back_to_the_bit(case):
    code, numbers = case
    old = of_bits(code, numbers)
    with np.errstate(invalid="ignore"):  # a signalling NaN warns where it is widened
        old = old[np.isfinite(old)]
    wide = to_float32(old)
    assert wide.dtype == np.float32
    assert np.isfinite(wide).all()
    np.testing.assert_array_equal(wide == 0, old == 0)
    np.testing.assert_array_equal(np.signbit(wide), np.signbit(old))
    np.testing.assert_array_equal(bits(from_float32(wide, old.dtype, old)), bits(old))


@given(st.floats(-65000, 65000, width=32))
def test_rounding_is_to_nearest_and_to_even(x):
    value = np.float32([x])
    (new,) = from_float32(value, np.dtype(np.float16))
    below, above = np.nextafter(new, np.float16(-np.inf)), np.nextafter(new, np.float16(np.inf))
    error = abs(float(new) - float(value[0]))
    for other in (below, above):
        distance = abs(float(other) - float(value[0]))
        assert error < distance or (error == distance and new.view(np.uint16) % 2 == 0)


def test_pruned_numbers_are_zero_and_others_keep_the_digits_that_they_have():
    old = np.array([1 / 3, 1e-60, -1e-60, 1e-60, 1e300, np.pi])
    new = to_float32(old).copy()
    new[[3, 5]] = 0.0, 3.0
    assert from_float32(new, old.dtype, old).tolist() == [1 / 3, 1e-60, -1e-60, 0.0, 1e300, 3.0]
