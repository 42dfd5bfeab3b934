"""Files of kinds that people meet (``tests/cases.py``): what belongs to a file beside its graph."""

from __future__ import annotations

from pathlib import Path

import pytest

import dsd_ort
from tests import cases
from tests.test_cases import stored, trained


@pytest.mark.parametrize("final", ["final.onnx", "folder/final.onnx", "m2.onnx"])
@pytest.mark.parametrize("location", ["m.onnx.data", "weights.bin"])
def test_a_file_with_external_data_trains_and_ships_beside_its_source(
    tmp_path: Path, location: str, final: str
) -> None:
    model = cases.external(tmp_path / "m.onnx", location)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert dsd_ort.check(model, isolate=False).ok
    data = cases.data(tmp_path.with_suffix(".npz"), x=(8,))
    trained(model, data, tmp_path / "all")
    dsd_ort.export(tmp_path / "all" / "run", tmp_path / final)
    verdict = dsd_ort.verify(model, tmp_path / final)
    assert verdict.same and verdict.shared == ()
    assert all((stored(model)[name] != new).any() for name, new in stored(tmp_path / final).items())
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert dsd_ort.evaluate(tmp_path / final, data)["loss"] < dsd_ort.evaluate(model, data)["loss"]
