"""On an ONNX Runtime without training: it prepares the same, and repeats what the training build computed of it.

``make stock`` runs it, with the folder that ``python -m tests.stock`` wrote in the variable DSD_ORT_STOCK.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest

import dsd_ort
from dsd_ort import runtime
from dsd_ort.device.lower import FORMS
from dsd_ort.errors import DivergedError, InstallationError
from dsd_ort.graph.program import open_program
from tests.cuda.computed import feeds, outputs
from tests.cuda.placement import forms
from tests.stock.siblings import BATCH, SIBLINGS, data, disagreement, one_step, recipe

pytestmark = pytest.mark.stock

STEP, END = 1e-5, 1e-4
"""Of the loss and of each gradient's norm; of each weight's norm after the last phase."""


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(os.environ["DSD_ORT_STOCK"])


def weights(path: Path) -> dict[str, np.ndarray]:
    return {name: value.const_value.numpy() for name, value in ir.load(path).graph.initializers.items()}


@pytest.mark.parametrize("name", SIBLINGS)
def test_it_prepares_the_same_graphs(name: str, folder: Path, tmp_path: Path) -> None:
    assert not runtime.trains()
    dsd_ort.prepare(folder / f"{name}.onnx", tmp_path / "run", recipe(name))
    graphs = sorted((folder / name / "graphs").iterdir())
    assert len(graphs) == 4
    for graph in graphs:
        mine = onnx.load(tmp_path / "run" / "graphs" / graph.name)
        assert mine == onnx.load(graph), graph.name


def test_it_has_no_gradient_builder_and_says_so(folder: Path, tmp_path: Path) -> None:
    other = msgspec.structs.replace(recipe("lenet"), builder="ort")
    with pytest.raises(InstallationError, match="which cannot differentiate models by itself"):
        dsd_ort.prepare(folder / "lenet.onnx", tmp_path / "run", other)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InstallationError, match="which cannot differentiate models by itself"):
        dsd_ort.inspect(folder / "lenet.onnx", builder="ort")


@pytest.mark.parametrize("name", SIBLINGS)
@pytest.mark.parametrize("graph", ["step", "sparse"])
def test_a_step_is_the_training_builds_step(name: str, graph: str, folder: Path) -> None:
    expected = dict(np.load(folder / f"{name}.{graph}.npz"))
    loss = float(expected.pop("loss"))
    batch = {key: array[:BATCH] for key, array in data(name).items()}
    got = one_step(folder / name, batch, sparse=graph == "sparse")
    assert got.loss == pytest.approx(loss, rel=STEP)
    assert disagreement(got.gradients, expected) < STEP


@pytest.mark.parametrize("name", SIBLINGS)
@pytest.mark.parametrize("graph", ["step", "sparse"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_the_forms_for_cuda_compute_it_too(
    name: str, graph: str, deterministic: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(FORMS["cuda"], "Dropout")  # whose masks are others
    expected = dict(np.load(folder / f"{name}.{graph}.npz"))
    program, batch = open_program(folder / name), {key: array[:BATCH] for key, array in data(name).items()}
    shapes = {key: array.shape for key, array in batch.items()}
    model = forms(program, graph, shapes, deterministic=deterministic)
    got = outputs(model, feeds(program, batch, sparse=graph == "sparse"))
    assert float(got[program.manifest.step_loss]) == pytest.approx(float(expected.pop("loss")), rel=STEP)
    assert disagreement({piece.name: got[piece.successor] for piece in program.manifest.trained}, expected) < STEP


@pytest.mark.parametrize("name", SIBLINGS)
def test_dense_sparse_dense_ends_with_the_training_builds_weights(name: str, folder: Path, tmp_path: Path) -> None:
    run = tmp_path / name
    shutil.copytree(folder / name, run)
    phases = dsd_ort.train(run, data(name), eval_data=data(name), threads=1)
    assert [phase["kind"] for phase in phases] == ["dense", "sparse", "dense"]
    final = tmp_path / "final.onnx"
    assert dsd_ort.export(run, final).same
    assert dsd_ort.verify(folder / f"{name}.onnx", final).same
    assert disagreement(weights(final), weights(folder / f"{name}.trained.onnx")) < END
    measured = dsd_ort.evaluate(final, data(name), recipe(name))
    assert measured["loss"] == pytest.approx(phases[-1]["metrics"]["loss"], rel=1e-5)


def test_the_first_value_that_is_not_finite_is_named(folder: Path, tmp_path: Path) -> None:
    arrays = data("lenet")
    arrays["image"] = arrays["image"] * np.float32(1e30)
    shutil.copytree(folder / "lenet", tmp_path / "lenet")
    with pytest.raises(DivergedError, match="became nan") as caught:
        dsd_ort.train(tmp_path / "lenet", arrays, threads=1)
    assert "the output of Conv 'conv1/Conv_node_0'" in (caught.value.where or "")
