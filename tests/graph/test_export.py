"""Law 1: outside of the weights' own bytes, the exported file is the source.

The expected bytes are made without the code under test: a weight's old payload is searched for in the source's bytes
and replaced by its new one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.errors import DivergedError, ModelError, RunError
from dsd_ort.graph import export, source
from dsd_ort.graph.verify import verify
from tests.graph.test_wire import field, unpacked

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
KINDS = ("raw", "packed", "unpacked", "constant", "tied", "external", "filled")
WIDTH = 3


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


def tensor(name: str, value: np.ndarray, kind: str) -> bytes:
    """A TensorProto that keeps *value* as *kind* says, as bytes."""
    if kind == "unpacked":
        dims = b"".join(b"\x08" + bytes([dim]) for dim in value.shape)
        return dims + b"\x10\x01" + unpacked(value[:1]) + field(8, name.encode()) + unpacked(value[1:])
    proto = onnx.TensorProto(dims=value.shape, data_type=1, name=name, doc_string=f"about {name}")
    if kind == "packed":
        proto.float_data.extend(value.ravel())
    elif kind == "external":
        proto.data_location = onnx.TensorProto.EXTERNAL
        for key, entry in {"location": "data/m.bin", "offset": str(64 * int(name[1:]) + 4)}.items():
            proto.external_data.add(key=key, value=entry)
    else:
        proto.raw_data = value.tobytes()
    return proto.SerializeToString()


def build(folder: Path, kinds: list[str], *, ir_version: int = 8, seed: int = 0) -> Built:
    """``x → MatMul w0 → Add w1 → MatMul w2 → …``: even weights are matrices, odd ones biases, kept as *kinds* say."""
    rng = np.random.default_rng(seed)
    fields = [field(5, onnx.numpy_helper.from_array(np.array([WIDTH] * 2), "square").SerializeToString())]
    fields.append(field(5, onnx.numpy_helper.from_array(np.array([WIDTH]), "row").SerializeToString()))
    inputs, values, last = ["square", "row"], {}, "x"
    data = bytearray(rng.bytes(64 * len(kinds)))
    for i, kind in enumerate(kinds):
        name, shape = f"w{i}", (WIDTH,) * (2 - i % 2)
        value = rng.standard_normal(shape).astype(np.float32)
        used = name
        if kind == "filled":
            value[:] = 0.5
            fill = onnx.helper.make_tensor("", onnx.TensorProto.FLOAT, [1], [0.5])
            node = onnx.helper.make_node("ConstantOfShape", [inputs[i % 2]], [name], f"node {name}", value=fill)
            fields.append(field(1, node.SerializeToString()))
        elif kind == "constant":
            node = onnx.NodeProto(op_type="Constant", name=f"node {name}", output=[name]).SerializeToString()
            attribute = field(1, b"value") + b"\xa0\x01\x04" + field(5, tensor("inner", value, "raw"))
            fields.append(field(1, node + field(5, attribute)))
        else:
            fields.append(field(5, tensor(name, value, kind)))
            inputs.append(name)
        if kind == "external":
            at = 64 * i + 4
            data[at : at + value.nbytes] = value.tobytes()
        if kind == "tied":
            fields.append(field(1, onnx.helper.make_node("Identity", [name], ["t" + name]).SerializeToString()))
            used = "t" + name
        values[name] = value
        node = onnx.helper.make_node(("MatMul", "Add")[i % 2], [last, used], [f"y{i}"], f"layer {i}")
        fields.append(field(1, node.SerializeToString()))
        last = f"y{i}"
    frame = onnx.GraphProto(name="main", doc_string="x" * 100)
    frame.input.append(onnx.helper.make_tensor_value_info("x", 1, ["N", WIDTH]))
    if ir_version == 3:
        shapes = {"square": [2], "row": [1]} | {name: value.shape for name, value in values.items()}
        frame.input.extend(onnx.helper.make_tensor_value_info(n, 1 if n in values else 7, shapes[n]) for n in inputs)
    frame.output.append(onnx.helper.make_tensor_value_info(last, 1, ["N", WIDTH]))
    rest = onnx.ModelProto(ir_version=ir_version, producer_name="test", metadata_props=[{"key": "k", "value": "v"}])
    rest.opset_import.add(version=9)
    path = folder / "m.onnx"
    built = Built(
        path,
        values,
        dict(zip(values, kinds, strict=True)),
        b"".join(fields) + frame.SerializeToString(),
        rest.SerializeToString(),
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
    for name, new in weights.items():
        old, kind = built.values[name], built.kinds[name]
        if kind == "external":
            assert data is not None
            data = replaced(data, old.tobytes(), new.tobytes())
        elif kind == "unpacked":
            graph = replaced(graph, unpacked(old[:1]), unpacked(new[:1]))
            graph = replaced(graph, unpacked(old[1:]), unpacked(new[1:]))
        elif kind != "filled":
            graph = replaced(graph, old.tobytes(), new.tobytes())
        elif (old.view(np.uint32) != new.view(np.uint32)).any():
            graph = stored(built, graph, name, new)
    return built.rest + field(7, graph), data


def stored(built: Built, graph: bytes, name: str, value: np.ndarray) -> bytes:
    """The graph with an initializer (before IR version 4: a Constant node) where a ConstantOfShape node was."""
    (node,) = (node for node in onnx.GraphProto.FromString(graph).node if node.output[0] == name)
    proto = onnx.TensorProto(dims=value.shape, data_type=onnx.TensorProto.FLOAT, raw_data=value.tobytes())
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
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_outside_of_the_weights_the_exported_file_is_the_source(kinds, ir_version, seed, data):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        built = build(folder, kinds, ir_version=ir_version, seed=seed)
        original = built.path.read_bytes()
        found = source.load(built.path)
        assert {p.name for p in found.parameters} == set(built.values)
        for name, value in built.values.items():
            np.testing.assert_array_equal(found.value(name), value)
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
        x = want = rng.standard_normal((2, WIDTH)).astype(np.float32)
        for name, value in (built.values | weights).items():
            np.testing.assert_array_equal(again.value(name), value)
            want = want @ value if value.ndim == 2 else want + value
        np.testing.assert_allclose(evaluate(final, x), want, rtol=1e-4, atol=1e-4)


def test_weights_that_a_node_still_makes_leave_the_node(tmp_path):
    built = build(tmp_path, ["filled", "filled"])
    same = {name: value.copy() for name, value in built.values.items()}
    same["w1"][0] = 0.25
    export.write_weights(source.load(built.path), same, tmp_path / "final.onnx")
    graph = onnx.load(tmp_path / "final.onnx").graph
    assert [node.output[0] for node in graph.node if node.op_type == "ConstantOfShape"] == ["w0"]
    assert verify(built.path, tmp_path / "final.onnx").initialized == ("w1",)


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
    weights = {"w0": built.values["w0"] + 1}
    message = refused(tmp_path, RunError, built, weights, tmp_path / "final.onnx")
    assert message == (
        "the model's external data would overwrite 'm.bin', whose name cannot be changed\n"
        f"  where: {tmp_path / 'final.onnx'}\n  fix:   choose another folder, as {tmp_path / 'final' / 'final.onnx'}"
    )
    other = tmp_path / "other"
    export.write_weights(source.load(built.path), weights, other / "one.onnx")
    assert "would overwrite 'm.bin'" in refused(tmp_path, RunError, built, {}, other / "two.onnx")
    export.write_weights(source.load(built.path), {"w0": built.values["w0"] + 2}, other / "one.onnx")
    np.testing.assert_array_equal(source.load(other / "one.onnx").value("w0"), built.values["w0"] + 2)


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
    monkeypatch.setattr(export, "_LARGEST", 1_000_000)
    with pytest.raises(ModelError) as caught:
        export.write_weights(found, weights, tmp_path / "final.onnx")
    assert "with its weights the model takes 4953" in caught.value.what
    assert caught.value.where == str(found.path)
    assert "save_as_external_data=True" in caught.value.fix
    assert not list(tmp_path.iterdir())
