"""``dsd-ort export`` of a sparse phase: how sparse the file is, and what that brings."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

import dsd_ort as package
from tests.cli.conftest import Command
from tests.models import cnn_data


@pytest.fixture
def trained(folder: Path) -> Path:
    np.savez(folder / "data.npz", **cnn_data(40))
    package.prepare("model.onnx", "run", package.Recipe.load("recipe.toml"))
    package.train("run", "data.npz", threads=1)
    return folder


@pytest.mark.parametrize("given", [("--sparse",), ("--phase", "2"), ()])
def test_of_a_sparse_phase_it_says_how_sparse_and_what_that_brings(
    dsd_ort: Command, trained: Path, given: tuple[str, ...]
) -> None:
    answer = dsd_ort("export", "run", "-o", "final.onnx", *given)
    assert answer.status == 0, answer
    found = json.loads(dsd_ort("export", "run", "-o", "final.onnx", *given, "--json").out)["shipped"]
    zeros = round(180 * 0.3) + round(15 * 0.3)
    assert (found["weights"], found["zeros"]) == (195, zeros)
    assert found["density"] == pytest.approx({"conv2.weight": 1 - 54 / 180, "fc.weight": 1 - round(4.5) / 15})
    assert found["sparsity"] == pytest.approx(zeros / 195)
    for name, file in (("model.onnx", "came"), ("final.onnx", "file")):
        content = (trained / name).read_bytes()
        assert found[file]["bytes"] == len(content)
        assert found[file]["compressed"] == len(zlib.compress(content, 6))
        assert found[file]["milliseconds"] > 0
    assert f"{100 * zeros / 195:.1f} % of the 195 weights that may be pruned are zero" in answer.out
    assert "compressed by zlib" in answer.out and "times as fast" in answer.out


def test_of_a_dense_phase_it_says_nothing_of_it(dsd_ort: Command, trained: Path) -> None:
    answer = dsd_ort("export", "run", "-o", "final.onnx", "--phase", 1)
    assert answer.status == 0 and "zlib" not in answer.out
    assert "shipped" not in json.loads(dsd_ort("export", "run", "-o", "final.onnx", "--phase", 1, "--json").out)
