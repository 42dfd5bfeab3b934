"""Operators whose reference in ONNX is wrong, works in single precision or is missing: outputs and gradients against
PyTorch's, in double precision.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch.nn import functional

from dsd_ort.graph.legalize import legalize
from tests.graph.gradient import loss_weights, model, random_inputs, step

pytestmark = pytest.mark.oracle

TOLERANCE = 3e-6
"""Relative to the largest entry."""


def assert_alike(text: str, function: Callable[..., torch.Tensor], opset: int = 18) -> None:
    """The model of *text* and *function*, of tensors named as its inputs, have the same output and gradients."""
    proto = model(text, opset)
    inputs = random_inputs(proto)
    tensors = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in inputs.items()}
    y = function(**tensors)
    weights = loss_weights({"y": y.detach().numpy()})
    (y * torch.tensor(weights["y"], dtype=torch.float64)).sum().backward()

    legal = legalize(ir.from_proto(proto), list(inputs), outputs=["y"]).model
    done = step(legal, list(inputs), inputs, weights)

    gradients = [(done.gradients[name], tensor.grad) for name, tensor in tensors.items()]
    for ours, theirs in [(done.outputs["y"], y.detach()), *gradients]:
        assert theirs is not None
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=TOLERANCE * float(theirs.abs().max()))


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_grid_sample_of_images(mode: str, padding: str, corners: int) -> None:
    settings = f'mode = "{mode}", padding_mode = "{padding}", align_corners = {corners}'
    assert_alike(
        f"(float[N, 3, H, W] x, float[N, K, 3, 2] g) => (float[] y) {{ y = GridSample <{settings}> (x, g) }}",
        lambda x, g: functional.grid_sample(x, g, mode, padding, bool(corners)),
    )


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample_of_volumes(padding: str, corners: int) -> None:
    settings = f'padding_mode = "{padding}", align_corners = {corners}'
    assert_alike(
        f"(float[N, 2, H, 3, 4] x, float[N, 2, T, 2, 3] g) => (float[] y) {{ y = GridSample <{settings}> (x, g) }}",
        lambda x, g: functional.grid_sample(x, g, "bilinear", padding, bool(corners)),
        opset=20,
    )


@pytest.mark.parametrize("corners", [0, 1])
def test_a_spatial_transformer(corners: int) -> None:
    def function(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        grid = functional.affine_grid(t, list(x.shape), bool(corners))
        return functional.grid_sample(x, grid, align_corners=bool(corners))

    settings = f"align_corners = {corners}"
    assert_alike(
        "(float[N, 2, H, W] x, float[N, 2, 3] t) => (float[] y) "
        f"{{ s = Shape (x) g = AffineGrid <{settings}> (t, s) y = GridSample <{settings}> (x, g) }}",
        function,
        opset=20,
    )


@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize(("mode", "theirs"), [("linear", "bilinear"), ("cubic", "bicubic")])
@pytest.mark.parametrize("size", [(9, 12), (4, 2)])
def test_interpolation(size: tuple[int, int], mode: str, theirs: str, antialias: int) -> None:
    # With antialiasing PyTorch's cubic coefficient is another one, and what is outside has no weight.
    settings = f'mode = "{mode}", antialias = {antialias}, exclude_outside = {antialias}'
    settings += ", cubic_coeff_a = -0.5" if antialias else ""
    assert_alike(
        f"(float[N, 2, H, W] x) => (float[] y) <int64[2] s = {{{size[0]}, {size[1]}}}> "
        f"{{ y = Resize <axes = [2, 3], {settings}> (x, , , s) }}",
        lambda x: functional.interpolate(x, size, mode=theirs, antialias=bool(antialias)),
    )


def test_fold() -> None:
    assert_alike(
        "(float[N, 12, 10] x) => (float[] y) <int64[2] i = {5, 5}, int64[2] b = {2, 3}> "
        "{ y = Col2Im <dilations = [2, 1], pads = [1, 1, 1, 1], strides = [4, 1]> (x, i, b) }",
        lambda x: functional.fold(x, (5, 5), (2, 3), dilation=(2, 1), padding=1, stride=(4, 1)),
    )


@pytest.mark.parametrize("size", ["6, 5", "H, W"])
def test_lp_pool(size: str) -> None:
    assert_alike(
        f"(float[N, 2, {size}] x) => (float[] y) {{ y = LpPool <kernel_shape = [3, 2], strides = [2, 1]> (x) }}",
        lambda x: functional.lp_pool2d(x, 2.0, (3, 2), (2, 1)),
    )


@pytest.mark.parametrize("size", ["6, 4", "H, K"])
def test_pooling_and_unpooling(size: str) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        pooled, places = functional.max_pool2d(x, 2, 2, return_indices=True)
        # PyTorch counts within a channel, ONNX within the whole batch.
        return functional.max_unpool2d(pooled.sin(), places, 2, 2)

    assert_alike(
        f"(float[N, 2, {size}] x) => (float[] y) {{ m, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) "
        "s = Sin (m) y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (s, i) }",
        function,
    )
