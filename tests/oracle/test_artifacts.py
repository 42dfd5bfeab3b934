"""Training graphs of ONNX Runtime's own exporter as sources, against ONNX Runtime's own training loop."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnxruntime.training import api as ort_training
from onnxruntime.training import artifacts as exporter

import dsd_ort
from dsd_ort.api import default_recipe
from dsd_ort.cli.commands import cli
from dsd_ort.errors import DsdError
from dsd_ort.graph import exported, masks
from dsd_ort.model import artifacts
from dsd_ort.notes import Note
from dsd_ort.recipe import Phase
from dsd_ort.rewrite.names import place
from tests.device.test_mixed import Step, flat
from tests.models import cnn_data, write_cnn

pytestmark = pytest.mark.oracle

BATCH, STEPS = 16, 12
OPTIMIZERS = {"adamw": exporter.OptimType.AdamW, "sgd": exporter.OptimType.SGD}
KINDS = ("adamw", "adamw as in PyTorch", "sgd")
"""ONNX Runtime's AdamW has two modes, which differ in where epsilon is added; the exporter writes Hugging Face's."""
LOSSES = {
    "cross-entropy": exporter.LossType.CrossEntropyLoss,
    "mse": exporter.LossType.MSELoss,
    "bce": exporter.LossType.BCEWithLogitsLoss,
    "l1": exporter.LossType.L1Loss,
}
RATE = {"adamw": 1e-3, "sgd": 1e-2}


def export(folder: Path, optimizer: str = "adamw", loss: str = "cross-entropy", prefix: str = "") -> Path:
    """The artifacts of a small CNN with batch norm that ends in logits."""
    model = onnx.load(write_cnn(folder / "cnn.onnx"))
    del model.graph.node[-1]
    model.graph.output[0].name = "logits"
    weights = [tensor.name for tensor in model.graph.initializer if not tensor.name.endswith((".mean", ".var"))]
    exporter.generate_artifacts(
        model,
        requires_grad=weights,
        loss=LOSSES[loss],
        optimizer=OPTIMIZERS[optimizer.split(maxsplit=1)[0]],
        artifact_directory=folder,
        prefix=prefix,
    )
    file = folder / f"{prefix}optimizer_model.onnx"
    steps = onnx.load(file)
    steps.ir_version = 10  # the exporter writes what onnx has, which may be newer than ONNX Runtime reads
    for attribute in steps.graph.node[0].attribute:
        if attribute.name == "adam_mode" and optimizer.endswith("PyTorch"):
            attribute.i = 0
    onnx.save(steps, file)
    return folder


def data(loss: str, label: str) -> dict[str, np.ndarray]:
    arrays = cnn_data(BATCH * STEPS)
    labels = arrays.pop("label")
    target = labels if loss == "cross-entropy" else np.eye(3, dtype=np.float32)[labels]
    return {**arrays, label: target}


def recipe(folder: Path, optimizer: str, *kinds: str) -> dsd_ort.Recipe:
    rate = RATE[optimizer.split(maxsplit=1)[0]]
    phases = tuple(
        Phase(
            kind=kind,
            steps=STEPS,
            learning_rate=rate,
            sparsity=0.5 if kind == "sparse" else None,
        )
        for kind in kinds
    )
    made = msgspec.structs.replace(default_recipe(folder), phase=phases, batch_size=BATCH)
    return msgspec.structs.replace(made, data=msgspec.structs.replace(made.data, shuffle=False))


def trained_by_onnx_runtime(folder: Path, optimizer: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    state = ort_training.CheckpointState.load_checkpoint(folder / "checkpoint")
    module = ort_training.Module(folder / "training_model.onnx", state, folder / "eval_model.onnx")
    steps = ort_training.Optimizer(folder / "optimizer_model.onnx", module)
    steps.set_learning_rate(RATE[optimizer.split(maxsplit=1)[0]])
    module.train()
    for step in range(STEPS):
        module(*(array[step * BATCH : (step + 1) * BATCH] for array in arrays.values()))
        steps.step()
        module.lazy_reset_grad()
    return {name: np.array(parameter.data) for name, parameter in state.parameters}


@pytest.mark.parametrize("optimizer", KINDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_dense_phase_ends_with_the_weights_of_onnx_runtimes_own_loop(
    tmp_path: Path, loss: str, optimizer: str
) -> None:
    folder = export(tmp_path, optimizer, loss)
    (label,) = artifacts.label_names(artifacts.find(folder))
    arrays = data(loss, label)
    expected = trained_by_onnx_runtime(folder, optimizer, arrays)
    program = dsd_ort.prepare(folder, tmp_path / "run", recipe(folder, optimizer, "dense"))
    dsd_ort.train(tmp_path / "run", arrays)
    verdict = dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")

    assert verdict.same
    assert program.recipe.optimizer.name == optimizer.split(maxsplit=1)[0]
    found = artifacts.weights(artifacts.Artifacts(tmp_path, "final."))
    assert set(found) == set(expected)
    shipped = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "final.onnx").graph.initializer}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=2e-6, err_msg=name)
        np.testing.assert_array_equal(found[name], shipped[name], err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_all_phases_run_and_what_ships_is_what_was_measured(tmp_path: Path, optimizer: str) -> None:
    folder = export(tmp_path, optimizer)
    arrays = data("cross-entropy", "labels")
    dsd_ort.prepare(folder, tmp_path / "run", recipe(folder, optimizer, "dense", "sparse", "dense"))
    phases = dsd_ort.train(tmp_path / "run", arrays, eval_data=arrays)
    dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")
    dsd_ort.export(tmp_path / "run", tmp_path / "sparse.onnx", sparse=True)

    session = onnxruntime.InferenceSession(tmp_path / "final.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": arrays["image"]})
    assert np.mean(logits.argmax(1) == arrays["labels"]) == pytest.approx(phases[-1]["metrics"]["top-1"])
    pruned = artifacts.weights(artifacts.Artifacts(tmp_path, "sparse."))["conv2.weight"]
    assert np.count_nonzero(pruned == 0) == pruned.size // 2
    state = ort_training.CheckpointState.load_checkpoint(tmp_path / "final.checkpoint")
    assert state.parameters["fc.bias"].data.shape == (3,)
    before, after = (statistics(tmp_path / name) for name in ("eval_model.onnx", "final.onnx"))
    assert not np.array_equal(before, after)  # the running statistics followed


def statistics(path: Path) -> np.ndarray:
    return next(onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if t.name == "bn.mean")


def test_a_note_for_each_node_whose_statistics_follow(tmp_path: Path) -> None:
    graph = exported.training_graph(artifacts.find(export(tmp_path)), ["bn.mean", "bn.var"])
    (node,) = [node for node in graph.model.graph if node.op_type == "BatchNormInternal"]
    words = "Running statistics follow the batches; training_model.onnx itself keeps them as they are"
    assert graph.notes == (Note(kind="rewrite", node=place(node), words=words),)


def test_masks_leave_the_graph_as_it_stands(tmp_path: Path) -> None:
    found = artifacts.find(export(tmp_path))
    graph = exported.training_graph(found, [])
    before = graph.model.clone()
    masks.insert(graph.model, {name: graph.gradients[name] for name in ("conv2.weight", "fc.weight")})
    masks.strip(graph.model)
    assert onnx_bytes(graph.model) == onnx_bytes(before)
    theirs = [node.op_type for node in onnx.load(found.training).graph.node]
    assert [n.op_type for n in before.graph] == [op for op in theirs if op != "InPlaceAccumulatorV2"]


def onnx_bytes(model: object) -> bytes:
    import onnx_ir

    return onnx_ir.to_proto(model).SerializeToString(deterministic=True)


def test_files_with_a_prefix_are_found_by_name_and_missing_ones_are_named(tmp_path: Path) -> None:
    export(tmp_path, prefix="digits_")
    found = artifacts.find(tmp_path / "digits_training_model.onnx")
    assert found is not None and found == artifacts.find(tmp_path)
    (tmp_path / "digits_checkpoint").unlink()
    with pytest.raises(DsdError, match="lacks digits_checkpoint"):
        artifacts.find(tmp_path)


def test_an_ordinary_model_is_no_training_graph(tmp_path: Path) -> None:
    assert artifacts.find(write_cnn(tmp_path / "cnn.onnx")) is None
    assert artifacts.find(tmp_path) is None


def test_inspect_says_what_a_training_graph_brings(tmp_path: Path) -> None:
    folder = export(tmp_path, "adamw as in PyTorch")
    found = dsd_ort.inspect(folder)
    assert found.trainable
    assert {p.name for p in found.statistics} == {"bn.mean", "bn.var"}
    assert found.training_graph is not None
    assert found.training_graph.labels == ("labels",)
    assert found.training_graph.gradients == {p.name for p in found.parameters}
    assert found.training_graph.optimizer == artifacts.optimizer(artifacts.find(folder))
    assert found.pruned == {"conv2.weight", "fc.weight"}
    np.testing.assert_array_equal(found.value("fc.bias"), artifacts.weights(artifacts.find(folder))["fc.bias"])
    shown = CliRunner().invoke(cli, ["inspect", str(folder / "training_model.onnx")])
    assert shown.exit_code == 0, shown
    for text in ("a training graph of ONNX Runtime's own exporter", "with 'labels'", "for 7 of 7", "optimizer: adamw"):
        assert text in shown.output


def test_compare_takes_it_and_knows_it_again(tmp_path: Path) -> None:
    """Its loss and its metrics are its own, so the recipe in the run folder is not the one that was given."""
    folder, examples = export(tmp_path), data("cross-entropy", "labels")
    wanted = recipe(folder, "adamw", "dense", "sparse", "dense")
    first, second = (dsd_ort.compare(folder, tmp_path / "both", wanted, examples, examples, threads=1) for _ in "12")
    assert first.verdict.same
    assert first.rows == second.rows
    assert (tmp_path / "both" / "final.checkpoint").exists()


@pytest.mark.parametrize("loss", LOSSES)
def test_check_compares_its_gradients_with_its_own_loss(tmp_path: Path, loss: str) -> None:
    report = dsd_ort.check(export(tmp_path, loss=loss), isolate=False, threads=1)
    assert report.ok, report
    assert {row.mode for row in report.rows} == {"training"}
    assert {row.reference for row in report.rows} == {"float64, ONNX reference"}
    assert {name for row in report.rows for name in row.tensors if row.verdict == "right"} >= {
        "conv2.weight",
        "fc.bias",
    }
    assert [line.what for line in report.lines] == ["loss", "sparse step", "export"]


def test_check_finds_a_gradient_that_the_training_graph_has_wrong(tmp_path: Path) -> None:
    """The gradient of fc.weight is exchanged for itself plus itself."""
    folder = export(tmp_path)
    model = onnx.load(folder / "training_model.onnx")
    (node,) = [n for n in model.graph.node if n.input and n.input[0].startswith("fc.weight_grad.accumulation")]
    at = list(model.graph.node).index(node)
    model.graph.node.insert(at, onnx.helper.make_node("Add", [node.input[1], node.input[1]], ["twice"]))
    node = model.graph.node[at + 1]
    node.input[1] = "twice"
    onnx.save(model, folder / "training_model.onnx")
    report = dsd_ort.check(folder, isolate=False, threads=1)
    assert [row.group for row in report.wrong] == ["fc.weight"]
    assert not report.ok


@pytest.mark.parametrize("loss", LOSSES)
def test_an_exported_training_graph_runs_in_mixed_precision(tmp_path: Path, loss: str) -> None:
    folder = export(tmp_path, "sgd", loss)
    (label,) = artifacts.label_names(artifacts.find(folder))
    batch = {name: array[:BATCH] for name, array in data(loss, label).items()}
    program = dsd_ort.prepare(folder, tmp_path / "run", recipe(folder, "sgd", "dense"))
    loss32, exact = Step(program)(batch)
    loss16, mixed = Step(program, "bf16")(batch, 2.0)
    assert loss16 == pytest.approx(loss32, rel=1e-2) and loss16 != loss32
    assert np.linalg.norm(flat(mixed) / 2 - flat(exact)) < 0.05 * np.linalg.norm(flat(exact))
