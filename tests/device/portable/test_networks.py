"""The paper's networks and LeNet: an expanded step computes the loss and the gradients of the training build's own."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from dsd_ort import runtime
from dsd_ort.device.portable import expand, is_portable
from tests.stock.siblings import BATCH, SIBLINGS, data, disagreement, one_step, prepare

TOLERANCE = 1e-5


@pytest.mark.training_build
@pytest.mark.parametrize("name", SIBLINGS)
def test_a_portable_step_is_the_training_builds_step(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepare(name, tmp_path)
    batch = {key: array[:BATCH] for key, array in data(name).items()}
    expected = [one_step(run, batch, sparse=sparse) for sparse in (False, True)]
    for graph in ("step", "sparse"):
        model = ir.load(run / "graphs" / f"{graph}.onnx")
        expand(model)
        assert all(is_portable(node) for node in model.graph.all_nodes())
    for graph in ("update", "evaluate"):
        assert all(is_portable(node) for node in ir.load(run / "graphs" / f"{graph}.onnx").graph.all_nodes())
    monkeypatch.setattr(runtime, "trains", lambda: False)
    for sparse, native in zip((False, True), expected, strict=True):
        portable = one_step(run, batch, sparse=sparse)
        assert portable.loss == pytest.approx(native.loss, rel=TOLERANCE)
        assert disagreement(portable.gradients, native.gradients) < TOLERANCE
