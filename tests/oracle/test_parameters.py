"""What is trained are PyTorch's parameters that a gradient reaches, by both exporters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.oracle.small_networks import NETWORKS
from tools.coverage import corpus
from tools.coverage.architectures import moved
from tools.coverage.parameters import Row, judge

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("exporter", corpus.EXPORTERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_all_that_a_gradient_reaches_is_trained_and_nothing_else(tmp_path: Path, name: str, exporter: str) -> None:
    torch.manual_seed(0)
    small, row = NETWORKS[name], Row(name, exporter)
    network, example = moved(small.make()), small.example(2)
    try:
        corpus.write(network, example, tmp_path / "m.onnx", exporter)
    except torch.onnx.errors.UnsupportedOperatorError as error:
        pytest.skip(str(error))
    judge(row, network, example, tmp_path / "m.onnx")
    assert (row.missed, row.wrong, row.refused) == ([], [], "")
    assert row.trained > 0
