"""ResNet-18 as PyTorch exports it, some steps of every phase on Fashion-MNIST (Debian's dataset-fashion-mnist)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import dsd_ort
from dsd_ort.data.idx import read
from tests.oracle.networks import ResNet18, export, randomise_norms

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

FOLDER = Path("/usr/share/datasets/fashion-mnist")


def images(split: str, count: int) -> dict[str, np.ndarray]:
    """The first images as ``f32[N, 3, 32, 32]``, padded and in three equal channels."""
    pixels = read(FOLDER / f"{split}-images-idx3-ubyte.gz")[:count].astype(np.float32) / 255
    padded = np.pad((pixels - 0.286) / 0.353, ((0, 0), (2, 2), (2, 2)))
    return {
        "image": np.repeat(padded[:, None], 3, axis=1),
        "label": read(FOLDER / f"{split}-labels-idx1-ubyte.gz")[:count].astype(np.int64),
    }


def test_resnet18_exported_by_pytorch_trains_in_every_phase(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = export(randomise_norms(ResNet18()), (3, 32, 32), tmp_path / "resnet18.onnx")
    recipe = dsd_ort.Recipe.from_dict(
        {
            "batch_size": 64,
            "optimizer": {"momentum": 0.9, "weight_decay": 1e-4},
            "phase": [
                {"kind": "dense", "steps": 60, "learning_rate": 0.02},
                {"kind": "sparse", "sparsity": 0.3, "steps": 30, "learning_rate": 0.01},
                {"kind": "dense", "steps": 30, "learning_rate": 0.002},
            ],
        }
    )
    dsd_ort.prepare(model, tmp_path / "run", recipe)
    phases = dsd_ort.train(tmp_path / "run", images("train", 8000), eval_data=images("t10k", 1000))
    for phase in phases:
        print(phase["kind"], phase["metrics"], phase["density"], phase["seconds"])
    assert [round(p["density"], 2) for p in phases[:2]] == [1.0, 0.7]
    assert phases[0]["metrics"]["top-1"] > 0.5
    assert phases[2]["metrics"]["top-1"] >= phases[0]["metrics"]["top-1"]
    assert dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx").same
