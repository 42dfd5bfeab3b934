"""Law 1: outside of the weights' own bytes, the exported file is the source.

The expected bytes are made without the code under test: a weight's old payload is searched for in the source's bytes
and replaced by its new one.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.errors import DivergedError, ModelError, RunError
from dsd_ort.model import source
from dsd_ort.ship import export
from dsd_ort.ship.verify import verify
from tests import cases
from tests.file.test_reader import field, varint

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
KINDS = ("raw", "packed", "unpacked", "constant", "tied", "external", "filled")
WIDTH = 3
TYPES = {1: np.float32, 10: np.float16, 11: np.float64, 16: ml_dtypes.bfloat16}
FIELD_AND_KIND = {1: (4, 5), 10: (5, 0), 11: (10, 1), 16: (5, 0)}
"""Type → TensorProto's repeated field for it, and its wire type."""


@dataclass
class Built:
    """A chain of fully connected layers, each weight kept in a way of its own."""

    path: Path
    values: dict[str, np.ndarray]
    kinds: dict[str, str]
    graph: bytes
    """The bytes of its GraphProto, without tag and length."""
    rest: bytes
    """The bytes of its ModelProto, without the graph."""
    dtype: int = 1


def numbers(value: np.ndarray, dtype: int, *, wide: bool = False) -> list[bytes]:
    """Each number as the repeated field has it; *wide* ones of 16 bits are varints of three bytes."""
    if value.itemsize != 2:
        return [number.tobytes() for number in value.ravel()]
    bits = [int(number) for number in value.ravel().view(np.uint16)]
    if not wide:
        return [varint(number) for number in bits]
    return [bytes([number & 127 | 128, number >> 7 & 127 | 128, number >> 14]) for number in bits]


def packed(value: np.ndarray, dtype: int, *, wide: bool = False) -> bytes:
    """One field for all numbers."""
    return field(FIELD_AND_KIND[dtype][0], b"".join(numbers(value, dtype, wide=wide)))


def unpacked(value: np.ndarray, dtype: int, *, wide: bool = False) -> bytes:
    """A tag in front of every number, as proto2 writers emit it."""
    number, kind = FIELD_AND_KIND[dtype]
    return b"".join(bytes([number << 3 | kind]) + part for part in numbers(value, dtype, wide=wide))


def tensor(name: str, value: np.ndarray, kind: str, dtype: int = 1) -> bytes:
    """A TensorProto that keeps *value* as *kind* says, as bytes."""
    if kind == "unpacked":
        dims = b"".join(b"\x08" + bytes([dim]) for dim in value.shape)
        first, rest = unpacked(value[:1], dtype), unpacked(value[1:], dtype)
        return dims + b"\x10" + bytes([dtype]) + first + field(8, name.encode()) + rest
    proto = onnx.TensorProto(dims=value.shape, data_type=dtype, name=name, doc_string=f"about {name}")
    if kind == "packed":
        return proto.SerializeToString() + packed(value, dtype)
    if kind == "external":
        proto.data_location = onnx.TensorProto.EXTERNAL
        for key, entry in {"location": "data/m.bin", "offset": str(stride(dtype) * int(name[1:]) + 4)}.items():
            proto.external_data.add(key=key, value=entry)
    else:
        proto.raw_data = value.tobytes()
    return proto.SerializeToString()


def stride(dtype: int) -> int:
    """Bytes from one weight to the next in an external file."""
    return 16 * np.dtype(TYPES[dtype]).itemsize


def build(folder: Path, kinds: list[str], *, ir_version: int = 8, seed: int = 0, dtype: int = 1) -> Built:
    """``x → MatMul w0 → Add w1 → MatMul w2 → …``: even weights are matrices, odd ones biases, kept as *kinds* say."""
    rng = np.random.default_rng(seed)
    fields = [field(5, onnx.numpy_helper.from_array(np.array([WIDTH] * 2), "square").SerializeToString())]
    fields.append(field(5, onnx.numpy_helper.from_array(np.array([WIDTH]), "row").SerializeToString()))
    inputs, values, last = ["square", "row"], {}, "x"
    data = bytearray(rng.bytes(stride(dtype) * len(kinds)))
    for i, kind in enumerate(kinds):
        name, shape = f"w{i}", (WIDTH,) * (2 - i % 2)
        value = rng.standard_normal(shape).astype(TYPES[dtype])
        used = name
        if kind == "filled":
            value[:] = 0.5
            fill = onnx.helper.make_tensor("", dtype, [1], [0.5])
            node = onnx.helper.make_node("ConstantOfShape", [inputs[i % 2]], [name], f"node {name}", value=fill)
            fields.append(field(1, node.SerializeToString()))
        elif kind == "constant":
            node = onnx.NodeProto(op_type="Constant", name=f"node {name}", output=[name]).SerializeToString()
            attribute = field(1, b"value") + b"\xa0\x01\x04" + field(5, tensor("inner", value, "raw", dtype))
            fields.append(field(1, node + field(5, attribute)))
        else:
            fields.append(field(5, tensor(name, value, kind, dtype)))
            inputs.append(name)
        if kind == "external":
            at = stride(dtype) * i + 4
            data[at : at + value.nbytes] = value.tobytes()
        if kind == "tied":
            fields.append(field(1, onnx.helper.make_node("Identity", [name], ["t" + name]).SerializeToString()))
            used = "t" + name
        values[name] = value
        node = onnx.helper.make_node(("MatMul", "Add")[i % 2], [last, used], [f"y{i}"], f"layer {i}")
        fields.append(field(1, node.SerializeToString()))
        last = f"y{i}"
    frame = onnx.GraphProto(name="main", doc_string="x" * 100)
    frame.input.append(onnx.helper.make_tensor_value_info("x", dtype, ["N", WIDTH]))
    if ir_version == 3:
        shapes = {"square": [2], "row": [1]} | {name: value.shape for name, value in values.items()}
        frame.input.extend(
            onnx.helper.make_tensor_value_info(n, dtype if n in values else 7, shapes[n]) for n in inputs
        )
    frame.output.append(onnx.helper.make_tensor_value_info(last, dtype, ["N", WIDTH]))
    rest = onnx.ModelProto(ir_version=ir_version, producer_name="test", metadata_props=[{"key": "k", "value": "v"}])
    rest.opset_import.add(version=9 if dtype != 16 else 20)
    path = folder / "m.onnx"
    built = Built(
        path,
        values,
        dict(zip(values, kinds, strict=True)),
        b"".join(fields) + frame.SerializeToString(),
        rest.SerializeToString(),
        dtype,
    )
    path.write_bytes(built.rest + field(7, built.graph))
    if "external" in kinds:
        (folder / "data").mkdir()
        (folder / "data" / "m.bin").write_bytes(data)
    return built


def replaced(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) == 1
    return content.replace(old, new)


def expected(built: Built, weights: Mapping[str, np.ndarray]) -> tuple[bytes, bytes | None]:
    """The model file and the external data file after *weights* went in."""
    graph = built.graph
    file = built.path.parent / "data" / "m.bin"
    data = file.read_bytes() if file.exists() else None
    for name, weight in weights.items():
        old, kind, dtype = built.values[name], built.kinds[name], built.dtype
        new = weight.astype(old.dtype)
        if kind == "external":
            assert data is not None
            data = replaced(data, old.tobytes(), new.tobytes())
        elif kind in ("packed", "unpacked"):
            write = packed if kind == "packed" else unpacked
            parts = [slice(None)] if kind == "packed" else [slice(1), slice(1, None)]
            tensors = {t.name: t.SerializeToString() for t in onnx.GraphProto.FromString(graph).initializer}
            before = tensor(name, old, kind, dtype)
            assert onnx.TensorProto.FromString(before).SerializeToString() == tensors[name]
            after = before
            for part in parts:
                after = replaced(after, write(old[part], dtype), write(new[part], dtype, wide=True))
            graph = replaced(graph, field(5, before), field(5, after))
        elif kind != "filled":
            graph = replaced(graph, old.tobytes(), new.tobytes())
        elif old.tobytes() != new.tobytes():
            graph = stored(built, graph, name, new)
    return built.rest + field(7, graph), data


def stored(built: Built, graph: bytes, name: str, value: np.ndarray) -> bytes:
    """The graph with an initializer (before IR version 4: a Constant node) where a ConstantOfShape node was."""
    (node,) = (node for node in onnx.GraphProto.FromString(graph).node if node.output[0] == name)
    proto = onnx.TensorProto(dims=value.shape, data_type=built.dtype, raw_data=value.tobytes())
    if onnx.ModelProto.FromString(built.rest).ir_version > 3:
        proto.name = name
        return replaced(graph, field(1, node.SerializeToString()), field(5, proto.SerializeToString()))
    content = onnx.NodeProto(op_type="Constant", name=node.name, output=[name]).SerializeToString()
    content += field(5, field(1, b"value") + b"\xa0\x01\x04" + field(5, proto.SerializeToString()))
    return replaced(graph, field(1, node.SerializeToString()), field(1, content))


def evaluate(path: Path, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    output: np.ndarray = ort.InferenceSession(str(path), options).run(None, {"x": x})[0]
    return output


@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=2, max_size=6),
    ir_version=st.sampled_from([3, 8]),
    dtype=st.sampled_from(sorted(TYPES)),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_outside_of_the_weights_the_exported_file_is_the_source(kinds, ir_version, dtype, seed, data):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        built = build(folder, kinds, ir_version=ir_version, seed=seed, dtype=dtype)
        original = built.path.read_bytes()
        found = source.load(built.path)
        assert {p.name for p in found.parameters} == set(built.values)
        for name, value in built.values.items():
            np.testing.assert_array_equal(found.value(name), value.astype(np.float32))
        chosen = data.draw(st.sets(st.sampled_from(sorted(built.values))))
        rng = np.random.default_rng(seed + 1)
        weights = {name: rng.standard_normal(built.values[name].shape).astype(np.float32) for name in chosen}
        final = folder / "out" / "final.onnx"

        export.write_weights(found, weights, final)

        model, external = expected(built, weights)
        assert final.read_bytes() == model
        if external is not None:
            assert (folder / "out" / "data" / "m.bin").read_bytes() == external
        assert built.path.read_bytes() == original
        files = {path.name for path in folder.rglob("*") if path.is_file()}
        assert files == {"m.onnx", "final.onnx"} | ({"m.bin"} if external else set())

        verdict = verify(built.path, final)
        assert verdict.same, verdict.reasons
        assert {change.name for change in verdict.changed} == set(weights)
        assert set(verdict.initialized) == {name for name in weights if built.kinds[name] == "filled"}

        onnx.checker.check_model(str(final), full_check=True)
        again = source.load(final)
        assert [p.name for p in again.parameters] == [p.name for p in found.parameters]
        x = rng.standard_normal((2, WIDTH)).astype(TYPES[dtype])
        want = x.astype(np.float64)
        for name, value in (built.values | weights).items():
            ships = value.astype(TYPES[dtype]).astype(np.float64)
            np.testing.assert_array_equal(again.value(name), ships.astype(np.float32))
            want = want @ ships if value.ndim == 2 else want + ships
        if dtype != onnx.TensorProto.BFLOAT16:  # for which ONNX Runtime has no kernels on the CPU
            error = {1: 1e-4, 10: 0.1, 11: 1e-12}[dtype]
            np.testing.assert_allclose(evaluate(final, x), want, rtol=error, atol=error)
        export.write_weights(again, {name: again.value(name) for name in built.values}, folder / "again" / "final.onnx")
        assert (folder / "again" / "final.onnx").read_bytes() == model, "the same weights are the same file"
        export.write_weights(again, weights, folder / "third" / "final.onnx")
        assert (folder / "third" / "final.onnx").read_bytes() == model, "now they are overwritten in place"


def test_weights_that_a_node_still_makes_leave_the_node(tmp_path):
    built = build(tmp_path, ["filled", "filled"])
    same = {name: value.copy() for name, value in built.values.items()}
    same["w1"][0] = 0.25
    export.write_weights(source.load(built.path), same, tmp_path / "final.onnx")
    graph = onnx.load(tmp_path / "final.onnx").graph
    assert [node.output[0] for node in graph.node if node.op_type == "ConstantOfShape"] == ["w0"]
    assert verify(built.path, tmp_path / "final.onnx").initialized == ("w1",)


def doubles(folder: Path) -> Path:
    """A model with one matrix of doubles that have more digits than float32, or less range."""
    built = build(folder, ["raw", "packed"], dtype=11)
    old = np.array([[1 / 3, 1e-60, -1e-60], [np.pi, 1e-60, 0], [-0.0, 2, 1e30]])
    built.path.write_bytes(replaced(built.path.read_bytes(), built.values["w0"].tobytes(), old.tobytes()))
    return built.path


def test_doubles_that_training_did_not_change_keep_their_digits(tmp_path):
    path = doubles(tmp_path)
    found = source.load(path)
    new = found.value("w0").copy()
    new[0, 2], new[1, 1], new[2, 1] = 0.0, 0.0, 2.5  # two are pruned
    export.write_weights(found, {"w0": new}, tmp_path / "final.onnx")
    want = np.array([[1 / 3, 1e-60, 0], [np.pi, 0, 0], [-0.0, 2.5, 1e30]])
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "final.onnx").graph.initializer}
    assert tensors["w0"].tobytes() == want.tobytes()
    (change,) = verify(path, tmp_path / "final.onnx").changed
    assert (change.share, change.largest, change.density) == (3 / 9, 0.5, 5 / 9)


@pytest.mark.parametrize("dtype", sorted(TYPES))
@pytest.mark.parametrize("kind", KINDS)
def test_untrained_weights_are_the_identical_file(tmp_path, kind, dtype):
    path = build(tmp_path, [kind, kind], dtype=dtype).path
    if kind == "raw" and dtype == onnx.TensorProto.DOUBLE:
        path = doubles(tmp_path)
    found = source.load(path)
    export.write_weights(
        found, {p.name: found.value(p.name) for p in found.parameters}, tmp_path / "out" / "final.onnx"
    )
    assert (tmp_path / "out" / "final.onnx").read_bytes() == path.read_bytes()
    verdict = verify(path, tmp_path / "out" / "final.onnx")
    assert verdict.same, verdict.reasons
    assert verdict.changed == verdict.initialized == ()


def test_weights_are_rounded_to_nearest_and_to_even(tmp_path):
    built = build(tmp_path, ["raw", "raw"], dtype=10)
    half, least = 2.0**-11, 2.0**-24
    value = np.float32([[1 + half, 1 + 3 * half, 65519.996], [least / 2, least * 0.75, 1e-9], [-1 - half, 0, -0.0]])
    export.write_weights(source.load(built.path), {"w0": value}, tmp_path / "final.onnx")
    found = source.load(tmp_path / "final.onnx").value("w0")
    assert found.tolist() == [[1, 1 + 4 * half, 65504], [0, least, 0], [-1, 0, 0]]


@pytest.mark.parametrize(("dtype", "value", "text"), [(10, 65520.0, "65520"), (16, -3.4e38, "3.4e\\+38")])
def test_a_weight_too_large_for_its_type_is_refused(tmp_path, dtype, value, text):
    built = build(tmp_path, ["raw", "raw"], dtype=dtype)
    name = np.dtype(TYPES[dtype]).name
    message = refused(tmp_path, DivergedError, built, {"w1": np.float32([1, value, 3])}, tmp_path / "final.onnx")
    assert re.fullmatch(
        f"the weights of 'w1' reach {text}, which is infinite as {name}\n  where: Add layer 1\n  fix:   train with a "
        "smaller learning rate or more weight decay, or export the model in float32",
        message,
    )


def test_floats_that_constants_hold_without_a_tensor_are_overwritten(tmp_path):
    """value_float as the slope of a PRelu, value_floats as a bias."""
    slope = onnx.helper.make_node("Constant", [], ["slope"], value_float=0.25)
    bias = onnx.helper.make_node("Constant", [], ["bias"], value_floats=[0.5, 0.75])
    nodes = [slope, bias, onnx.helper.make_node("MatMul", ["x", "w"], ["a"])]
    nodes += [onnx.helper.make_node("Add", ["a", "bias"], ["b"]), onnx.helper.make_node("PRelu", ["b", "slope"], ["y"])]
    shape = onnx.helper.make_tensor_value_info
    w = onnx.helper.make_tensor("w", 1, [2, 2], [1, 2, 3, 4])
    graph = onnx.helper.make_graph(nodes, "g", [shape("x", 1, ["N", 2])], [shape("y", 1, ["N", 2])], [w])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path, final = tmp_path / "m.onnx", tmp_path / "final.onnx"
    path.write_bytes(model.SerializeToString())
    found = source.load(path)
    assert {p.name: (p.shape, p.storage) for p in found.parameters} == {
        "w": ((2, 2), "initializer"),
        "bias": ((2,), "constant"),
        "slope": ((), "constant"),
    }
    weights = {"bias": np.float32([1, -2]), "slope": np.array(0.125, np.float32)}
    export.write_weights(found, weights, final)
    model.graph.node[0].attribute[0].f = 0.125
    model.graph.node[1].attribute[0].floats[:] = [1, -2]
    assert final.read_bytes() == model.SerializeToString()
    assert {c.name for c in verify(path, final).changed} == {"bias", "slope"}


def test_minus_zero_is_another_weight_than_zero(tmp_path):
    built = build(tmp_path, ["filled", "raw"])
    value = np.full((WIDTH, WIDTH), -0.0, np.float32)
    export.write_weights(source.load(built.path), {"w0": value}, tmp_path / "one.onnx")
    (change,) = verify(built.path, tmp_path / "one.onnx").changed
    assert (change.share, change.largest, change.density) == (1, 0.5, 0)


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_a_model_of_the_zoo_goes_round(tmp_path, name):
    found = source.load(LIGHT / f"light_{name}.onnx")
    rng = np.random.default_rng(0)
    weights = {p.name: rng.standard_normal(p.shape, np.float32) * np.float32(0.1) for p in found.parameters}
    weights |= {p.name: rng.uniform(0.5, 1.5, p.shape).astype(np.float32) for p in found.statistics}
    final = tmp_path / "final.onnx"
    export.write_weights(found, weights, final)
    onnx.checker.check_model(str(final))
    verdict = verify(found.path, final)
    assert verdict.same, verdict.reasons
    assert {change.name for change in verdict.changed} == set(weights)
    filled = [p.name for p in (*found.parameters, *found.statistics) if p.storage == "constant-of-shape"]
    assert verdict.initialized == tuple(filled)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(final), options)
    (data,) = session.get_inputs()
    (output,) = session.run(None, {data.name: rng.standard_normal(data.shape, np.float32)})
    assert np.isfinite(output).all()
    assert output.std() > 0


# --- what is refused, and what then stays


def refused(folder: Path, kind: type[Exception], built: Built, weights: Mapping[str, np.ndarray], final: Path) -> str:
    """The message of the refusal, which leaves the folder as it was."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(kind) as caught:
        export.write_weights(source.load(built.path), weights, final)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    return str(caught.value)


def test_weights_of_another_model_are_refused(tmp_path):
    built, final = build(tmp_path, ["raw", "raw"]), tmp_path / "final.onnx"
    right = built.values["w0"]
    assert refused(tmp_path, RunError, built, {"w9": right}, final) == (
        f"the model has no parameter 'w9'\n  where: {built.path}\n  fix:   did you mean 'w1'?"
    )
    assert refused(tmp_path, RunError, built, {"w0": right[:2]}, final) == (
        "the weights of 'w0' are float32[2, 3], the model's are float32[3, 3]\n"
        f"  where: {built.path}\n  fix:   give weights of this model"
    )
    assert "the weights of 'w0' are float64[3, 3]" in refused(
        tmp_path, RunError, built, {"w0": right.astype(np.float64)}, final
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, bad):
    built = build(tmp_path, ["raw", "raw"])
    weights = {"w1": np.float32([1, bad, 3])}
    assert refused(tmp_path, DivergedError, built, weights, tmp_path / "final.onnx") == (
        "the weights of 'w1' are not finite\n  where: Add layer 1\n"
        "  fix:   export an earlier phase, and train with a smaller learning rate"
    )


def test_the_source_is_never_overwritten(tmp_path):
    built = build(tmp_path, ["external", "raw"])
    (tmp_path / "link.onnx").symlink_to(built.path)
    for name in ("m.onnx", "link.onnx", "data/m.bin", "data/../m.onnx"):
        message = refused(tmp_path, RunError, built, {}, tmp_path / name)
        assert message == (f"the source is never overwritten\n  where: {tmp_path / name}\n  fix:   choose another name")


def test_a_folder_is_no_destination(tmp_path):
    built = build(tmp_path, ["raw", "raw"])
    assert "the destination is a folder" in refused(tmp_path, RunError, built, {}, tmp_path)


def test_a_destination_that_cannot_be_made_is_refused(tmp_path):
    built = build(tmp_path, ["raw", "raw"])
    final = built.path / "final.onnx"  # below a file
    message = refused(tmp_path, RunError, built, {}, final)
    assert message.startswith("the model cannot be written: ")
    assert message.endswith(f"\n  where: {final}\n  fix:   choose another place for it")


def test_external_data_of_the_source_or_another_model_is_never_overwritten(tmp_path):
    built = build(tmp_path, ["external", "raw"])
    data = (tmp_path / "data" / "m.bin").read_bytes()
    for folder, names in ((tmp_path, ("final", "second")), (tmp_path / "other", ("one", "two"))):
        for change, name in enumerate(names, 1):
            for again in (0, 10):
                weights = {"w0": built.values["w0"] + change + again}
                export.write_weights(source.load(built.path), weights, folder / f"{name}.onnx")
                verdict = verify(built.path, folder / f"{name}.onnx")
                of_its_own = "data/m.bin" if name == "one" else f"data/{name}.onnx.bin"
                assert (verdict.same, verdict.data, verdict.shared) == (True, (of_its_own,), ())
    for name, change in (("final", 11), ("second", 12), ("other/one", 11), ("other/two", 12)):
        np.testing.assert_array_equal(source.load(tmp_path / f"{name}.onnx").value("w0"), built.values["w0"] + change)
    assert (tmp_path / "data" / "m.bin").read_bytes() == data
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "final.onnx.bin",
        "m.bin",
        "second.onnx.bin",
    ]


@pytest.mark.parametrize("whose", ["nobody's", "another model's"])
def test_a_file_under_the_name_of_its_external_data_is_never_overwritten(tmp_path, whose):
    built = build(tmp_path, ["external", "raw"])
    taken = tmp_path / "data" / "final.onnx.bin"
    if whose == "another model's":
        export.write_weights(source.load(built.path), {"w0": built.values["w0"] + 1}, tmp_path / "final.onnx")
        (tmp_path / "final.onnx").rename(tmp_path / "better.onnx")
    else:
        taken.write_text("notes")
    before = taken.read_bytes()
    weights = {"w0": built.values["w0"] + 2}
    assert refused(tmp_path, RunError, built, weights, tmp_path / "final.onnx") == (
        "the model's external data would overwrite 'data/final.onnx.bin', which another model may use\n"
        f"  where: {tmp_path / 'final.onnx'}\n  fix:   choose another folder, as {tmp_path / 'final' / 'final.onnx'}"
    )
    assert taken.read_bytes() == before


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("m.onnx.data", "final.onnx.data"),
        ("m.onnx_data", "final.onnx_data"),
        ("m.data", "final.onnx.data"),
        ("weights.bin", "final.onnx.weights.bin"),
        ("m-weights", "final.onnx.m-weights"),
    ],
)
def test_its_external_data_are_called_after_a_model_where_their_own_name_is_taken(tmp_path, location, name):
    found = source.load(cases.external(tmp_path / "m.onnx", location))
    export.write_weights(found, {"W": found.value("W") + 1}, tmp_path / "final.onnx")
    assert verify(found.path, tmp_path / "final.onnx").data == (name,)
    assert ort.InferenceSession(tmp_path / "final.onnx").get_outputs()[0].name == "y"


def test_several_external_data_files_are_renamed_one_by_one(tmp_path):
    built = build(tmp_path, ["external", "external", "raw"])
    proto = onnx.load(built.path, load_external_data=False)
    (tmp_path / "second.bin").write_bytes((tmp_path / "data" / "m.bin").read_bytes())
    moved = next(t for t in proto.graph.initializer if t.name == "w1")
    next(entry for entry in moved.external_data if entry.key == "location").value = "second.bin"
    built.path.write_bytes(proto.SerializeToString())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    export.write_weights(source.load(built.path), {"w0": built.values["w0"] + 1}, tmp_path / "final.onnx")
    verdict = verify(built.path, tmp_path / "final.onnx")
    assert (verdict.same, verdict.data) == (True, ("data/final.onnx.bin", "second.bin"))
    assert verdict.shared == ("second.bin",)
    assert {path: path.read_bytes() for path in before} == before


def test_a_model_whose_data_was_moved_ships_with_the_name_that_is_there(tmp_path):
    built = build(tmp_path, ["external", "raw"])
    (tmp_path / "data" / "m.bin").rename(tmp_path / "m.bin")
    found = source.load(built.path)
    export.write_weights(found, {"w0": built.values["w0"] + 1}, tmp_path / "out" / "final.onnx")
    assert verify(built.path, tmp_path / "out" / "final.onnx").data == ("m.bin",)
    assert onnx.load(tmp_path / "out" / "final.onnx").graph.initializer


def test_data_that_stays_as_it_is_is_shared(tmp_path):
    built = build(tmp_path, ["external", "raw"])
    before = (tmp_path / "data" / "m.bin").stat()
    export.write_weights(source.load(built.path), {"w1": built.values["w1"] + 1}, tmp_path / "final.onnx")
    after = (tmp_path / "data" / "m.bin").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert verify(built.path, tmp_path / "final.onnx").same


def test_the_model_file_appears_when_its_data_is_there(tmp_path, monkeypatch):
    built = build(tmp_path, ["external", "raw"])
    appeared = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: appeared.append(to.name) or replace(path, to))
    export.write_weights(source.load(built.path), {}, tmp_path / "out" / "final.onnx")
    assert appeared == ["m.bin", "final.onnx"]


def test_a_source_that_changed_meanwhile_is_refused(tmp_path):
    built = build(tmp_path, ["raw", "raw"])
    found = source.load(built.path)
    os.utime(built.path, ns=(0, 0))
    with pytest.raises(RunError, match="the model changed while it was in use"):
        export.write_weights(found, {}, tmp_path / "final.onnx")


@pytest.mark.parametrize("fails", ["replace", "fsync"])
def test_a_failure_leaves_the_old_file_and_nothing_half_written(tmp_path, monkeypatch, fails):
    built = build(tmp_path, ["external", "raw"])
    found, final = source.load(built.path), tmp_path / "out" / "final.onnx"
    export.write_weights(found, {}, final)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*(Path, "replace") if fails == "replace" else (os, "fsync"), fail)
    with pytest.raises(RunError) as caught:
        export.write_weights(found, {"w1": built.values["w1"] + 1}, final)
    assert str(caught.value) == (
        f"the model cannot be written: No space left on device\n  where: {final}\n  fix:   choose another place for it"
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_model_too_large_for_one_file_is_refused(tmp_path, monkeypatch):
    found = source.load(LIGHT / "light_squeezenet.onnx")
    weights = {p.name: found.value(p.name) + 1 for p in found.parameters}
    monkeypatch.setattr(export, "LARGEST", 1_000_000)
    with pytest.raises(ModelError) as caught:
        export.write_weights(found, weights, tmp_path / "final.onnx")
    assert "with its weights the model takes 4953" in caught.value.what
    assert caught.value.where == str(found.path)
    assert "save_as_external_data=True" in caught.value.fix
    assert not list(tmp_path.iterdir())
