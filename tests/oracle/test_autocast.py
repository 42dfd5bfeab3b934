"""Mixed precision against PyTorch's autocast, GradScaler and optimizers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dsd_ort
from dsd_ort.graph.program import open_program
from dsd_ort.recipe import Optimizer
from tests.device.test_mixed import Step, flat
from tests.graph.optimizer.test_scaler import device, fresh, number, scale_once, start, update
from tests.oracle import networks

pytestmark = pytest.mark.oracle

CLASSES, EXAMPLES = 10, 32


def convolutions() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(800, CLASSES))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh(), nn.Linear(64, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": convolutions,
    "perceptron": perceptron,
    "batch norm": lambda: networks.randomise_norms(networks.LeNet()),
}


def theirs(network: nn.Module, image: np.ndarray, label: np.ndarray, *, autocast: bool) -> tuple[float, dict[str, Any]]:
    network = copy.deepcopy(network).train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = cross_entropy(network(torch.from_numpy(image)), torch.from_numpy(label))
    loss.backward()
    return loss.item(), {name: p.grad.numpy() for name, p in network.named_parameters() if p.grad is not None}


def distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    return float(np.linalg.norm(flat(a) - flat(b)) / np.linalg.norm(flat(b)))


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_in_bfloat16_are_autocasts(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, rng = NETWORKS[name](), np.random.default_rng(0)
    image, label = rng.standard_normal((EXAMPLES, 1, 28, 28), np.float32), rng.integers(0, CLASSES, EXAMPLES)
    batch = {"image": image, "label": label}
    networks.export(network, (1, 28, 28), tmp_path / "model.onnx")
    phase = {"kind": "dense", "steps": 1, "learning_rate": 0.1}
    dsd_ort.prepare(
        tmp_path / "model.onnx", tmp_path / "run", dsd_ort.Recipe.from_dict({"batch_size": EXAMPLES, "phase": [phase]})
    )
    program = open_program(tmp_path / "run")
    exact_loss, exact = theirs(network, image, label, autocast=False)
    loss, gradients = Step(program)(batch)
    assert loss == pytest.approx(exact_loss, rel=1e-6) and distance(gradients, exact) < 1e-5
    their_loss, cast = theirs(network, image, label, autocast=True)
    our_loss, mixed = Step(program, "bf16")(batch, 1.0)
    noise = distance(cast, exact)
    assert 1e-3 < noise < 0.1
    assert distance(mixed, exact) == pytest.approx(noise, rel=0.05)
    assert distance(mixed, cast) < 0.1 * noise  # the same values are rounded; what is left is the order of sums
    assert our_loss == pytest.approx(their_loss, abs=0.1 * abs(their_loss - exact_loss) + 1e-5)


def test_scales_are_grad_scalers() -> None:
    rng = np.random.default_rng(1)
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=5)
    state, counts = fresh(2.0**16, interval=5), [0, 0]
    for bad in rng.random(200) < 0.15:
        gradient = np.array([1, -2, rng.choice([math.inf, -math.inf, math.nan]) if bad else 3], np.float32)
        before = parameter.detach().clone()
        reference.scale(torch.zeros(()))  # which makes the scale a tensor
        scaled = gradient * np.float32(reference.get_scale())
        parameter.grad = torch.from_numpy(scaled.copy())
        reference.step(optimizer)
        reference.update()
        got = scale_once(scaled, state)
        assert got["scale"] == min(max(reference.get_scale(), 1.0), 2.0**24)
        assert got["keep"] == (not torch.equal(before, parameter.detach()))
        counts[int(not got["keep"])] += 1
    assert [state["done"].item(), state["skipped"].item()] == counts
    assert min(counts) > 10


CLIPS = [0.1, 1.0, 100.0]


@pytest.mark.parametrize("limit", CLIPS)
def test_clipping_is_clip_grad_norms(limit: float) -> None:
    gradient = np.random.default_rng(2).standard_normal(1000).astype(np.float32) / 4
    parameter = nn.Parameter(torch.zeros(1000))
    parameter.grad = torch.from_numpy(gradient.copy())
    norm = float(nn.utils.clip_grad_norm_([parameter], limit))
    got = scale_once(gradient * 4 * 512, fresh(512, count=4, limit=limit))
    assert got["norm"] == pytest.approx(norm, rel=1e-6)
    np.testing.assert_allclose(gradient * 4 * 512 * np.float32(got["gradient_scale"]), parameter.grad, rtol=1e-6)


OPTIMIZERS: dict[str, tuple[Optimizer, Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (Optimizer(momentum=0.9, dampening=0.3), torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3}),
    "nesterov": (Optimizer(momentum=0.9, nesterov=True), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (Optimizer(name="adam"), torch.optim.Adam, {}),
    "adamw": (Optimizer(name="adamw", beta2=0.99), torch.optim.AdamW, {"betas": (0.9, 0.99)}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_guarded_updates_are_pytorchs_without_the_skipped_ones(name: str) -> None:
    ours, make, options = OPTIMIZERS[name]
    rng, state = np.random.default_rng(3), start(ours, 300)
    parameter = nn.Parameter(torch.from_numpy(state["weight"].copy()).double())
    optimizer, done = make([parameter], lr=0.1, weight_decay=0.01, **options), 0
    for keep in (False, True, True, False, False, True, True, True):
        gradient = rng.standard_normal(300).astype(np.float32)
        if keep:
            parameter.grad = torch.from_numpy(gradient.astype(np.float64))
            optimizer.step()
            done += 1
        fed = gradient * 8 if keep else gradient * np.float32(math.inf)
        update(ours, state, fed, **device(keep=keep, done=done, scale=1 / 8))
    got, expected = state["weight"], parameter.detach().numpy()
    assert np.linalg.norm(got - expected) < 1e-6 * np.linalg.norm(expected)
    assert np.linalg.norm(expected - start(ours, 300)["weight"]) > 0.1 * np.linalg.norm(expected)
    assert number(done) == 5
