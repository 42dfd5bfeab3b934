"""Dense → sparse → dense against PyTorch: the same weights, the same batches, the same algorithm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import nn

import dsd_ort
from dsd_ort.data import open_data
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from tests.oracle import networks, reference

pytestmark = pytest.mark.oracle

STEPS = 20
SPARSITIES = (None, 0.3, None)
RATES = {"lenet": (2e-3, 1e-3, 2e-4), "resnet": (5e-5, 2e-4, 1e-4)}
"""Learning rates of the three phases.  A ReLU whose input is as good as zero falls to the one or the other side by the
order of a sum, so any two float32 programs drift apart, PyTorch with itself included: ResNet's first phase is slow
enough for the masks to be comparable, LeNet's whole run for the weights to be."""
ADAM_SCALE = 0.1
"""Adam's step is about the learning rate itself, whatever the gradient, so its rates are smaller."""
OPTIMIZERS: dict[str, tuple[dict[str, Any], Callable[[nn.Module], torch.optim.Optimizer]]] = {
    "sgd": (
        {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
        lambda n: torch.optim.SGD(n.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-4),
    ),
    "nesterov": (
        {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True},
        lambda n: torch.optim.SGD(n.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-4, nesterov=True),
    ),
    "adamw": (
        {"name": "adamw", "weight_decay": 1e-2},
        lambda n: torch.optim.AdamW(n.parameters(), lr=1.0, weight_decay=1e-2),
    ),
}

RARE = {("resnet", "nesterov"), ("resnet", "adamw")}
"""LeNet has these in each run."""


def phases_of(which: str, optimizer: str) -> list[tuple[float | None, float]]:
    """Sparsity or None, and learning rate, of each phase."""
    scale = ADAM_SCALE if optimizer == "adamw" else 1.0
    return [(sparsity, rate * scale) for sparsity, rate in zip(SPARSITIES, RATES[which], strict=True)]


def recipe(which: str, optimizer: str, batch_size: int) -> dsd_ort.Recipe:
    return dsd_ort.Recipe.from_dict(
        {
            "batch_size": batch_size,
            "optimizer": OPTIMIZERS[optimizer][0],
            "data": {"shuffle": False},
            "phase": [
                {"kind": "dense" if sparsity is None else "sparse", "steps": STEPS, "learning_rate": rate}
                | ({} if sparsity is None else {"sparsity": sparsity})
                for sparsity, rate in phases_of(which, optimizer)
            ],
        }
    )


def make_batches(image: tuple[int, ...], classes: int, size: int) -> list[reference.Batch]:
    """Images of class prototypes with noise, so that there is something to learn."""
    rng = np.random.default_rng(0)
    prototypes = rng.standard_normal((classes, *image), np.float32)
    labels = rng.integers(0, classes, (STEPS, size))
    noise = rng.standard_normal((STEPS, size, *image), np.float32)
    return [(prototypes[y] + noise[i], y) for i, y in enumerate(labels)]


def train_ours(which: str, model: Path, run: Path, optimizer: str, batches: list[reference.Batch]) -> reference.Trained:
    """The final state by PyTorch's names, and the sparse phase's masks."""
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    dsd_ort.prepare(model, run, recipe(which, optimizer, len(batches[0][1])))
    dsd_ort.train(run, {"image": images, "label": labels}, threads=2)
    state = safetensors.numpy.load_file(run / "phases" / "3-dense.safetensors")
    checkpoint = safetensors.numpy.load_file(run / "checkpoint.safetensors")
    return reference.Trained(
        {name.partition("/")[2]: value for name, value in state.items()},
        {name.partition("/")[2]: v.astype(np.float32) for name, v in checkpoint.items() if name.startswith("masks/")},
    )


def train_theirs(
    which: str, network: nn.Module, optimizer: str, batches: list[reference.Batch], threads: int
) -> reference.Trained:
    network = copy.deepcopy(network)
    torch.set_num_threads(threads)
    return reference.train(network, OPTIMIZERS[optimizer][1](network), batches, phases_of(which, optimizer))


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray], names: list[str]) -> float:
    """‖a − b‖ / ‖b‖ over all named arrays together."""
    names = [name for name in names if not name.endswith("num_batches_tracked")]
    assert names
    squares = [(np.sum((a[n].astype(np.float64) - b[n]) ** 2), np.sum(b[n].astype(np.float64) ** 2)) for n in names]
    return float(np.sqrt(sum(s[0] for s in squares) / sum(s[1] for s in squares)))


def parts(state: dict[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """Names of weights and of running statistics."""
    return [n for n in state if "running_" not in n], [n for n in state if "running_" in n]


def agreement(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """The share of mask entries that are equal."""
    assert ours.keys() == theirs.keys()
    equal = sum(np.count_nonzero(ours[name] == theirs[name]) for name in theirs)
    return equal / sum(mask.size for mask in theirs.values())


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(1)
    network = networks.randomise_norms(networks.LeNet())
    return network, networks.export(network, (1, 28, 28), tmp_path_factory.mktemp("lenet") / "lenet.onnx")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(1)
    network = networks.randomise_norms(networks.ResNet18())
    return network, networks.export(network, (3, 64, 64), tmp_path_factory.mktemp("resnet") / "resnet18.onnx")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_lenet_ends_where_pytorch_ends(lenet: tuple[nn.Module, Path], optimizer: str, tmp_path: Path) -> None:
    network, model = lenet
    batches = make_batches((1, 28, 28), 10, 32)
    ours = train_ours("lenet", model, tmp_path / "run", optimizer, batches)
    theirs = train_theirs("lenet", network, optimizer, batches, 1)
    for names in parts(theirs.state):
        print(f"{optimizer}: {difference(ours.state, theirs.state, names):.2e}")
        assert difference(ours.state, theirs.state, names) < 1e-4
    assert agreement(ours.masks, theirs.masks) >= 0.9999
    start = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    assert difference(start, theirs.state, parts(start)[0]) > 1e-2, "training moved little: the test says little"


# In each run, ResNet-18 goes through the phases in tests/oracle/test_paper_networks.py.
@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resnet_differs_from_pytorch_as_pytorch_does_from_itself(
    resnet: tuple[nn.Module, Path], optimizer: str, tmp_path: Path
) -> None:
    network, model = resnet
    batches = make_batches((3, 64, 64), 1000, 8)
    ours = train_ours("resnet", model, tmp_path / "run", optimizer, batches)
    one, two = (train_theirs("resnet", network, optimizer, batches, threads) for threads in (1, 2))
    for names in parts(one.state):
        own = difference(two.state, one.state, names)
        found = difference(ours.state, one.state, names)
        print(f"{optimizer}: ours {found:.2e}, PyTorch's own {own:.2e}")
        assert found <= 10 * own
    print(f"{optimizer}: masks agree in {agreement(ours.masks, one.masks):.6f}")
    assert agreement(ours.masks, one.masks) >= 0.9999


@pytest.mark.parametrize(
    ("which", "optimizer"),
    [
        pytest.param(which, name, marks=[pytest.mark.slow] * ((which, name) in RARE))
        for which in RATES
        for name in OPTIMIZERS
    ],
)
def test_a_single_step_from_equal_weights_is_equal(
    which: str, optimizer: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Dense and sparse, each from where the steps before have led PyTorch."""
    network, model = request.getfixturevalue(which)
    image, classes = ((1, 28, 28), 10) if which == "lenet" else ((3, 64, 64), 1000)
    batches = make_batches(image, classes, 8)[:6]
    theirs = copy.deepcopy(network).train()
    optimizer_of = OPTIMIZERS[optimizer][1](theirs)
    program = dsd_ort.prepare(model, tmp_path / "run", recipe(which, optimizer, 8))
    arena = Arena.of(program)
    engine = Engine(program, arena, Execution(threads=2))
    fields = [*program.manifest.inputs, *program.manifest.labels]
    for step, (images, labels) in enumerate(batches, 1):
        sparsity, rate = phases_of(which, optimizer)[0 if step <= 3 else 1]
        take_over(arena, theirs, optimizer_of)
        if sparsity is not None:
            masks = reference.masks_of(reference.prunable(theirs), sparsity)
            for piece in arena.prunable:
                view(arena.masks, piece)[...] = masks[piece.name].numpy()
            arena.apply_masks()
        data = open_data({"image": images, "label": labels}, fields)
        engine.step(data.gather(np.arange(8)), sparse=sparsity is not None, seed=0)
        engine.update(rate, step)
        reached = reference.train(theirs, optimizer_of, [(images, labels)], [(sparsity, rate)])
        for names in parts(reached.state):
            print(f"{which} {optimizer} step {step}: {difference(arena.values(), reached.state, names):.2e}")
            assert difference(arena.values(), reached.state, names) < 1e-5


def take_over(arena: Arena, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """PyTorch's weights, statistics and slots, into the arena."""
    arena.fill({name: value.detach().numpy() for name, value in network.state_dict().items()})
    names = {"momentum": "momentum_buffer", "moment1": "exp_avg", "moment2": "exp_avg_sq"}
    parameters = dict(network.named_parameters())
    for slot, buffer in arena.slots.items():
        for piece in arena.trained:
            state = optimizer.state[parameters[piece.name]]
            if names[slot] in state:
                view(buffer, piece)[...] = state[names[slot]].numpy()


def test_the_resnet_of_the_comparison_has_the_papers_size(resnet: tuple[nn.Module, Path]) -> None:
    assert sum(p.numel() for p in resnet[0].parameters()) == 11_689_512
