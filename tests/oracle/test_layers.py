"""Each kind of layer by itself, exported by PyTorch: loss and gradients are PyTorch's, in double precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tools.benchmarks.layers import LAYERS, PICTURES, ROWS, SEQUENCES, SHAPES, VOLUMES, Behind, Step

pytestmark = pytest.mark.oracle

SMALL = {PICTURES: (2, 64, 8, 12), VOLUMES: (2, 16, 4, 6, 8), SEQUENCES: (2, 128, 256), ROWS: (8, 512)}
TOLERANCE = 1e-5
"""Of the gradient's norm."""
SOME = [pytest.param(name, marks=[pytest.mark.slow] * (i % 6 > 0)) for i, name in enumerate(SHAPES)]


@pytest.mark.parametrize("name", SOME)
def test_a_layer_has_pytorchs_gradients(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = SMALL[SHAPES[name]]
    network, x = Behind(shape, LAYERS[SHAPES[name]][name]()).train(), torch.randn(shape)
    with torch.no_grad():
        for parameter in network.parameters():  # equal ones are one to the exporter
            parameter.add_(torch.randn(parameter.shape) / 100)
    target = torch.randn(network(x).shape)
    step = Step(network, x, target, tmp_path)
    found = step()

    exact = network.double().train()
    loss = functional.mse_loss(exact(x.double()), target.double())
    loss.backward()

    assert found == pytest.approx(loss.item(), rel=1e-5)
    trained = {piece.name for piece in step.arena.trained}
    assert "added" in trained
    for parameter, tensor in exact.named_parameters():
        if parameter in trained:  # others are in the file as the exporter put them together
            theirs = tensor.grad.numpy()
            error = np.linalg.norm(step.gradient(parameter) - theirs)
            assert error <= TOLERANCE * max(np.linalg.norm(theirs), 1e-3), parameter


def test_norms_of_one_size_do_not_disturb_each_other(tmp_path: Path) -> None:
    """The kernel of each writes over two of its inputs, which ONNX Runtime may give to several."""
    torch.manual_seed(0)
    norms = [
        nn.GroupNorm(4, 16),
        nn.Conv2d(16, 16, 1),
        nn.GroupNorm(4, 16),
        nn.InstanceNorm2d(16),
        nn.InstanceNorm2d(16),
    ]
    x, target = torch.randn(2, 2, 16, 6, 6)
    network = Behind((2, 16, 6, 6), nn.Sequential(*norms)).train()
    step = Step(network, x, target, tmp_path)
    losses = [step() for _ in range(4)]

    exact = network.double().train()
    loss = functional.mse_loss(exact(x.double()), target.double())
    loss.backward()

    assert losses == [pytest.approx(loss.item(), rel=1e-5)] * 4
    theirs = exact.added.grad.numpy()
    assert np.linalg.norm(step.gradient("added") - theirs) <= TOLERANCE * np.linalg.norm(theirs)
