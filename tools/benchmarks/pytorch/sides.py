"""The sides of a measurement: each is a step, of forward, backward and update, that is taken when it is called."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch

import dsd_ort
from dsd_ort.graph.program import open_program
from dsd_ort.recipe import Loss, Phase, Recipe
from dsd_ort.recipe.names import RecomputeName
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from tools.benchmarks.pytorch.networks import NETWORKS, Arrays
from tools.benchmarks.turns import CLOCKS, take_turns

PAPER = ("resnet18", "resnet50", "vgg16", "googlenet", "neuraltalk", "deepspeech", "deepspeech2")
"""Those whose loss a recipe of ours says."""
RATE, MOMENTUM, DECAY = 1e-4, 0.9, 1e-4
Step = Callable[[], object]


def prepare(name: str, model: Path, run: Path, *, recompute: RecomputeName = "none") -> None:
    """A run folder of *model*, with the optimizer that all sides have."""
    written = name in PAPER
    recipe = Recipe.load(f"paper/{name}") if written else dsd_ort.default_recipe(model)
    optimizer = msgspec.structs.replace(
        recipe.optimizer, name="sgd", momentum=MOMENTUM, weight_decay=DECAY, nesterov=False, clip_norm=None
    )
    loss = recipe.loss if written or name != "decoder" else Loss(class_axis=-1)
    phase = Phase(kind="dense", steps=1, learning_rate=RATE)
    data = msgspec.structs.replace(recipe.data, bucket=False)
    recipe = msgspec.structs.replace(
        recipe, optimizer=optimizer, phase=(phase,), data=data, loss=loss, recompute=recompute
    )
    dsd_ort.prepare(model, run, recipe)


def ours(run: Path, batch: Arrays, threads: int) -> Step:
    program = open_program(run)
    arena = Arena.of(program)
    arena.fill_from(program.source())
    engine = Engine(program, arena, Execution(threads=threads))
    names = [field.name for field in (*program.manifest.inputs, *program.manifest.labels)]
    feeds = dict(zip(names, batch.values(), strict=True))
    count = 0

    def step() -> None:
        nonlocal count
        engine.step(feeds, sparse=False, seed=count)
        count += 1
        engine.update(RATE, count)

    return step


def eager(name: str, batch: Arrays, *, compiled: bool = False) -> Step:
    """PyTorch's; *compiled* is ``torch.compile`` with its default settings."""
    torch.manual_seed(0)
    network = NETWORKS[name].make().train()
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    tensors, loss = [torch.from_numpy(array) for array in batch.values()], NETWORKS[name].loss
    called = torch.compile(network) if compiled else network

    def step() -> None:
        optimizer.zero_grad()
        loss(called, *tensors).backward()
        optimizer.step()

    return step


def ort_api(model: Path, batch: Arrays, folder: Path) -> Step:
    """ONNX Runtime Training's own API: its artifacts, with SGD that has neither momentum nor weight decay."""
    from onnxruntime.training import api, artifacts

    source = onnx.load(model)
    buffers = ("running_mean", "running_var")
    trained = [t.name for t in source.graph.initializer if t.data_type == 1 and not t.name.endswith(buffers)]
    with contextlib.redirect_stdout(io.StringIO()):
        artifacts.generate_artifacts(
            source,
            requires_grad=trained,
            loss=artifacts.LossType.CrossEntropyLoss,
            optimizer=artifacts.OptimType.SGD,
            artifact_directory=folder,
        )
    optimizer = onnx.load(folder / "optimizer_model.onnx")
    optimizer.ir_version = 10  # the exporter writes what onnx has, which may be newer than ONNX Runtime reads
    onnx.save(optimizer, folder / "optimizer_model.onnx")
    state = api.CheckpointState.load_checkpoint(folder / "checkpoint")
    module = api.Module(folder / "training_model.onnx", state)
    updates = api.Optimizer(folder / "optimizer_model.onnx", module)
    updates.set_learning_rate(RATE)
    module.train()

    def step() -> None:
        module(*batch.values())
        updates.step()
        module.lazy_reset_grad()

    return step


def flops(name: str, batch: Arrays) -> float:
    """Floating-point operations of a step's products and convolutions: three times those of the forward pass.

    PyTorch counts those of a backward pass too, but not the groups of a convolution there.
    """
    from torch.utils.flop_counter import FlopCounterMode

    network = NETWORKS[name].make().train()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        NETWORKS[name].loss(network, *map(torch.from_numpy, batch.values()))
    return 3.0 * counter.get_total_flops()


def machine(clock: str, rounds: int = 5) -> dict[str, float]:
    """What the processor can do now: GFLOP/s of a product of 2048² matrices, GB/s of adding 64 MB arrays."""
    a, b = torch.randn(2, 2048, 2048)
    x, y, z = torch.zeros(3, 1 << 24)
    product, added = take_turns([lambda: torch.mm(a, b), lambda: torch.add(x, y, out=z)], rounds, CLOCKS[clock])
    return {
        "gflops": 2 * 2048**3 / float(np.median(product)) / 1e9,
        "gigabytes_per_second": 3 * 4 * len(x) / float(np.median(added)) / 1e9,
    }
