"""Models of float16, bfloat16 and double from prepare to export, beside their float32 twins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime as ort
import pytest
import safetensors.numpy
from onnx.reference import ReferenceEvaluator

import dsd_ort
from dsd_ort.errors import DataError
from dsd_ort.graph.program import open_program
from dsd_ort.notes import Note
from dsd_ort.ship.verify import Verdict
from tests.models import CNN_SHAPES, TYPES, cnn_data, retyped, write_cnn

NAMES = ["float16", "double", "bfloat16"]
RECIPE = dsd_ort.Recipe.from_dict(
    {
        "batch_size": 16,
        "phase": [
            {"kind": "dense", "epochs": 2, "learning_rate": 0.05},
            {"kind": "sparse", "sparsity": 0.5, "epochs": 2, "learning_rate": 0.05},
            {"kind": "dense", "epochs": 1, "learning_rate": 0.02},
        ],
    }
)


def rounded(data: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The images in float32, with values that the type *name* has."""
    return data | {"image": data["image"].astype(TYPES[name][1]).astype(np.float32)}


def write(folder: Path, name: str) -> tuple[Path, Path]:
    """A CNN of a type, and the same network with the same weights in float32."""
    model = retyped(onnx.load(write_cnn(folder / "cnn.onnx")), name)
    if name == "bfloat16":  # for which Conv is defined from there on
        model.opset_import[0].version, model.ir_version = 22, 10
    path, twin = folder / "model.onnx", folder / "twin.onnx"
    path.write_bytes(model.SerializeToString())
    twin.write_bytes(retyped(model, "float", name).SerializeToString())
    return path, twin


def train(path: Path, name: str = "float") -> Path:
    run = path.with_suffix("")
    dsd_ort.prepare(path, run, RECIPE)
    dsd_ort.train(run, rounded(cnn_data(96), name), threads=1)
    return run


@pytest.fixture(scope="module", params=NAMES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """A type, and the run folders of a model of it and of its twin."""
    path, twin = write(tmp_path_factory.mktemp(request.param), request.param)
    return request.param, train(path, request.param), train(twin, request.param)


def exported(run: Path) -> tuple[Path, Verdict]:
    final = run.with_name(f"{run.name}-final.onnx")
    return final, dsd_ort.export(run, final)


def test_training_computes_in_float32_what_the_twin_computes_to_the_bit(trained):
    _, run, twin = trained
    for phase in ("1-dense", "2-sparse", "3-dense"):
        one, other = (safetensors.numpy.load_file(r / "phases" / f"{phase}.safetensors") for r in (run, twin))
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_the_notes_say_in_which_types_it_computes(trained):
    name, run, _ = trained
    program = open_program(run)
    assert Note(kind="training", words=f"{name}: computed in float32 for training") in program.notes
    evaluated = [note.words for note in program.notes if note.kind == "evaluation"]
    assert len(evaluated) == (0 if name == "float16" else 1)
    assert all(words.startswith(f"evaluated in float32, as {name} does not run on the CPU: ") for words in evaluated)
    (image,) = program.manifest.inputs
    assert image.dtype == {"float16": "float16", "double": "float64", "bfloat16": "float32"}[name]


def test_only_weights_differ_and_they_are_the_trained_ones_rounded(trained):
    name, run, twin = trained
    final, verdict = exported(run)
    assert verdict.same
    assert {change.name for change in verdict.changed} == set(CNN_SHAPES), "statistics too"
    tensors = {t.name: t for t in onnx.load(final).graph.initializer}
    want = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(exported(twin)[0]).graph.initializer}
    old = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(run.with_suffix(".onnx")).graph.initializer}
    shares = {change.name: change.share for change in verdict.changed}
    for weight, tensor in tensors.items():
        assert tensor.data_type == TYPES[name][0]
        value = onnx.numpy_helper.to_array(tensor)
        np.testing.assert_array_equal(value, want[weight].astype(TYPES[name][1]))
        assert shares[weight] == np.mean(value != old[weight])


def test_pruned_weights_are_zero_in_the_file(trained):
    _, run, _ = trained
    final = run.with_name("sparse.onnx")
    dsd_ort.export(run, final, sparse=True)
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(final).graph.initializer}
    for name in ("conv2.weight", "fc.weight"):
        assert np.count_nonzero(tensors[name] == 0) == round(tensors[name].size * 0.5)


def test_what_is_measured_is_what_ships(trained):
    name, run, _ = trained
    final, _ = exported(run)
    data = rounded(cnn_data(48, seed=7), name)
    metrics = dsd_ort.evaluate(run, data, threads=1)
    assert dsd_ort.evaluate(final, data, RECIPE, threads=1) == metrics
    image, label = data["image"], data["label"]
    if name == "float16":  # on the CPU ONNX Runtime has Conv for this one only
        (scores,) = ort.InferenceSession(str(final)).run(None, {"image": image.astype(np.float16)})
    elif name == "double":
        (scores,) = ReferenceEvaluator(str(final)).run(None, {"image": image.astype(np.float64)})
    else:
        wide = retyped(onnx.load(final), "float", name)
        wide.opset_import[0].version = 17
        (scores,) = ort.InferenceSession(wide.SerializeToString()).run(None, {"image": image})
    assert scores.dtype == {"float16": np.float16, "double": np.float64, "bfloat16": np.float32}[name]
    loss = -np.log(scores[np.arange(len(label)), label].astype(np.float64)).mean()
    assert metrics["top-1"] == np.mean(scores.argmax(1) == label)
    assert metrics["loss"] == pytest.approx(loss, rel=2e-3 if name == "float16" else 1e-6)


def test_data_of_another_float_type_is_converted_and_checked(trained):
    name, run, _ = trained
    data = cnn_data(16)
    for dtype in (np.float16, np.float32, np.float64):
        assert dsd_ort.evaluate(run, data | {"image": data["image"].astype(dtype)}).keys() == {"loss", "top-1", "top-5"}
    if name == "float16":
        data["image"][3, 0, 1, 2] = 70000
        with pytest.raises(DataError, match=r"70000.0 in example 3 at .*, which is infinite as float16"):
            dsd_ort.evaluate(run, data)


@pytest.mark.parametrize("kept", [[], ["Softmax", "BatchNormalization"]])
@pytest.mark.parametrize("float32_io", [True, False])
def test_a_model_that_a_converter_made_trains_to_about_the_same_loss(tmp_path, kept, float32_io):
    """ONNX Runtime's converter: with Casts at the borders, and around operators that it keeps in float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    original = write_cnn(tmp_path / "original.onnx")
    model = onnx.load(original)
    for i, node in enumerate(model.graph.node):
        node.name = f"node {i}"  # it calls what it adds after the nodes
    model = convert_float_to_float16(model, keep_io_types=float32_io, op_block_list=kept)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    runs = train(original), train(path)
    losses = [dsd_ort.evaluate(run, cnn_data(64, seed=3), threads=1)["loss"] for run in runs]
    assert losses[0] < 0.5
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    final, verdict = exported(runs[1])
    assert verdict.same
    dtype = np.float32 if float32_io else np.float16
    (scores,) = ort.InferenceSession(str(final)).run(None, {"image": cnn_data(64, seed=3)["image"].astype(dtype)})
    assert np.mean(scores.argmax(1) == cnn_data(64, seed=3)["label"]) > 0.9
