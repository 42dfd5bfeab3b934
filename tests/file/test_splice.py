"""Edits of an ONNX file on the wire against protobuf itself."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.file import reader, splice
from tests.file.test_reader import field, model, read


@given(st.binary(max_size=300), st.binary(max_size=20000), st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_splicing_sets_the_lengths_around_an_edit_as_protobuf_does(old, new, depth):
    def nested(data: bytes) -> onnx.ModelProto:
        proto = model()
        place = [
            proto.graph.initializer[0],
            proto.graph.node[0].attribute[0].t,
            proto.graph.node[3].attribute[0].g.initializer[0],
        ][depth]
        place.raw_data = data
        return proto

    content = nested(old).SerializeToString()
    place = ["initializer 'w'", "node 0 (Constant b), attribute value", "'two'"][depth]
    (tensor,) = (t for t in read(content).tensors if t.place.endswith(place))
    (span,) = tensor.spans
    edit = splice.Edit(span.start, span.end, (field(9, new),), tensor.field)
    out = b"".join(
        content[p.start : p.end] if isinstance(p, splice.Copy) else p for p in splice.splice(len(content), [edit])
    )
    assert out == nested(new).SerializeToString()


def test_a_model_without_payloads_is_small_and_reads_the_same(tmp_path):
    proto = model()
    big = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    ids = np.arange(500)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(big, "big"))
    packed = proto.graph.initializer.add(name="packed", dims=big.shape, data_type=1)
    packed.float_data.extend(big.ravel())
    proto.graph.node[3].attribute[1].g.node[0].attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(ids, "ids"))
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    with reader.mapped(path) as data:
        content = splice.without_payloads(data, reader.read(data, path))
    assert len(content) < 2000
    slim = ir.from_proto(onnx.ModelProto.FromString(content))
    for name in ("big", "packed"):
        np.testing.assert_array_equal(slim.graph.initializers[name].const_value.numpy(), big)
    branch = slim.graph.node(3).attributes["else_branch"].as_graph()
    np.testing.assert_array_equal(branch[0].attributes["value"].as_tensor().numpy(), ids)
    assert slim.graph.initializers["shape"].const_value.numpy().tolist() == [-1, 4]
