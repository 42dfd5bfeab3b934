"""Dense → sparse → dense of a small sibling of each of the paper's networks, against a loop in PyTorch.

20 steps a phase, from the same weights, over the same batches, with the paper recipe's loss, optimizer and pruning.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.nn import functional

import dsd_ort
from dsd_ort.recipe import Image, Recipe
from graphs import NETWORKS
from tests.oracle import reference
from tests.oracle.networks import GoogLeNet
from tests.oracle.test_dsd import difference, parts
from tests.oracle.test_sequence_graphs import CONTEXT, DEPTH, Plain
from tests.oracle.torchvision_models import torchvision_models

pytestmark = pytest.mark.oracle

STEPS = 20
CLASSES = 7
TOLERANCE = 1e-4
"""Of the norm of all weights."""
Arrays = dict[str, np.ndarray]


class Written(nn.Module):
    """A network of :class:`Plain` with its weights as parameters; statistics of batch norms are of no consequence."""

    def __init__(self, name: str, weights: Arrays) -> None:
        super().__init__()
        self.name, self.names = name, {key.replace(".", "/"): key for key in weights if ".running_" not in key}
        self.values = nn.ParameterDict({k: nn.Parameter(torch.tensor(weights[v])) for k, v in self.names.items()})
        self.statistics = {key: torch.tensor(value) for key, value in weights.items() if ".running_" in key}

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        weights = {name: self.values[key] for key, name in self.names.items()} | self.statistics
        return getattr(Plain(weights, training=True), self.name)(*inputs)

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        return {name: self.values[key] for key, name in self.names.items()}

    def named_parameters(self, *arguments: Any, **options: Any) -> Any:
        return iter(self.state_dict().items())


def captions_loss(network: nn.Module, feature: torch.Tensor, words: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(network(feature, words).transpose(1, 2), label, ignore_index=-1)


def speech_loss(stride: int) -> Callable[..., torch.Tensor]:
    def loss(network: nn.Module, x: torch.Tensor, lengths: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        log_p = network(x, lengths).log_softmax(-1).transpose(0, 1)
        frames, counts = -(-lengths // stride), (label >= 0).sum(1)
        return functional.ctc_loss(log_p, label.clamp(min=1), frames, counts, zero_infinity=True)

    return loss


class Case(NamedTuple):
    """A small sibling, how PyTorch has it, and learning rates at which two float32 programs stay comparable.

    A ReLU whose argument is as good as zero falls to the one or the other side by the order of a sum; so rates are
    small, as in :mod:`tests.oracle.test_dsd`.
    """

    arguments: dict[str, int]
    batch: Callable[[np.random.Generator], Arrays]
    loss: Callable[..., torch.Tensor] = reference.cross_entropy
    make: Callable[[], nn.Module] | None = None
    rates: tuple[float, float, float] = (1e-3, 5e-4, 1e-4)


def pictures(rng: np.random.Generator, *, size: int = 32, count: int = 4) -> Arrays:
    label = rng.integers(0, CLASSES, count)
    mean = np.random.default_rng(1).standard_normal((CLASSES, 3, size, size))
    return {"image": (mean[label] + rng.standard_normal((count, 3, size, size))).astype(np.float32), "label": label}


def captions(rng: np.random.Generator) -> Arrays:
    words = rng.integers(1, 20, (6, 8))
    words[:, 0] = 0
    label = np.roll(words, -1, axis=1)
    label[np.arange(8) >= rng.integers(3, 9, (6, 1))] = -1
    return {"feature": rng.standard_normal((6, 12)).astype(np.float32), "words": words, "label": label}


def speech(rng: np.random.Generator) -> Arrays:
    features = rng.standard_normal((4, 30, 13)).astype(np.float32)
    label = rng.integers(1, CLASSES, (4, 4))
    label[np.arange(4) >= rng.integers(1, 5, (4, 1))] = -1
    return {"features": features, "lengths": np.array([18, 30, 24, 21]), "label": label}


def torchvision_resnet(block: str, stages: tuple[int, ...]) -> nn.Module:
    resnet = torchvision_models().resnet
    return resnet.ResNet(getattr(resnet, block), stages, num_classes=CLASSES)


class OnlyLogits(GoogLeNet):
    """GoogLeNet without auxiliary classifiers."""

    def __init__(self) -> None:
        super().__init__(16, 5, CLASSES)
        self.aux1 = self.aux2 = nn.Identity()
        self.dropout = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)[0]


def vgg() -> nn.Module:
    module = torchvision_models().vgg
    plan = [item if item == "M" else item * 8 // 64 for item in module.cfgs["D"]]
    network = module.VGG(module.make_layers(plan), init_weights=False, dropout=0.0)
    network.avgpool = nn.Identity()
    for i, (inputs, outputs) in {0: (64, 512), 3: (512, 512), 6: (512, CLASSES)}.items():
        network.classifier[i] = nn.Linear(inputs, outputs)
    return network


SMALL_SPEECH = {"classes": CLASSES, "bands": 13, "width": 24, "depth": DEPTH}
CASES = {
    "vgg16": Case({"width": 8, "size": 32, "classes": CLASSES, "dropout": 0}, pictures, make=vgg),
    "googlenet": Case(
        {"width": 16, "size": 64, "classes": CLASSES, "dropout": 0},
        lambda rng: pictures(rng, size=64),
        make=OnlyLogits,
    ),
    "resnet18": Case(
        {"size": 64, "classes": CLASSES, "depth": 1},
        lambda rng: pictures(rng, size=64, count=8),
        make=lambda: torchvision_resnet("BasicBlock", (1, 1, 1, 1)),
        rates=(1e-5, 4e-5, 2e-5),
    ),
    "resnet50": Case(
        {"size": 64, "classes": CLASSES, "depth": 1},
        lambda rng: pictures(rng, size=64, count=8),
        make=lambda: torchvision_resnet("Bottleneck", (1, 1, 1, 1)),
        rates=(1e-5, 4e-5, 2e-5),
    ),
    "neuraltalk": Case({"vocabulary": 20, "features": 12, "width": 24, "dropout": 0}, captions, captions_loss),
    "deepspeech": Case({**SMALL_SPEECH, "context": CONTEXT, "dropout": 0}, speech, speech_loss(1)),
    "deepspeech2": Case({**SMALL_SPEECH, "maps": 3}, speech, speech_loss(2)),
}


def recipe_of(name: str, case: Case, batch_size: int) -> Recipe:
    """The paper's, with short phases at rates of their own, and its first three phases."""
    paper = Recipe.load(f"paper/{name}")
    phases = tuple(
        msgspec.structs.replace(phase, epochs=None, steps=STEPS, learning_rate=rate)
        for phase, rate in zip(paper.phase[:3], case.rates, strict=True)
    )
    data = msgspec.structs.replace(paper.data, shuffle=False, bucket=False, image=Image(), alphabet="")
    return msgspec.structs.replace(paper, phase=phases, batch_size=batch_size, data=data, metrics=("loss",))


def starting_point(name: str, case: Case, path: Path) -> tuple[nn.Module, Arrays]:
    """Writes the sibling with other values for what begins as 0 or 1; the network in PyTorch, and its weights."""
    model = NETWORKS[name](**case.arguments)
    initializers = model.graph.initializers
    weights = {key: value.const_value.numpy().copy() for key, value in initializers.items()}
    rng = np.random.default_rng(2)
    for key, value in weights.items():
        if value.ndim == 1 and "running_" not in key:
            value[...] += 0.1 * rng.standard_normal(value.shape).astype(np.float32)
        initializers[key].const_value = ir.tensor(value)
    ir.save(model, path)
    if case.make is None:
        return Written(name, weights), weights
    network = case.make()
    missing, unexpected = network.load_state_dict({k: torch.tensor(v) for k, v in weights.items()}, strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    return network, weights


# ResNet-50 takes as long as four others, and ResNet-18 has all of it but the bottlenecks.
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "resnet50")) for n in CASES])
def test_dense_sparse_dense_ends_where_pytorch_ends(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    rng = np.random.default_rng(3)
    batches = [case.batch(rng) for _ in range(STEPS)]
    network, weights = starting_point(name, case, tmp_path / "model.onnx")
    size = len(batches[0]["label"])
    recipe = recipe_of(name, case, size)
    program = dsd_ort.prepare(tmp_path / "model.onnx", tmp_path / "run", recipe)
    data = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    dsd_ort.train(tmp_path / "run", data, threads=2)
    ours = exported(tmp_path)

    names = [p.name for p in program.manifest.prunable]
    rates = [(phase.sparsity, rate) for phase, rate in zip(recipe.phase, case.rates, strict=True)]

    def train(threads: int) -> reference.Trained:
        torch.set_num_threads(threads)
        other = copy.deepcopy(network)
        options = recipe.optimizer
        optimizer = torch.optim.SGD(
            [value for _, value in other.named_parameters()],
            lr=1.0,
            momentum=options.momentum,
            nesterov=options.nesterov,
            weight_decay=options.weight_decay,
        )

        def pruned(module: nn.Module) -> dict[str, torch.Tensor]:
            parameters = dict(module.named_parameters())
            return {key: parameters[key] for key in names}

        return reference.train(
            other, optimizer, [list(b.values()) for b in batches], rates, loss=case.loss, pruned=pruned
        )

    theirs, again = train(2), train(1)
    assert {name: value.shape for name, value in theirs.masks.items()} == {
        p.name: p.shape for p in program.manifest.prunable
    }
    weights_of, statistics_of = parts({key: value for key, value in theirs.state.items() if key in ours})
    for part in (weights_of, statistics_of):
        if part:
            found, noise = (difference(side, theirs.state, part) for side in (ours, again.state))
            kept = {key: weights[key] * theirs.masks.get(key, 1) for key in part}
            trained = {key: theirs.state[key] * theirs.masks.get(key, 1) for key in part}
            moved = difference(kept, trained, part)  # by training, not by pruning
            print(f"{name}: {found:.1e}, PyTorch from itself {noise:.1e}, moved {moved:.1e}")
            assert moved > 3 * TOLERANCE, "a run that trains nothing would pass"
            # Statistics of a batch of few numbers show each ReLU that falls to the other side.
            assert found < (TOLERANCE if part is weights_of else max(TOLERANCE, 2 * noise))


def exported(folder: Path) -> Arrays:
    """The weights of the exported model."""
    dsd_ort.export(folder / "run", folder / "final.onnx")
    initializers = ir.load(folder / "final.onnx").graph.initializers
    return {name: value.const_value.numpy() for name, value in initializers.items()}
