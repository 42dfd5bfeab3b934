"""The networks of captions and speech in graphs/, written down plainly in PyTorch: equal results, equal gradients.

Recurrent layers go step by step over one sequence at a time, as the papers' formulas do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch.nn import functional

import dsd_ort
from dsd_ort.graph.prepare import build
from dsd_ort.model import source as sources
from graphs import NETWORKS
from tests.graph.gradient import quiet

pytestmark = pytest.mark.oracle

Weights = dict[str, torch.Tensor]
BATCH, STEPS, DEPTH, CONTEXT = 4, 9, 3, 2
TOLERANCE = 1e-5
"""Of the largest score."""


class Plain:
    """A network as functions of the weights of its ONNX file; batch norm by the batch's statistics in *training*."""

    def __init__(self, weights: Weights, *, training: bool = False) -> None:
        self.weights, self.training, self.highest = weights, training, 0.0
        """What goes into the clipped ReLU of recurrent layers is this at most."""

    def neuraltalk(self, image: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        if image.ndim == 4:
            for i in range(4):
                x = functional.conv2d(image, self.weights[f"cnn.{i}.conv.weight"], padding=1)
                image = functional.max_pool2d(torch.relu(self.norm(x, f"cnn.{i}.bn")), 2)
        seen = self.linear(image.flatten(1), "image_encoder")
        said = self.weights["word_encoder.weight"][words]
        x = torch.cat([seen[:, None], said + seen[:, None] if image.ndim == 4 else said], 1)
        return self.linear(self.lstm(x)[:, 1:], "decoder")

    def deepspeech(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        x = features * inside(features.shape[1], lengths)[:, :, None]
        x = functional.pad(x, (0, 0, CONTEXT, CONTEXT)).unfold(1, 2 * CONTEXT + 1, 1).mT.flatten(2)
        for name in ("fc1", "fc2", "fc3"):
            x = clipped(self.linear(x, name))
        for i in range(DEPTH):
            x = self.rnn(x, lengths, f"rnns.{i}")
        return self.linear(clipped(self.linear(x, "fc5")), "fc6")

    def deepspeech2(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        x = (features * inside(features.shape[1], lengths)[:, :, None]).mT[:, None]
        frames = torch.ceil(lengths / 2).long()
        for i, (stride, padding) in enumerate((((2, 2), (20, 5)), ((2, 1), (10, 5))), 1):
            x = functional.conv2d(x, self.weights[f"conv{i}.weight"], stride=stride, padding=padding)
            x = clipped(self.norm(x, f"bn{i}")) * inside(x.shape[3], frames)[:, None, None]
        x = x.flatten(1, 2).mT
        for i in range(DEPTH):
            x = self.norm(self.rnn(x, frames, f"rnns.{i}").mT, f"norms.{i}").mT
        return self.linear(x, "fc")

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance = (self.weights[f"{name}.running_{s}"].clone() for s in ("mean", "var"))
        scale, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.batch_norm(x, mean, variance, scale, bias, self.training)

    def lstm(self, x: torch.Tensor) -> torch.Tensor:
        """[N, T, inputs] → [N, T, units]; gates input, output, forget, cell."""
        w, r, b = (self.weights[f"lstm.{name}"][0] for name in ("weight_ih", "weight_hh", "bias"))
        h = c = x.new_zeros(len(x), r.shape[1])
        states = []
        for step in x.unbind(1):
            i, o, f, g = (step @ w.T + h @ r.T + sum(b.chunk(2))).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c
            states.append(h)
        return torch.stack(states, 1)

    def rnn(self, x: torch.Tensor, lengths: torch.Tensor, name: str) -> torch.Tensor:
        """[N, T, inputs] → [N, T, units]"""
        rows = []
        for sequence, length in zip(x, lengths.tolist(), strict=True):
            known = sequence[:length]
            both = self.one_way(known, name, 0) + self.one_way(known.flip(0), name, 1).flip(0)
            rows.append(functional.pad(both, (0, 0, 0, len(sequence) - length)))
        return torch.stack(rows)

    def one_way(self, x: torch.Tensor, name: str, direction: int) -> torch.Tensor:
        w, r, b = (self.weights[f"{name}.{part}"][direction] for part in ("weight_ih", "weight_hh", "bias"))
        h, states = x.new_zeros(len(r)), []
        for step in x:
            inner = w @ step + r @ h + sum(b.chunk(2))
            self.highest = max(self.highest, inner.max().item())
            h = clipped(inner)
            states.append(h)
        return torch.stack(states)


def clipped(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(0, 20)


def inside(steps: int, lengths: torch.Tensor) -> torch.Tensor:
    return torch.arange(steps) < lengths[:, None]


SPEECH = {"classes": 6, "bands": 13, "width": 10, "depth": DEPTH}
CASES = {
    "neuraltalk": {"vocabulary": 20, "features": 12, "width": 10},
    "neuraltalk, pictures": {"vocabulary": 20, "picture": 32, "maps": 3, "width": 10, "every_step": 1},
    "deepspeech": {**SPEECH, "context": CONTEXT},
    "deepspeech2": {**SPEECH, "maps": 3},
}
Made = tuple[Path, dict[str, np.ndarray], Weights]


def make(name: str, path: Path, *, scale: float = 1.0, **arguments: int) -> Made:
    """A model file with the values of a network in training, what to feed it, and its weights."""
    rng = np.random.default_rng(0)
    model = NETWORKS[name.partition(",")[0]](**CASES[name], **arguments)
    weights = {}
    for key, value in model.graph.initializers.items():
        numbers = value.const_value.numpy() * np.float32(1 if "running_" in key else scale)
        if numbers.ndim == 1 or key.endswith("bias"):
            low, high = (0.8, 1.2) if key.endswith(("running_var", "weight")) else (-0.2, 0.2)
            numbers = scale * rng.uniform(low, high, numbers.shape).astype(np.float32)
        value.const_value = ir.tensor(numbers.astype(np.float32))
        weights[key] = torch.from_numpy(value.const_value.numpy().copy())
    ir.save(model, path)
    if "speech" in name:
        features = 2 * rng.standard_normal((BATCH, STEPS, SPEECH["bands"]), np.float32)
        return path, {"features": features, "lengths": np.array([4, STEPS, 1, 7])}, weights
    image, shape = ("image", (3, 32, 32)) if "picture" in name else ("feature", (12,))
    words = rng.integers(0, 20, (BATCH, STEPS))
    return path, {image: rng.standard_normal((BATCH, *shape), np.float32), "words": words}, weights


def run(plain: Plain, name: str, feeds: dict[str, np.ndarray]) -> torch.Tensor:
    return getattr(plain, name.partition(",")[0])(*map(torch.from_numpy, feeds.values()))


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        *(("neuraltalk", 1), ("neuraltalk", 5), ("neuraltalk, pictures", 1)),
        *(("deepspeech", 1), ("deepspeech", 2), ("deepspeech2", 1), ("deepspeech2", 3)),
    ],
)
def test_scores_are_those_of_the_network_in_pytorch(name: str, scale: float, tmp_path: Path) -> None:
    path, feeds, weights = make(name, tmp_path / "model.onnx", scale=scale)
    session = onnxruntime.InferenceSession(str(path), quiet(), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], feeds)[0]
    plain = Plain(weights)
    expected = run(plain, name, feeds).numpy()
    found = np.abs(logits - expected).max() / np.abs(expected).max()
    print(f"{name} × {scale}: {found:.1e}, into recurrent layers' ReLU goes {plain.highest:.0f}")
    assert found < TOLERANCE
    assert "speech" not in name or (plain.highest > 20) == (scale > 1)


@pytest.mark.parametrize("name", CASES)
def test_one_training_step_has_the_loss_and_the_gradients_of_pytorch(name: str, tmp_path: Path) -> None:
    """Batch norm by the statistics of all frames of the batch, those behind an end too."""
    arguments = {} if name == "deepspeech2" else {"dropout": 0}
    path, feeds, weights = make(name, tmp_path / "model.onnx", scale=3 if name == "deepspeech2" else 2, **arguments)
    source = sources.load(path)
    table = {"loss": {"name": "mse", "output": "logits"}, "phase": [{"kind": "dense", "epochs": 1, "learning_rate": 1}]}
    manifest, made = build(source, dsd_ort.Recipe.from_dict(table))
    session = onnxruntime.InferenceSession(made["step"].SerializeToString(), quiet())
    for p in manifest.trained:
        weights[p.name].requires_grad_()
    plain = Plain(weights, training=True)
    logits = run(plain, name, feeds)
    assert "speech" not in name or plain.highest > 20
    label = torch.randn(logits.shape, generator=torch.manual_seed(0))
    expected = functional.mse_loss(logits, label)
    expected.backward()
    given = feeds | {"label": label.numpy()} | {name: value.detach().numpy() for name, value in weights.items()}
    names = [manifest.step_loss, *(p.successor for p in manifest.trained)]
    loss, *gradients = session.run(names, {i.name: given[i.name] for i in session.get_inputs()})
    np.testing.assert_allclose(loss, expected.item(), rtol=TOLERANCE)
    for p, gradient in zip(manifest.trained, gradients, strict=True):
        slope = weights[p.name].grad.numpy()
        assert np.linalg.norm(slope) > 1e-4, f"the gradient of {p.name} is next to nothing"
        assert np.linalg.norm(gradient - slope) <= 10 * TOLERANCE * np.linalg.norm(slope), p.name


def test_a_layer_that_nothing_is_clipped_in_is_pytorchs_rnn(tmp_path: Path) -> None:
    _, feeds, weights = make("deepspeech", tmp_path / "model.onnx")
    rnn = torch.nn.RNN(SPEECH["width"], SPEECH["width"], nonlinearity="relu", bidirectional=True, batch_first=True)
    with torch.no_grad():
        for d, way in enumerate(("", "_reverse")):
            for part in ("weight_ih", "weight_hh"):
                getattr(rnn, f"{part}_l0{way}").copy_(weights[f"rnns.0.{part}"][d])
            for part, bias in zip(("ih", "hh"), weights["rnns.0.bias"][d].chunk(2), strict=True):
                getattr(rnn, f"bias_{part}_l0{way}").copy_(bias)
        x = torch.randn(BATCH, STEPS, SPEECH["width"], generator=torch.manual_seed(0))
        lengths = torch.from_numpy(feeds["lengths"])
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y = torch.nn.utils.rnn.pad_packed_sequence(rnn(packed)[0], batch_first=True)[0]
        expected = sum(y.chunk(2, 2))
        plain = Plain(weights)
        torch.testing.assert_close(plain.rnn(x, lengths, "rnns.0"), expected, rtol=TOLERANCE, atol=TOLERANCE)
        assert plain.highest < 20
