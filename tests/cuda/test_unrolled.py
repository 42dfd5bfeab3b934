"""Unrolled graphs of the paper's networks: the bits of their Scans, and recorded.

That all of them is on CUDA, :mod:`tests.cuda.test_placement` says.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort import runtime
from dsd_ort.device.mixed import LOSS_SCALE, Precision
from dsd_ort.device.recording import obstacles
from dsd_ort.device.unroll import unroll
from dsd_ort.graph.program import Program, open_program
from dsd_ort.run import sessions
from tests.cuda.computed import feeds, outputs
from tests.cuda.placement import forms, shapes_of
from tests.stock.siblings import BATCH, SIBLINGS, data, prepare

RECURRENT = ("deepspeech", "deepspeech2", "neuraltalk")
GRAPHS = ("step", "sparse", "evaluate")
LARGE = ("googlenet", "resnet50")
"""Their operators are those of smaller ones, which are recorded with the training build and without it in turn."""
OF_BOTH = [
    pytest.param(name, trains, marks=[pytest.mark.slow] * (not trains if name in LARGE else trains == number % 2))
    for number, name in enumerate(SIBLINGS)
    for trains in (True, False)
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Program]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: open_program(prepare(name, folder)) for name in SIBLINGS}


@pytest.fixture(scope="module")
def undropped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Program]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: open_program(prepare(name, folder, dropout=False)) for name in RECURRENT}


def scans(model: ir.Model) -> int:
    return sum(node.op_type == "Scan" for node in model.graph)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("name", RECURRENT)
def test_unrolled_is_the_same_to_the_bit(
    name: str, graph: str, precision: Precision, undropped: dict[str, Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    program, batch = undropped[name], {key: array[:BATCH] for key, array in data(name).items()}
    given = feeds(program, batch, sparse=graph == "sparse")
    given[LOSS_SCALE] = np.array(16, np.float32)
    monkeypatch.setattr(sessions, "unroll", lambda model: ())
    mix = sessions.mix
    monkeypatch.setattr(sessions, "mix", lambda model, precision, device: mix(model, precision, "cpu"))  # it computes
    model = forms(program, graph, {key: array.shape for key, array in batch.items()}, precision=precision)
    expected, count = outputs(model, given), scans(model)
    assert len(unroll(model)) == count > 0
    assert scans(model) == 0
    for key, array in outputs(model, given).items():
        np.testing.assert_array_equal(array, expected[key])


@pytest.mark.parametrize(("name", "trains"), OF_BOTH)
def test_all_graphs_can_be_recorded(
    name: str, trains: bool, programs: dict[str, Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "trains", lambda: trains)
    for graph in GRAPHS:
        for deterministic in (False, True):
            shapes = shapes_of(programs[name])
            assert obstacles(forms(programs[name], graph, shapes, deterministic=deterministic)) == ()
            if graph != "evaluate":
                assert obstacles(forms(programs[name], graph, shapes, precision="fp16")) == ()
