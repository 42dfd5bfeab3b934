"""No node of a prepared graph runs on the CPU, and nothing is copied between devices: the paper's networks and LeNet.

The real CUDA provider says so, over stubs of CUDA's libraries, in processes of its own.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest

from dsd_ort.graph.program import GRAPHS
from tests.cuda.placement import Placement, in_a_process
from tests.stock.siblings import SIBLINGS, prepare

Placements = dict[tuple[str, str], Placement]

SCAN = """<ir_version: 8, opset_import: ["": 18]>
scan (float[4, 3] s, float[5, 4, 3] x) => (float[4, 3] e, float[5, 4, 3] y) {
  e, y = Scan <num_scan_inputs = 1, body = step (float[4, 3] h, float[4, 3] xt) => (float[4, 3] h1, float[4, 3] yt)
    { a = Add (h, xt)  h1 = OPERATOR (a)  yt = Identity (h1) }> (s, x) }"""


@pytest.fixture(scope="module")
def runs(stub_libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [prepare(name, folder) for name in SIBLINGS]


@pytest.fixture(scope="module", params=["fp32", "fp16", "bf16"])
def placements(request: pytest.FixtureRequest, stub_libraries: Path, runs: list[Path]) -> Placements:
    return dict(in_a_process(stub_libraries, runs, f"--{request.param}"))


@pytest.fixture(scope="module")
def deterministic(stub_libraries: Path, runs: list[Path]) -> Placements:
    return dict(in_a_process(stub_libraries, runs, "--deterministic"))


@pytest.mark.parametrize("graph", [*GRAPHS, "scaler"])
@pytest.mark.parametrize("name", SIBLINGS)
def test_all_of_a_graph_runs_on_cuda(name: str, graph: str, placements: Placements) -> None:
    placement = placements[name, graph]
    assert placement.whole, placement


@pytest.mark.parametrize("graph", ["step", "sparse"])
@pytest.mark.parametrize("name", SIBLINGS)
def test_all_of_a_deterministic_graph_does(name: str, graph: str, deterministic: Placements) -> None:
    placement = deterministic[name, graph]
    assert placement.whole, placement


def test_a_graph_as_it_was_prepared_does_not(stub_libraries: Path, runs: list[Path]) -> None:
    found = dict(in_a_process(stub_libraries, runs, "--as-prepared"))
    assert found["lenet", "step"].cpu == ["MaxPoolGrad", "MaxPoolGrad"]
    assert found["lenet", "step"].memcpy > 0
    assert {name for name in SIBLINGS if found[name, "step"].cpu} == {*SIBLINGS}
    assert found["deepspeech2", "evaluate"].cpu.count("RNN") == 2
    assert found["neuraltalk", "evaluate"].cpu == ["LSTM"]


def test_nodes_inside_a_scan_are_seen(stub_libraries: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{operator}.onnx" for operator in ("Tanh", "Asinh")]
    for path in paths:
        onnx.save(onnx.parser.parse_model(SCAN.replace("OPERATOR", path.stem)), path)
    found = dict(in_a_process(stub_libraries, paths))
    assert found["Tanh.onnx", ""].whole
    assert found["Asinh.onnx", ""].cpu == ["Asinh"]
    assert found["Asinh.onnx", ""].memcpy == 2


def test_a_provider_that_does_not_load_is_no_success(stub_libraries: Path, tmp_path: Path) -> None:
    path = tmp_path / "Tanh.onnx"
    onnx.save(onnx.parser.parse_model(SCAN.replace("OPERATOR", "Tanh")), path)
    assert not dict(in_a_process(tmp_path / "nothing", [path]))["Tanh.onnx", ""].whole
