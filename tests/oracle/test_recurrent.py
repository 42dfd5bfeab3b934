"""Recurrent classifiers by both of PyTorch's exporters: one prepared step has PyTorch's loss and gradients."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import dsd_ort
from dsd_ort.graph.prepare import build
from dsd_ort.model import source as sources
from tests.graph.gradient import quiet

pytestmark = pytest.mark.oracle

BATCH, STEPS, FEATURES, UNITS, CLASSES = 4, 7, 6, 5, 3
ORDER = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2], "RNN": [0]}
"""ONNX's order of the gates in terms of PyTorch's."""


class Classifier(nn.Module):
    """Two layers both ways over ``[N, T, features]``; all states, the last ones too, into classes."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        options = {"num_layers": 2, "bidirectional": True} | options
        self.layer = kind(FEATURES, UNITS, batch_first=True, **options)
        self.head = nn.Linear(2 * UNITS * (2 if options["bidirectional"] else 1), CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.joined(*self.layer(x)))

    def joined(self, y: torch.Tensor, last: Any) -> torch.Tensor:
        h = last[1] if isinstance(last, tuple) else last  # the cells of an LSTM
        return torch.cat([y.mean(1), *h[-y.shape[2] // UNITS :]], 1)


class Packed(Classifier):
    """Over sequences of different lengths."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, last = self.layer(packed)
        return self.head(self.joined(nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0], last))


class Network(NamedTuple):
    make: type[Classifier]
    kind: type[nn.RNNBase]
    options: dict[str, Any]
    exporters: tuple[str, ...] = ("torchscript", "dynamo")


NETWORKS = {
    "lstm": Network(Classifier, nn.LSTM, {}),
    "lstm without biases": Network(Classifier, nn.LSTM, {"bias": False, "bidirectional": False}),
    "gru": Network(Classifier, nn.GRU, {}),
    "rnn": Network(Classifier, nn.RNN, {"nonlinearity": "relu", "bidirectional": False}),
    # PyTorch's newer exporter has no form for packed sequences.
    "lstm, packed": Network(Packed, nn.LSTM, {}, ("torchscript",)),
    "gru, packed": Network(Packed, nn.GRU, {}, ("torchscript",)),
}
EACH = [pytest.param(n, e, id=f"{name}, {e}") for name, n in NETWORKS.items() for e in n.exporters]


@pytest.mark.parametrize(("network", "exporter"), EACH)
def test_one_step_has_the_loss_and_the_gradients_of_pytorch(network: Network, exporter: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = network.make(network.kind, **network.options).eval()
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((BATCH, STEPS, FEATURES), np.float32)}
    if network.make is Packed:
        feeds["lengths"] = np.array([3, STEPS, 1, 5])
    labels = rng.integers(0, CLASSES, BATCH)
    path = export(module, feeds, tmp_path / "model.onnx", exporter)

    source = sources.load(path)
    phase = {"kind": "dense", "epochs": 1, "learning_rate": 0.1}
    manifest, graphs = build(source, dsd_ort.Recipe.from_dict({"phase": [phase]}))
    session = onnxruntime.InferenceSession(
        graphs["step"].SerializeToString(), quiet(), providers=["CPUExecutionProvider"]
    )
    weights = {p.name: np.asarray(source.value(p.name)) for p in manifest.trained}
    names = [manifest.step_loss, *(p.successor for p in manifest.trained)]
    given = feeds | {manifest.labels[0].name: labels} | weights
    loss, *gradients = session.run(names, {i.name: given[i.name] for i in session.get_inputs()})

    expected = nn.functional.cross_entropy(module(*map(torch.from_numpy, feeds.values())), torch.from_numpy(labels))
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    parts = as_onnx(module)
    assert sum(w.size for w in weights.values()) == sum(p.numel() for p in module.parameters())
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        slope = gradient_of(name, weight, parts)
        assert np.linalg.norm(slope) > 1e-3, f"the gradient of {name} is next to nothing"
        assert np.linalg.norm(gradient - slope) <= 1e-5 * np.linalg.norm(slope), name


def export(module: nn.Module, feeds: dict[str, np.ndarray], path: Path, exporter: str) -> Path:
    arguments = tuple(torch.from_numpy(value) for value in feeds.values())
    options: dict[str, Any] = {"input_names": list(feeds), "output_names": ["scores"]}
    if exporter == "dynamo":
        options |= {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("N")},), "verbose": False}
    else:
        axes = {"x": {0: "N", 1: "T"}, "lengths": {0: "N"}, "scores": {0: "N"}}
        axes = {name: axes[name] for name in [*feeds, "scores"]}
        options |= {"dynamo": False, "dynamic_axes": axes, "opset_version": 17}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(copy.deepcopy(module), arguments, str(path), **options)
    return path


def as_onnx(module: Classifier) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each parameter with its gradient, as it is, and in the forms that ONNX's W, R and B have."""
    parameters = dict(module.named_parameters())
    values = {name: p.detach().numpy() for name, p in parameters.items()}
    gradients = {name: p.grad.numpy() for name, p in parameters.items() if p.grad is not None}
    plain = zip(values.values(), gradients.values(), strict=True)
    return [*plain, *zip(joined(module.layer, values), joined(module.layer, gradients), strict=True)]


def joined(layer: nn.RNNBase, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """W, R and B of each layer: directions stacked, gates in ONNX's order."""
    order = ORDER[layer.mode.partition("_")[0]]
    ways = ["", "_reverse"] if layer.bidirectional else [""]

    def of(name: str) -> np.ndarray:
        split = [np.split(arrays[f"layer.{name}{way}"], len(order)) for way in ways]
        return np.stack([np.concatenate([gates[k] for k in order]) for gates in split])

    made = []
    for i in range(layer.num_layers):
        made += [of(f"weight_ih_l{i}"), of(f"weight_hh_l{i}")]
        if layer.bias:
            made.append(np.concatenate([of(f"bias_ih_l{i}"), of(f"bias_hh_l{i}")], axis=1))
    return made


def gradient_of(name: str, weight: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The gradient of the part of the module that is *weight*."""
    for value, gradient in parts:
        for v, g in ((value, gradient), (value.T, gradient.T)):
            if v.shape == weight.shape and np.array_equal(v, weight):
                return g
    raise AssertionError(f"{name} {weight.shape} is no parameter of the module")
