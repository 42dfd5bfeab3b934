"""What the evidence is put beside in PyTorch is the same network, trained the same way."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch

from tools.evidence import in_pytorch
from tools.evidence.pictures import SETS
from tools.evidence.tasks import TASKS

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("name", ["digits-mlp-256", "fashion-cnn-4", "fashion-residual-8"])
def test_a_network_in_pytorch_has_the_logits_and_the_pruned_layers_of_the_file(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    task.write(tmp_path / "drawn.onnx", 3)
    module, names = in_pytorch.network(name, tmp_path / "drawn.onnx")
    image = torch.rand(4, *SETS[task.pictures].shape)
    [logits] = onnxruntime.InferenceSession(tmp_path / "drawn.onnx").run(None, {"image": image.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(image), torch.from_numpy(logits), rtol=1e-4, atol=1e-5)
    matrices = {names[key] for key, value in module.named_parameters() if value.dim() > 1}
    assert {names[key] for key in in_pytorch.prunable(module, names, task)} == matrices - {*task.whole}


def test_a_task_is_measured_in_pytorch() -> None:
    task = TASKS["digits-mlp-256"]._replace(epochs=(12, 3, 1), sparsities=(0.5, 0.9))
    found = in_pytorch.measure({"task": "digits-mlp-256", "share": 0.3, "seed": 0}, task)
    arms = found["arms"]
    assert [*arms] == ["dense-only", "dsd-0.5", "dsd-0.9"]
    assert all(0 < arm["error"] < 30 for arm in arms.values())
    assert arms["dense-only"]["fits"] > arms["dsd-0.9"]["fits"] > 0.6
