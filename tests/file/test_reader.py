"""The reader of the wire format against protobuf itself."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.errors import ModelError
from dsd_ort.file import contents, protobuf, reader

TEXT = """
<ir_version: 8, opset_import: ["" : 17, "own" : 1], producer_name: "test">
main (float[N, 4] x, bool c) => (float[N, 4] y)
<float[4, 4] w = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, int64[2] shape = {-1, 4}>
{
    b = Constant <value = float[4] {0.5, 1.5, 2.5, 3.5}> ()
    a = MatMul (x, w)
    d = Add (a, b)
    e = If (c) <
        then_branch = yes () => (float[N, 4] f) <float[1] two = {2}> { f = Mul (d, two) },
        else_branch = no () => (float[N, 4] g) { h = Constant <value = float[1] {7}> () g = Mul (d, h) }
    >
    i = Reshape (e, shape)
    y = own.shift (i)
}
<domain: "own", opset_import: ["" : 17]>
shift (x) => (y) { s = Constant <value = float[1] {9}> () y = Add (x, s) }
"""


def model() -> onnx.ModelProto:
    return onnx.parser.parse_model(TEXT)


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field, written by hand."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def unpacked(values: np.ndarray) -> bytes:
    """``TensorProto.float_data`` as proto2 writers emit it: a tag in front of every element."""
    return b"".join(b"\x25" + value.tobytes() for value in values.ravel())


def read(content: bytes) -> contents.File:
    return reader.read(content, Path("m.onnx"))


def payload(content: bytes, tensor: contents.Tensor) -> np.ndarray:
    parts = [s.coding.decode(content[s.body : s.end]) for s in tensor.spans]
    return np.concatenate(parts).reshape(tensor.dims)


@pytest.mark.parametrize("raw", [True, False])
def test_every_tensor_is_found_where_protobuf_has_it(raw):
    proto = model()
    if raw:
        for tensor in [*proto.graph.initializer, proto.graph.node[0].attribute[0].t]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    content = proto.SerializeToString()
    file = read(content)
    floats = {tensor.place: payload(content, tensor).tolist() for tensor in file.tensors if tensor.dtype == 1}
    branches = "node 3 (If e), attribute "
    assert floats == {
        "initializer 'w'": np.arange(16.0).reshape(4, 4).tolist(),
        "node 0 (Constant b), attribute value": [0.5, 1.5, 2.5, 3.5],
        f"{branches}then_branch: initializer 'two'": [2.0],
        f"{branches}else_branch: node 0 (Constant h), attribute value": [7.0],
        "function shift, node 0 (Constant s), attribute value": [9.0],
    }
    assert {tensor.value for tensor in file.tensors} == {"w", "shape", "b", "two", "h", None}
    nodes = [node for node in file.nodes if not node.scope]
    assert [node.op_type for node in nodes] == [node.op_type for node in proto.graph.node]
    for node, expected in zip(nodes, proto.graph.node, strict=True):
        assert content[node.field.body : node.field.end] == expected.SerializeToString()
    inner = proto.graph.node[3].attribute[1].g.node
    found = [node for node in file.nodes if node.scope == ("If_3.else_branch",)]
    assert [content[node.field.body : node.field.end] for node in found] == [n.SerializeToString() for n in inner]


def test_a_name_that_two_graphs_have_is_public_with_the_way_to_it():
    text = TEXT.replace("[1] two", "[1] w").replace("Mul (d, two)", "Mul (d, w)").replace("h = C", "f = C")
    file = read(onnx.parser.parse_model(text.replace("Mul (d, h)", "Mul (d, f)")).SerializeToString())
    names = {tensor.place: tensor.value for tensor in file.tensors if tensor.scope or tensor.initializer}
    assert names == {
        "initializer 'w'": "w",
        "initializer 'shape'": "shape",
        "node 3 (If e), attribute then_branch: initializer 'w'": "If_3.then_branch/w",
        "node 3 (If e), attribute else_branch: node 0 (Constant f), attribute value": "If_3.else_branch/f",
    }


def test_a_run_of_unpacked_floats_is_one_span():
    first, second, third = np.float32([1, 2]), np.float32([3]), np.float32([37, 0.25, -1])  # 37 = 0x25, the tag
    tensor = b"\x08\x06\x10\x01" + unpacked(first) + field(4, second.tobytes()) + unpacked(third) + field(8, b"w")
    content = b"\x08\x08" + field(7, field(5, tensor))
    (found,) = read(content).tensors
    assert [(span.numbers, span.coding.tag) for span in found.spans] == [(2, 0x25), (1, None), (3, 0x25)]
    assert payload(content, found).tolist() == [1, 2, 3, 37, 0.25, -1]
    parsed = onnx.ModelProto.FromString(content).graph.initializer[0]
    assert list(parsed.float_data) == [1, 2, 3, 37, 0.25, -1]


def test_raw_data_wins_over_float_data_and_dims_may_be_packed():
    tensor = field(1, b"\x02\x01") + b"\x10\x01" + field(9, np.float32([1, 2]).tobytes()) + unpacked(np.float32([3]))
    content = b"\x08\x08" + field(7, field(5, tensor))
    (found,) = read(content).tensors
    assert found.dims == (2, 1)
    assert payload(content, found).tolist() == [[1], [2]]


NUMBERS = {1: (4, "f4"), 10: (5, "f2"), 16: (5, "f2"), 11: (10, "f8")}


@given(
    dtype=st.sampled_from(sorted(NUMBERS)),
    runs=st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=5),
    late=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=200, deadline=None)
def test_numbers_of_every_type_are_found_packed_and_not(dtype, runs, late, seed):
    number, numpy = NUMBERS[dtype]
    rng = np.random.default_rng(seed)
    tensor, written = b"", []
    for packed, count in runs:
        bits = rng.integers(0, 1 << 16, count)
        values = [varint(int(b)) if number == 5 else np.array(b - 1000, numpy).tobytes() for b in bits]
        kind = {4: 5, 5: 0, 10: 1}[number]
        tensor += (
            field(number, b"".join(values)) if packed else b"".join(bytes([number << 3 | kind]) + v for v in values)
        )
        written += values
    head = b"\x08" + varint(len(written)) + b"\x10" + varint(dtype)
    tensor = tensor + field(8, b"w") + head if late else head + tensor + field(8, b"w")
    content = b"\x08\x08" + field(7, field(5, tensor))
    (found,) = read(content).tensors
    (parsed,) = onnx.ModelProto.FromString(content).graph.initializer
    want = onnx.numpy_helper.to_array(parsed)
    assert (found.dims, sum(span.numbers for span in found.spans)) == ((len(written),), len(written))
    if found.spans:
        have = payload(content, found)
        assert have.dtype == want.dtype
        assert have.tobytes() == want.tobytes()


def test_floats_that_a_constant_holds_without_a_tensor_are_found():
    one = onnx.helper.make_node("Constant", [], ["a"], value_float=2.5)
    many = onnx.helper.make_node("Constant", [], ["b"], value_floats=[1.0, 2.0, 37.0])
    graph = onnx.helper.make_graph([one, many], "g", [], [])
    packed = field(1, b"value_floats") + b"\xa0\x01\x06" + field(7, np.float32([4, 5]).tobytes())
    node = field(2, b"c") + field(4, b"Constant") + field(5, packed)
    content = b"\x08\x08" + field(7, graph.SerializeToString() + field(1, node))
    tensors = {tensor.value: tensor for tensor in read(content).tensors}
    assert {name: payload(content, tensor).tolist() for name, tensor in tensors.items()} == {
        "a": 2.5,
        "b": [1.0, 2.0, 37.0],
        "c": [4.0, 5.0],
    }
    assert list(onnx.ModelProto.FromString(content).graph.node[2].attribute[0].floats) == [4.0, 5.0]


def test_external_data_is_described():
    tensor = onnx.TensorProto(name="w", dims=[3], data_type=1, data_location=1)
    for key, value in {"location": "./w.bin", "offset": "8"}.items():
        tensor.external_data.add(key=key, value=value)
    content = b"\x08\x08" + field(7, field(5, tensor.SerializeToString()))
    (found,) = read(content).tensors
    assert found.external is not None
    assert (found.external.location, found.external.offset, found.external.length) == ("w.bin", 8, 12)


@pytest.mark.parametrize("entry", [{"offset": "x"}, {"offset": "-4"}, {"length": "11"}, {"location": ""}])
def test_external_data_that_is_described_wrongly_is_refused(entry):
    tensor = onnx.TensorProto(name="w", dims=[3], data_type=1, data_location=1)
    for key, value in {"location": "w.bin", **entry}.items():
        tensor.external_data.add(key=key, value=value)
    with pytest.raises(ModelError, match="external data of a tensor is described wrongly") as caught:
        read(b"\x08\x08" + field(7, field(5, tensor.SerializeToString())))
    assert caught.value.where == "m.onnx: initializer 'w'"
    assert caught.value.fix == "export the model again"


# --- what is no ONNX file


@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [
        (b"hello, world", "not an ONNX file", "give a model in ONNX format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not an ONNX file", "give a model in ONNX format"),
        (b"PK\x03\x04" + bytes(40), "not an ONNX file", "give a model in ONNX format"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "not an ONNX file", "git lfs pull"),
        (b"\x10\x00\x00\x00ORTM" + bytes(40), "not an ONNX file", "the .onnx file that it was made from"),
        (model().SerializeToString()[:-60], "truncated at byte ", "copy or export the file again"),
        (model().SerializeToString()[:100], "truncated at byte 100: its fields need at least ", "copy or export"),
    ],
)
def test_what_is_not_onnx_is_named(content, what, fix):
    with pytest.raises(ModelError) as caught:
        read(content)
    assert what in caught.value.what
    assert caught.value.where == "m.onnx"
    assert fix in caught.value.fix


def test_damage_inside_the_graph_is_named():
    content = b"\x08\x08" + field(7, field(1, b"\x0a\x7fx"))
    with pytest.raises(ModelError, match="damaged at byte 6") as caught:
        read(content)
    assert (caught.value.where, caught.value.fix) == ("m.onnx", "copy or export the file again")


def test_a_path_that_is_no_file_is_refused(tmp_path):
    cases = {
        tmp_path / "missing.onnx": ("no such file", "give the path of an ONNX file"),
        tmp_path: ("a folder, not an ONNX file", "give the .onnx file inside it"),
        tmp_path / "empty.onnx": ("not an ONNX file: it is empty", "export the model again"),
    }
    (tmp_path / "empty.onnx").touch()
    for path, (what, fix) in cases.items():
        with pytest.raises(ModelError) as caught, reader.mapped(path):
            pass
        assert (caught.value.what, caught.value.where, caught.value.fix) == (what, str(path), fix)


def test_every_truncation_is_noticed():
    # Between two outermost fields a file just ends; whether its graph is all there, the next stage tells.
    content = model().SerializeToString()
    ends = {part.end for part in protobuf.Walk(content, Path("m.onnx")).fields()}
    for length in set(range(1, len(content))) - ends:
        with pytest.raises(ModelError, match=f"truncated at byte {length}"):
            read(content[:length])


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_but_a_model_error(noise, seed):
    content = bytearray(model().SerializeToString())
    at = seed % len(content)
    content[at : at + len(noise)] = noise
    with contextlib.suppress(ModelError):
        read(noise)
    with contextlib.suppress(ModelError):
        read(bytes(content))
