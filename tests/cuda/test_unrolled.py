"""Unrolled graphs of the paper's networks: the bits of their Scans, all on CUDA, and recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort import runtime
from dsd_ort.graph.mixed import LOSS_SCALE, mix
from dsd_ort.graph.program import Program, open_program
from dsd_ort.graph.recording import obstacles
from dsd_ort.graph.unroll import unroll
from tests.cuda.computed import feeds, outputs
from tests.cuda.placement import forms, in_a_process, shapes_of
from tests.stock.siblings import BATCH, SIBLINGS, data, prepare

RECURRENT = ("deepspeech", "deepspeech2", "neuraltalk")
GRAPHS = ("step", "sparse", "evaluate")


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
def test_unrolled_is_the_same_to_the_bit(name: str, graph: str, precision: str, undropped: dict[str, Program]) -> None:
    program, batch = undropped[name], {key: array[:BATCH] for key, array in data(name).items()}
    given = feeds(program, batch, sparse=graph == "sparse")
    shapes = {key: array.shape for key, array in batch.items()}
    model = forms(program, graph, shapes)
    if precision == "fp16" and graph != "evaluate":
        mix(model, "fp16")
        given[LOSS_SCALE] = np.array(16, np.float32)
    expected, count = outputs(model, given), scans(model)
    assert len(unroll(model)) == count > 0
    assert scans(model) == 0
    for key, array in outputs(model, given).items():
        np.testing.assert_array_equal(array, expected[key])


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("name", SIBLINGS)
def test_all_graphs_can_be_recorded(
    name: str, trains: bool, programs: dict[str, Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "trains", lambda: trains)
    for graph in GRAPHS:
        for deterministic in (False, True):
            model = forms(programs[name], graph, shapes_of(programs[name]), deterministic=deterministic)
            unroll(model)
            assert obstacles(model) == ()


def unrolled(programs: dict[str, Program], folder: Path) -> Iterator[Path]:
    for name in RECURRENT:
        for graph in GRAPHS:
            for precision in ("fp32", "fp16", "bf16"):
                if precision != "fp32" and graph == "evaluate":
                    continue
                model = forms(programs[name], graph, shapes_of(programs[name]))
                if precision in ("fp16", "bf16"):
                    mix(model, precision, "cuda")
                unroll(model)
                path = folder / f"{name}_{graph}_{precision}.onnx"
                ir.save(model, path)
                yield path


def test_all_of_an_unrolled_graph_runs_on_cuda(
    stub_libraries: Path, programs: dict[str, Program], tmp_path: Path
) -> None:
    found = dict(in_a_process(stub_libraries, list(unrolled(programs, tmp_path))))
    assert len(found) == 3 * (3 + 3 + 1)
    assert {key: placement for key, placement in found.items() if not placement.whole} == {}
