"""Networks that PyTorch exported: one step's gradients are those of torch.autograd in float64, tensor by tensor.

Exporters rename weights and store them otherwise: transposed, in thirds (attention), with the gates of a recurrent
layer in ONNX's order.  A weight of the file is recognised by its values, and PyTorch's gradient put in the same form.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import dsd_ort
from dsd_ort.model import source as source_files
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from tests.oracle.small_networks import NETWORKS, perturbed
from tests.oracle.torchvision_models import torchvision_models

pytestmark = pytest.mark.oracle

TOLERANCE = 1e-4
"""‖ours - theirs‖ / ‖theirs‖."""
AS_LOST = 4
"""Times what PyTorch loses in float32 on the same network."""
DRAWS = 3
"""Of weights and data: where float32 turns a ReLU over, of which batch norm of three small pictures makes 3 %."""
SMALL = 1e-2
"""Of the largest ‖gradient‖ of the network: a smaller one (as of a bias in front of a norm) counts as that large."""
BATCH = 3

FAST = (
    "activations",
    "convolutions",
    "einsum_attention",
    "gru",
    "instance_norm",
    "lstm_bidirectional",
    "pools",
    "spatial_transformer",
    "unet",
    "upsampling",
)
UNTIED = ("tied_words",)
"""TorchScript folds the transposed table to a tensor of its own, which PyTorch has no gradient of."""
OTHER_FORM = {
    ("pair", "torchscript"): "this exporter has no nn.Bilinear",
    (
        "prototypes",
        "torchscript",
    ): "the exporter stores the centres twice, and each of the two has a part of the gradient",
    ("pair", "dynamo"): "the exporter folds the form into a matrix",
    ("weight_norm", "dynamo"): "the exporter folds norm and direction into one weight",
}
REST = tuple(name for name in NETWORKS if name not in (*FAST, *UNTIED))
EXPORTERS = ("torchscript", "dynamo")
GATES = {nn.LSTM: (0, 3, 1, 2), nn.GRU: (1, 0, 2), nn.RNN: (0,)}
"""ONNX's gates, i o f c and z r h, in PyTorch's order, i f c o and r z h."""


class Tensor(NamedTuple):
    """A weight in some form, and its gradient in the same form."""

    value: np.ndarray
    gradient: np.ndarray


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", FAST)
def test_gradients_are_pytorchs(name: str, exporter: str, tmp_path: Path) -> None:
    compare(NETWORKS[name].make, NETWORKS[name].example, exporter, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", REST)
def test_gradients_of_the_other_networks_are_pytorchs(name: str, exporter: str, tmp_path: Path) -> None:
    if (name, exporter) in OTHER_FORM:
        pytest.skip(OTHER_FORM[name, exporter])
    compare(NETWORKS[name].make, NETWORKS[name].example, exporter, tmp_path)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_gradients_in_training_mode_are_pytorchs(exporter: str, tmp_path: Path) -> None:
    """Batch norm by the statistics of the batch."""
    compare(NETWORKS["unet"].make, NETWORKS["unet"].example, exporter, tmp_path, training=True)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["frozen", "training"])
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf", "shufflenet_v2_x1_0", "convnext_tiny", "vit_b_16"])
def test_gradients_of_torchvisions_networks_are_pytorchs(
    name: str, exporter: str, training: bool, tmp_path: Path
) -> None:
    models = torchvision_models()
    options = {"image_size": 64} if name == "vit_b_16" else {}
    make = lambda: getattr(models, name)(weights=None, **options)  # noqa: E731
    compare(make, lambda batch: (torch.randn(batch, 3, 64, 64),), exporter, tmp_path, training=training)


def compare(
    make: Callable[[], nn.Module],
    example: Callable[[int], tuple[torch.Tensor, ...]],
    exporter: str,
    folder: Path,
    *,
    training: bool = False,
) -> None:
    """In one of several draws, as a gradient that is wrong is so in all."""
    tried = []
    for seed in range(DRAWS):
        (inner := folder / str(seed)).mkdir()
        errors, allowed = errors_of(make, example, exporter, inner, training=training, seed=seed)
        tried.append({name: error for name, error in errors.items() if not error <= allowed})
        if not tried[-1]:
            return
    raise AssertionError(tried)


def errors_of(
    make: Callable[[], nn.Module],
    example: Callable[[int], tuple[torch.Tensor, ...]],
    exporter: str,
    folder: Path,
    *,
    training: bool,
    seed: int,
) -> tuple[dict[str, float], float]:
    """Relative errors in float32, and what is allowed of them."""
    torch.manual_seed(seed)
    torch.backends.mha.set_fastpath_enabled(False)
    network, inputs = perturbed(make()), example(BATCH)
    for module in network.modules():
        if type(module).__name__ == "StochasticDepth":
            module.p = 0.0  # the file is one of inference, and drops no branches
    path = export(network, example(2), exporter, folder / "model.onnx")
    with torch.no_grad():
        y = network(*inputs)
    target = y + y.std() * torch.randn_like(y)

    ours = gradients_of(path, network, inputs, target, training=training)
    rounded = list(forms(copy.deepcopy(network).train(training), inputs, target, torch.float32))
    theirs = list(forms(network.train(training), inputs, target))
    largest = max(np.linalg.norm(t.gradient) for t in theirs)
    assert sum(t.value.size for t in ours.values()) == sum(p.numel() for p in network.parameters())
    errors, lost = {}, {}
    for name, found in ours.items():
        same = [
            (t.gradient, r.gradient)
            for t, r in zip(theirs, rounded, strict=True)
            if t.value.shape == found.value.shape and np.allclose(t.value, found.value, atol=1e-7)
        ]
        assert same, f"{name} {found.value.shape} is no weight of the network"
        expected, in_float32 = same[0]
        scale = max(np.linalg.norm(expected), SMALL * largest)
        errors[name] = float(np.linalg.norm(found.gradient - expected) / scale)
        lost[name] = float(np.linalg.norm(in_float32 - expected) / scale)
    print(f"{len(errors)} tensors, worst {max(errors.values()):.1e}, PyTorch's in float32 {max(lost.values()):.1e}")
    return errors, max(TOLERANCE, AS_LOST * max(lost.values()))


def export(network: nn.Module, inputs: tuple[torch.Tensor, ...], exporter: str, path: Path) -> Path:
    """As a user exports, but that batch norm is not folded into the layer in front of it."""
    names = list(inspect.signature(network.forward).parameters)[: len(inputs)]
    options: dict[str, Any] = {"dynamo": exporter == "dynamo", "input_names": names, "output_names": ["scores"]}
    if exporter == "dynamo":
        options["dynamic_shapes"] = tuple({0: torch.export.Dim("batch")} for _ in inputs)
        options["optimize"] = not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
    else:
        options["dynamic_axes"] = {name: {0: "batch"} for name in [*names, "scores"]}
        options["training"] = torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, inputs, str(path), verbose=False, **options)
    return path


def gradients_of(
    path: Path, network: nn.Module, inputs: tuple[torch.Tensor, ...], target: torch.Tensor, *, training: bool
) -> dict[str, Tensor]:
    """One step as dsd-ort prepares it, through its engine."""
    recipe = dsd_ort.Recipe.from_dict(
        {
            "batch_norm": "train" if training else "frozen",
            "loss": {"name": "mse", "label": "target"},
            "phase": [{"kind": "dense", "steps": 1, "learning_rate": 0.1}],
        }
    )
    program = dsd_ort.prepare(path, path.parent / "run", recipe)
    arena = Arena.of(program)
    source = source_files.load(path)
    arena.fill_from(source)
    batch = {field.name: x.numpy() for field, x in zip(program.manifest.inputs, inputs, strict=True)}
    Engine(program, arena, Execution(threads=2)).step({**batch, "target": target.numpy()}, sparse=False, seed=0)
    return {
        piece.name: Tensor(view(arena.weights, piece).copy(), view(arena.gradients, piece).copy())
        for piece in arena.trained
    }


def forms(
    network: nn.Module, inputs: tuple[torch.Tensor, ...], target: torch.Tensor, dtype: torch.dtype = torch.float64
) -> Iterator[Tensor]:
    """Every weight with its gradient, computed in *dtype*, in every form in which an exporter may store it."""
    exact = network.to(dtype)
    F.mse_loss(exact(*(x.to(dtype) if x.is_floating_point() else x for x in inputs)), target.to(dtype)).backward()
    for parameter in exact.parameters():
        pair = parameter.detach().numpy(), parameter.grad.numpy()
        yield from _turned(*pair)
        if pair[0].shape[0] % 3 == 0:
            for value, gradient in zip(*(np.split(array, 3) for array in pair), strict=True):
                yield from _turned(value, gradient)
    for module in exact.modules():
        if isinstance(module, nn.RNNBase):
            for layer in range(module.num_layers):
                values, gradients = (_recurrent(module, layer, of) for of in (lambda p: p, lambda p: p.grad))
                yield from (Tensor(*pair) for pair in zip(values, gradients, strict=True))


def _turned(value: np.ndarray, gradient: np.ndarray) -> Iterator[Tensor]:
    yield Tensor(value, gradient)
    yield Tensor(value.T, gradient.T)
    yield Tensor(value[None], gradient[None])
    if value.shape[0] == 1:
        yield Tensor(value[0], gradient[0])
    if value.ndim == 1:  # the slope of PRelu, and what else is one number a channel of an image
        for shape in ((1, -1), (-1, 1), (-1, 1, 1)):
            yield Tensor(value.reshape(shape), gradient.reshape(shape))


def _recurrent(module: nn.RNNBase, layer: int, of: Callable[[torch.Tensor], torch.Tensor]) -> list[np.ndarray]:
    """W, R and B of ONNX's operator, for all directions."""
    sides = [f"l{layer}", f"l{layer}_reverse"][: 1 + module.bidirectional]

    def stacked(kind: str) -> list[np.ndarray]:
        arrays = (of(getattr(module, f"{kind}_{side}")).detach().numpy() for side in sides)
        order = next(order for base, order in GATES.items() if isinstance(module, base))
        return [np.concatenate([np.split(a, len(order))[gate] for gate in order]) for a in arrays]

    biases = [np.concatenate(pair) for pair in zip(stacked("bias_ih"), stacked("bias_hh"), strict=True)]
    return [np.stack(arrays) for arrays in (stacked("weight_ih"), stacked("weight_hh"), biases)]
