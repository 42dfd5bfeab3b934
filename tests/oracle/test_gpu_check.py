"""What the GPU check times on the side of PyTorch is the same network: equal losses from the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools.gpu_check import networks, ort_side, torch_side

pytestmark = pytest.mark.oracle

TOLERANCE = 1e-5
"""Of the loss: the first one, and those behind one, two and three updates."""
RATES = {"resnet50": 1e-4, "deepspeech2": 1e-2}
"""At which steps show; batch norm of the ResNet is over four numbers in its last stage, which makes much of little."""


@pytest.mark.parametrize(
    ("name", "how"),
    [("resnet50", "eager"), ("resnet50", "channels-last"), ("deepspeech2", "eager"), ("deepspeech2", "cudnn-rnn")],
)
def test_both_sides_take_the_same_steps(name: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in (ort_side, torch_side):
        monkeypatch.setattr(side, "RATE", RATES[name])
    common: dict[str, Any] = {"open": "tiny", "name": name, "folder": str(tmp_path), "device": "cpu", "threads": 1}
    common |= {"precision": "fp32", "how": how, "arguments": networks.TINY[name].arguments}
    ours, theirs = ort_side.OrtSide(), torch_side.TorchSide()
    ours({"prepare": "tiny", "name": name, "folder": str(tmp_path), "tensors": True})
    losses = [[side(common)["loss"], *side({"run": 3})["losses"]] for side in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=TOLERANCE)
    assert losses[0][3] < 0.99 * losses[0][0]
