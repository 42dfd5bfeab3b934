"""A transformer's encoder, by both of PyTorch's exporters: trained here and there, it answers the same."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import dsd_ort

pytestmark = pytest.mark.oracle

BATCHES, BATCH, LENGTH, WORDS, CLASSES, RATE = 6, 4, 12, 50, 5, 0.05


class Encoder(nn.Module):
    """Embedding, positions, two layers (one normalises first), and a mean over positions into classes."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, width)
        self.positions = nn.Parameter(torch.randn(1, LENGTH, width) * 0.1)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 64, 0.0, "gelu", batch_first=True, norm_first=first)
            for first in (False, True)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(1))


@pytest.fixture(scope="module")
def encoder() -> nn.Module:
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)
    network = Encoder().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # or exporters merge equal biases and norms
    return network


def export(network: nn.Module, path: Path, *, dynamo: bool) -> Path:
    tokens = torch.zeros(3, LENGTH, dtype=torch.int64)
    options: dict[str, Any] = {"dynamo": dynamo, "input_names": ["tokens"], "output_names": ["logits"]}
    if dynamo:
        options |= {"dynamic_shapes": {"tokens": {0: torch.export.Dim("N")}}, "verbose": False}
    else:
        options |= {"dynamic_axes": {"tokens": {0: "N"}, "logits": {0: "N"}}, "opset_version": 17}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (tokens,), str(path), **options)
    return path


def train_theirs(network: nn.Module, tokens: np.ndarray, labels: np.ndarray) -> nn.Module:
    network = copy.deepcopy(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9)
    for x, y in zip(np.split(tokens, BATCHES), np.split(labels, BATCHES), strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    return network


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_an_encoder_trained_from_its_export_answers_as_pytorchs(
    encoder: nn.Module, dynamo: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, WORDS, (BATCHES * BATCH, LENGTH))
    labels = rng.integers(0, CLASSES, BATCHES * BATCH)
    model = export(encoder, tmp_path / "encoder.onnx", dynamo=dynamo)
    recipe = dsd_ort.Recipe.from_dict(
        {
            "batch_size": BATCH,
            "data": {"shuffle": False},
            "phase": [{"kind": "dense", "epochs": 1, "learning_rate": RATE}],
        }
    )
    program = dsd_ort.prepare(model, tmp_path / "run", recipe)
    assert sum(p.size for p in program.manifest.trained) == sum(p.numel() for p in encoder.parameters())
    dsd_ort.train(tmp_path / "run", {"tokens": tokens, "label": labels}, threads=1)
    assert dsd_ort.export(tmp_path / "run", tmp_path / "final" / "encoder.onnx").same

    theirs = train_theirs(encoder, tokens, labels)
    with torch.no_grad():
        before, after = (n(torch.from_numpy(tokens)).numpy() for n in (encoder, theirs))
    session = onnxruntime.InferenceSession(str(tmp_path / "final" / "encoder.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"tokens": tokens})
    assert np.abs(after - before).max() > 0.1, "training moved little: the test says little"
    np.testing.assert_allclose(found, after, rtol=0, atol=1e-5)
