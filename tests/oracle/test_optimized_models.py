"""Models that ONNX Runtime's optimizers have rewritten: trained as they are, they answer as the unoptimized ones do."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import dsd_ort
from tests.oracle.test_transformer import Encoder
from tests.oracle.test_transformer import export as export_encoder

pytestmark = pytest.mark.oracle

BATCHES, BATCH, LENGTH, WORDS, CLASSES, RATE = 4, 4, 12, 50, 5, 0.05
LEVELS = onnxruntime.GraphOptimizationLevel
Data = dict[str, np.ndarray]


class SelfAttention(nn.Module):
    """As Hugging Face's BERT writes it, and the transformer optimizer looks for it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.dense = (nn.Linear(width, width) for _ in range(4))
        self.norm = nn.LayerNorm(width)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).permute(0, 2, 1, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q, k, v = self._split(self.query(x)), self._split(self.key(x)), self._split(self.value(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / (q.shape[-1] ** 0.5) + mask
        context = torch.matmul(nn.functional.softmax(scores, dim=-1), v).permute(0, 2, 1, 3).contiguous()
        return self.norm(self.dense(context.view(x.shape[0], x.shape[1], -1)) + x)


class Bert(nn.Module):
    """Words, positions and segments; two layers of attention under a mask; classes from the first position."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(WORDS, width), nn.Embedding(LENGTH, width)
        self.segments = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.ModuleList(SelfAttention(width, 4) for _ in range(2))
        self.inner = nn.ModuleList(nn.Linear(width, 64) for _ in range(2))
        self.outer = nn.ModuleList(nn.Linear(64, width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.head = nn.Linear(width, CLASSES)
        self.register_buffer("position_ids", torch.arange(LENGTH)[None])

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.words(input_ids) + self.segments(token_type_ids)
        x = self.norm(x + self.positions(self.position_ids[:, : input_ids.shape[1]]))
        hidden = (1.0 - mask[:, None, None, :].to(torch.float32)) * -10000.0
        for attention, inner, outer, norm in zip(self.attention, self.inner, self.outer, self.norms, strict=True):
            x = attention(x, hidden)
            x = norm(outer(nn.functional.gelu(inner(x))) + x)
        return self.head(x[:, 0])


class Cnn(nn.Sequential):
    """Convolutions and matrix products that activations and a residual sum are fused into."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(i, 4, 3, padding=1) for i in (1, 4, 4))
        self.inner, self.head = nn.Linear(4 * 36, 16), nn.Linear(16, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(image))
        x = torch.relu(self.third(torch.sigmoid(self.second(x))) + x)
        return self.head(torch.relu(self.inner(x.flatten(1))))


def export(network: nn.Module, inputs: Data, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            tuple(torch.from_numpy(array[:2]) for array in inputs.values()),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_axes={name: {0: "N"} for name in (*inputs, "logits")},
        )
    return path


def by_session(level: Any) -> Callable[[Path], Path]:
    def optimize(model: Path) -> Path:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(model.with_name("optimized.onnx"))
        onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        return model.with_name("optimized.onnx")

    return optimize


def by_transformer_optimizer(model: Path) -> Path:
    sys.modules.setdefault("coloredlogs", types.ModuleType("coloredlogs"))  # It is imported, and not needed.
    from onnxruntime.transformers import optimizer

    optimized = optimizer.optimize_model(str(model), model_type="bert", num_heads=4, hidden_size=32, opt_level=0)
    optimized.save_model_to_file(str(model.with_name("optimized.onnx")))
    return model.with_name("optimized.onnx")


def trained(model: Path, run: Path, data: Data, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What *model* answers before and after an epoch."""
    phase = {"kind": "dense", "epochs": 1, "learning_rate": RATE}
    recipe = dsd_ort.Recipe.from_dict({"batch_size": BATCH, "data": {"shuffle": False}, "phase": [phase]})
    dsd_ort.prepare(model, run, recipe)
    dsd_ort.train(run, {**data, "label": labels}, threads=1)
    dsd_ort.export(run, run / "final" / model.name)
    return answers(model, data), answers(run / "final" / model.name, data)


def answers(model: Path, data: Data) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return session.run(None, data)[0]


@pytest.fixture(params=["bert", "encoder", "encoder, dynamo", "cnn"])
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Data]:
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)
    random = np.random.default_rng(0)
    tokens = random.integers(0, WORDS, (BATCHES * BATCH, LENGTH))
    if request.param == "cnn":
        image = random.standard_normal((BATCHES * BATCH, 1, 6, 6)).astype(np.float32)
        return export(Cnn(), {"image": image}, tmp_path / "model.onnx"), {"image": image}
    network = Bert() if request.param == "bert" else Encoder()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # or exporters merge equal biases and norms
    if request.param == "bert":
        lengths = random.integers(3, LENGTH + 1, BATCHES * BATCH)
        mask = (np.arange(LENGTH) < lengths[:, None]).astype(np.int64)
        data = {"input_ids": tokens, "token_type_ids": random.integers(0, 2, tokens.shape), "mask": mask}
        return export(network, data, tmp_path / "model.onnx"), data
    path = export_encoder(network.eval(), tmp_path / "model.onnx", dynamo="dynamo" in request.param)
    return path, {"tokens": tokens}


OPTIMIZERS = {
    "basic": by_session(LEVELS.ORT_ENABLE_BASIC),
    "extended": by_session(LEVELS.ORT_ENABLE_EXTENDED),
    "transformer optimizer": by_transformer_optimizer,
}
FUSED = {
    ("bert", "extended"): {"com.microsoft.BiasGelu"},
    ("bert", "transformer optimizer"): {"com.microsoft.Attention", "com.microsoft.EmbedLayerNormalization"},
    ("cnn", "extended"): {"com.microsoft.FusedConv", "com.microsoft.FusedGemm"},
    ("encoder", "extended"): {"com.microsoft.BiasGelu"},
    ("encoder, dynamo", "extended"): {"com.microsoft.FusedMatMul", "com.microsoft.SkipLayerNormalization"},
}
"""What must be in the optimized model, or the test says little."""


@pytest.mark.parametrize("level", OPTIMIZERS)
def test_an_optimized_model_is_trained_to_the_same_answers(
    level: str, exported: tuple[Path, Data], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model, data = exported
    name = request.node.callspec.params["exported"]
    if name == "cnn" and level == "transformer optimizer":
        pytest.skip("it is for transformers")
    labels = np.random.default_rng(1).integers(0, CLASSES, BATCHES * BATCH)
    optimized = OPTIMIZERS[level](model)
    operators = {f"{node.domain}.{node.op_type}" for node in onnx.load(optimized).graph.node if node.domain}
    assert operators >= FUSED.get((name, level), set())

    before, after = trained(model, tmp_path / "plain", data, labels)
    found_before, found = trained(optimized, tmp_path / "fused", data, labels)

    np.testing.assert_allclose(found_before, before, rtol=0, atol=1e-5)
    assert np.abs(after - before).max() > 0.02, "training moved little: the test says little"
    np.testing.assert_allclose(found, after, rtol=0, atol=2e-5)
