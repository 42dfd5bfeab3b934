"""The prepared Program: its graphs, the layout of its buffers, and what a recipe chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

import dsd_ort
from dsd_ort.errors import RecipeError, UnsupportedError
from dsd_ort.graph import masks
from dsd_ort.graph.manifest import Manifest
from dsd_ort.graph.prepare import build
from dsd_ort.graph.program import GRAPHS, open_program
from dsd_ort.model import source as source_files
from tests.models import CNN_SHAPES, write_cnn

PHASES = [
    {"kind": "dense", "steps": 1, "learning_rate": 0.1},
    {"kind": "sparse", "sparsity": 0.5, "steps": 1, "learning_rate": 0.1},
]


def recipe(**changes: Any) -> dsd_ort.Recipe:
    return dsd_ort.Recipe.from_dict({"phase": PHASES} | changes)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cnn(tmp_path_factory.mktemp("model") / "model.onnx")


def manifest(model: Path, **changes: Any) -> Manifest:
    return build(source_files.load(model), recipe(**changes))[0]


def test_a_program_is_four_small_graphs_a_manifest_and_a_copy_of_the_model(model: Path, tmp_path: Path) -> None:
    dsd_ort.prepare(model, tmp_path / "run", recipe())
    files = sorted(str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file())
    assert files == sorted([*(f"graphs/{name}.onnx" for name in GRAPHS), "manifest.json", "source/model.onnx"])
    assert (tmp_path / "run" / "source" / "model.onnx").read_bytes() == model.read_bytes()
    for name in GRAPHS:
        graph = onnx.load(tmp_path / "run" / "graphs" / f"{name}.onnx").graph
        large = [i.name for i in graph.initializer if onnx.numpy_helper.to_array(i).size > 16]
        assert not large, "weights are inputs"


@pytest.mark.training_build
def test_the_recipe_says_what_differentiates(model: Path) -> None:
    made = {builder: build(source_files.load(model), recipe(builder=builder)) for builder in ("own", "ort")}
    gradients = {builder: {p.successor for p in manifest.trained} for builder, (manifest, _) in made.items()}
    assert gradients["own"] == gradients["ort"] == {f"{p.name}_grad" for p in made["own"][0].trained}
    names = {builder: {node.name for node in graphs["step"].graph.node} for builder, (_, graphs) in made.items()}
    assert "a/grad/ConvGrad" in names["own"] and not any("_Grad/" in name for name in names["own"])
    assert any("_Grad/" in name for name in names["ort"])
    for graph in ("update", "evaluate"):
        assert made["own"][1][graph] == made["ort"][1][graph]


def test_the_same_model_and_recipe_make_the_same_program(model: Path, tmp_path: Path) -> None:
    first = dsd_ort.prepare(model, tmp_path / "a", recipe())
    second = dsd_ort.prepare(model, tmp_path / "b", recipe())
    assert first.digest == second.digest == open_program(tmp_path / "a").digest
    assert first.digest != dsd_ort.prepare(model, tmp_path / "c", recipe(seed=1)).digest
    for name in GRAPHS:
        assert first.graph_path(name).read_bytes() == second.graph_path(name).read_bytes()


def test_slices_are_ordered_prunable_trained_frozen_and_do_not_overlap(model: Path) -> None:
    made = manifest(model, freeze=["bn.bias"])
    assert {p.name for p in made.parameters} | {s.name for s in made.statistics} == set(CNN_SHAPES)
    assert [p.name for p in made.prunable] == ["conv2.weight", "fc.weight"]
    assert made.parameters[-1].name == "bn.bias"
    assert not made.parameters[-1].trained
    ranks = [(not p.trained, not p.prunable) for p in made.parameters]
    assert ranks == sorted(ranks)
    end = 0
    for piece in made.parameters:
        assert piece.offset >= end
        assert piece.offset % 16 == 0
        assert piece.size == np.prod(piece.shape)
        end = piece.offset + piece.size


def test_the_first_convolution_is_pruned_only_where_the_recipe_says_so(model: Path) -> None:
    assert "conv1.weight" in {p.name for p in manifest(model, prune={"exclude": []}).prunable}
    assert [p.name for p in manifest(model, prune={"exclude": ["first-conv", "fc.*"]}).prunable] == ["conv2.weight"]
    assert "fc.bias" in {p.name for p in manifest(model, prune={"include": ["fc.bias"]}).prunable}


def test_only_the_sparse_graph_has_masks_one_for_each_prunable_parameter(model: Path) -> None:
    made, graphs = build(source_files.load(model), recipe())
    inputs = {name: {i.name for i in graph.graph.input} for name, graph in graphs.items()}
    expected = {masks.mask_name(p.name) for p in made.prunable}
    assert inputs["sparse"] - inputs["step"] == expected
    assert inputs["step"] - inputs["sparse"] == set()


def test_groups_set_decay_and_rate_and_the_first_that_matches_counts(model: Path) -> None:
    groups = [
        {"match": ["fc.bias"], "learning_rate_factor": 2.0},
        {"match": ["role:bias", "role:norm"], "weight_decay": 0.0},
    ]
    made = manifest(model, optimizer={"weight_decay": 0.1, "groups": groups})
    found = {p.name: (p.weight_decay, p.learning_rate_factor) for p in made.parameters}
    assert found["fc.bias"] == (0.1, 2.0)
    assert found["conv2.bias"] == found["bn.weight"] == (0.0, 1.0)
    assert found["conv1.weight"] == (0.1, 1.0)


def test_a_loss_reads_the_logits_and_the_shipped_graph_keeps_its_softmax(model: Path) -> None:
    _, graphs = build(source_files.load(model), recipe())
    assert "Softmax" in {node.op_type for node in graphs["evaluate"].graph.node}
    assert "Softmax" not in {node.op_type for node in graphs["step"].graph.node}


def test_statistics_have_successors_in_training_and_none_where_batch_norm_is_frozen(model: Path) -> None:
    assert all(s.successor for s in manifest(model).statistics)
    assert not any(s.successor for s in manifest(model, batch_norm="frozen").statistics)


TWO_OUTPUTS = """
<ir_version: 8, opset_import: ["" : 17]>
two (float[N, 4] x) => (float[N, 3] kind, float[N, 1] size)
    <float[4, 3] w = {1,2,3,4,5,6,7,8,9,1,2,3}, float[4, 1] v = {1,2,3,4}> {
    kind = MatMul (x, w)
    size = MatMul (x, v)
}
"""


@pytest.fixture
def two_outputs(tmp_path: Path) -> Path:
    path = tmp_path / "two.onnx"
    path.write_bytes(onnx.parser.parse_model(TWO_OUTPUTS).SerializeToString())
    return path


def test_losses_at_several_outputs_are_weighted_and_added(two_outputs: Path, tmp_path: Path) -> None:
    """Plain gradient descent of one step on both, against the gradients written down."""
    losses = [
        {"output": "kind", "label": "which", "weight": 0.5},
        {"name": "mse", "output": "size", "label": "how_much", "weight": 2.0},
    ]
    phases = [{"kind": "dense", "steps": 1, "learning_rate": 1.0}]
    dsd_ort.prepare(two_outputs, tmp_path / "run", recipe(loss=losses, phase=phases, optimizer={"momentum": 0.0}))
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((32, 4)).astype(np.float32), rng.standard_normal((32, 1)).astype(np.float32)
    y = rng.integers(0, 3, 32)
    dsd_ort.train(tmp_path / "run", {"x": x, "which": y, "how_much": t}, threads=1)
    dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")
    before, after = dsd_ort.inspect(two_outputs), dsd_ort.inspect(tmp_path / "final.onnx")
    w, v = before.value("w").astype(np.float64), before.value("v").astype(np.float64)
    p = np.exp(x @ w - (x @ w).max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(after.value("w"), w - 0.5 * x.T @ (p - np.eye(3)[y]) / 32, atol=1e-5)
    np.testing.assert_allclose(after.value("v"), v - 2.0 * x.T @ (2 * (x @ v - t)) / 32, atol=1e-5)


def test_a_loss_at_one_of_several_outputs_trains_what_it_depends_on(two_outputs: Path) -> None:
    made = manifest(two_outputs, loss={"name": "mse", "output": "size"})
    assert [p.name for p in made.trained] == ["v"]
    with pytest.raises(RecipeError, match="names no output, and the model has 2"):
        manifest(two_outputs)


def test_a_sparse_phase_with_nothing_to_prune_is_refused(model: Path) -> None:
    with pytest.raises(RecipeError, match="no parameter may be pruned"):
        manifest(model, prune={"exclude": ["*"]})
    assert not manifest(model, prune={"exclude": ["*"]}, phase=PHASES[:1]).prunable


def test_a_model_without_anything_to_train_is_refused(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }'
    (tmp_path / "m.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    with pytest.raises(UnsupportedError, match="nothing to train"):
        manifest(tmp_path / "m.onnx")


def test_a_batch_norm_is_frozen_where_the_recipe_freezes_its_statistics(model: Path) -> None:
    frozen = build(source_files.load(model), recipe(freeze=["bn.*"]))
    assert not any(s.successor for s in frozen[0].statistics)
    assert "BatchNormInternal" not in {node.op_type for node in frozen[1]["step"].graph.node}
    assert all(s.successor for s in manifest(model, freeze=["bn.weight", "bn.bias"]).statistics)
