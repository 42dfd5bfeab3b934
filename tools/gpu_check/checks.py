"""What a device computes, against what the CPU computes in float32, and against itself.

==============  =========================================================================  ========================
dense, sparse   one step: loss, every gradient, running statistics against the CPU's:      1e-4
                the greatest ‖a − b‖ / ‖b‖, and of what
dsd             20 + 20 + 20 steps by ``train``: all weights at the end against the        1e-4, or 5 times what the
                CPU's, ‖a − b‖ / ‖b‖, without those that only one of both has pruned       order of examples changes
masks           … and the share of these: where two weights are as good as equal, a sum    1e-4
                in another order makes the other one the smaller
zeros           pruned weights that are not exactly 0 after the sparse phase               0
verify          the exported model differs in more than weights: ``export`` raises         0
tf32 fp16 bf16  loss of 200 steps against float32 on the same device: the mean of          1 %
                |a − b| / b, of curves that are running means of 10 steps, from where
                16-bit gradients have found their scale
repeats         deterministic, twice: numbers of the weights that differ after 5 steps     0
graphs          deterministic, with recorded CUDA graphs and without: ‖a − b‖ / ‖b‖         1e-6
dropout         deterministic, the same seed twice: numbers of the gradients that differ   0
==============  =========================================================================  ========================

All that the CPU is to compute is in ``cpu.npz`` before a GPU is at hand.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

import dsd_ort
from dsd_ort.graph.manifest import Slice
from dsd_ort.graph.program import open_program
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.run.prune import write_masks
from dsd_ort.runtime import choose_device
from tools.gpu_check import networks
from tools.gpu_check.distances import Arrays, apart, deviation, differing, distance, worst
from tools.gpu_check.prepared import DSD_STEPS, values

STEP, END, MASKS, CURVE, GRAPHS = 1e-4, 1e-4, 1e-4, 0.01, 1e-6
NOISES = 5
BATCHES, FEW, SEARCH = 4, 5, 40


class Found(NamedTuple):
    """What a check found; right if ``value`` is at most ``limit``."""

    value: float
    limit: float
    where: str = ""
    detail: str = ""


class Setting(NamedTuple):
    """What is checked: a device, threads of the CPU, and how many steps a loss curve has."""

    device: str
    threads: int = 0
    steps: int = 200

    def execution(self, **options: Any) -> Execution:
        return Execution(choose_device(self.device), self.threads, **options)


class Subject:
    """A small network in its folder, see :mod:`tools.gpu_check.prepared`."""

    def __init__(self, place: Path, name: str) -> None:
        self.place, self.name = place, name
        self.data = networks.data("small", name, BATCHES)
        size = networks.SMALL[name].batch
        self.batches = [{k: a[i * size : (i + 1) * size] for k, a in self.data.items()} for i in range(BATCHES)]
        self.rate = networks.RATES[name][1]
        self.curves: dict[Setting, list[float]] = {}

    @cached_property
    def cpu(self) -> Arrays:
        """What :func:`write_cpu` wrote."""
        return dict(np.load(self.place / "cpu.npz"))

    @cached_property
    def prunable(self) -> dict[str, Slice]:
        return {piece.name: piece for piece in open_program(self.place / "run").manifest.prunable}

    def engine(self, execution: Execution, *, run: str = "run", sparse: bool = False) -> tuple[Engine, Arena]:
        program = open_program(self.place / run)
        arena = Arena.of(program)
        arena.fill(values(program))
        if sparse:
            write_masks(arena, networks.SPARSITY, program.recipe.prune)
            arena.apply_masks()
        return Engine(program, arena, execution), arena

    def step(self, execution: Execution, *, sparse: bool = False, run: str = "run", seed: int = 3) -> Arrays:
        """Loss, gradients and new statistics of one step, by name."""
        engine, arena = self.engine(execution, run=run, sparse=sparse)
        loss = engine.step(self.batches[0], sparse=sparse, seed=seed)
        engine.download()
        engine.gradients.download()
        found = {"loss": np.array(loss)}
        found |= {f"gradient of {p.name}": view(arena.gradients, p).copy() for p in arena.trained}
        return found | {s.name: view(arena.statistics, s).copy() for s in arena.statistic_slices}

    def losses(self, execution: Execution, steps: int) -> tuple[list[float], Arrays, int]:
        """Of dense steps; the weights behind them, and how many updates were left out."""
        engine, arena = self.engine(execution)
        if execution.mixed:
            self._find_scale(engine)
        for number in range(steps):
            engine.queue(self.batches[number % BATCHES], sparse=False, seed=number)
            engine.update(self.rate, number + 1)
        losses, state = engine.losses(), engine.updates.state()
        engine.download(training=False)
        weights = {name: value.copy() for name, value in arena.values().items()}
        return losses, weights, int(state.get("skipped", 0))

    def _find_scale(self, engine: Engine) -> None:
        """Steps that change nothing, until the gradients of every batch have not overflowed.

        Each that does leaves an update out: a curve would be a step behind float32's, which at the start is steep.
        """
        arena = engine.arena
        arrays = (arena.weights, arena.statistics, *arena.slots.values())
        before = [array.copy() for array in arrays]
        skipped, good = 0, 0
        for number in range(SEARCH):
            engine.queue(self.batches[number % BATCHES], sparse=False, seed=0)
            engine.update(0.0, 1)
            now = int(engine.updates.state().get("skipped", 0))
            skipped, good = now, good + 1 if now == skipped else 0
            if good == BATCHES:
                break
        engine.losses()
        for array, kept in zip(arrays, before, strict=True):
            array[...] = kept
        engine.upload()

    def trained(self, setting: Setting, *, backwards: bool = False) -> tuple[Arrays, Arrays]:
        """The weights of dense, sparse, dense by the public verbs, after the sparse phase and at the end.

        *backwards*: the examples of each batch are in reversed order, which should change nothing.
        """
        data = self.data
        if backwards:
            batch = networks.SMALL[self.name].batch
            order = np.arange(BATCHES * batch).reshape(BATCHES, batch)[:, ::-1].ravel()
            data = {name: array[order] for name, array in data.items()}
        with tempfile.TemporaryDirectory() as folder:
            run, final = Path(folder) / "run", Path(folder) / "final.onnx"
            shutil.copytree(self.place / "run", run)
            dsd_ort.train(run, data, device=setting.device, threads=setting.threads)
            weights = []
            for sparse in (True, False):
                assert dsd_ort.export(run, final, sparse=sparse).same
                loaded = ir.load(final).graph.initializers.items()
                weights.append({name: value.const_value.numpy().copy() for name, value in loaded})
        return weights[0], weights[1]


def write_cpu(subject: Subject, threads: int = 1) -> None:
    """Writes ``cpu.npz`` if it is not there: steps, the end of dense, sparse, dense, and how sure that is."""
    path = subject.place / "cpu.npz"
    if path.exists():
        return
    setting = Setting("cpu", threads)
    kept: Arrays = {}
    for phase in ("dense", "sparse"):
        step = subject.step(setting.execution(), sparse=phase == "sparse")
        kept |= {f"{phase}/{name}": array for name, array in step.items()}
    program = open_program(subject.place / "run")
    start, weights = values(program), [piece.name for piece in program.manifest.trained]
    sparse, end = subject.trained(setting)
    pruned = {name: sparse[name] == 0 for name in subject.prunable}
    other_sparse, other_end = subject.trained(setting, backwards=True)
    noise = apart(other_sparse, other_end, pruned, end)[0]
    before = {name: start[name] * (sparse[name] != 0) for name in weights}
    moved = distance({name: sparse[name] for name in weights}, before)  # by training, not by pruning
    assert moved > 2 * END, "a run that trains nothing would pass"
    kept |= {f"end/{name}": array for name, array in end.items()}
    kept |= {f"pruned/{name}": np.packbits(array) for name, array in pruned.items()}
    kept |= {"noise": np.array(noise), "moved": np.array(moved)}
    np.savez(path.with_suffix(".part.npz"), **kept)
    path.with_suffix(".part.npz").replace(path)


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def one_step(phase: str) -> Check:
    def check(subject: Subject, setting: Setting) -> Found:
        value, name = worst(
            subject.step(setting.execution(), sparse=phase == "sparse"), _part(subject.cpu, f"{phase}/")
        )
        return Found(value, STEP, name)

    return check


def dsd(subject: Subject, setting: Setting) -> dict[str, Found]:
    sparse, end = subject.trained(setting)
    noise, moved = float(subject.cpu["noise"]), float(subject.cpu["moved"])
    limit = max(END, NOISES * noise)
    wrong = 0
    pruned = {}
    for name, piece in subject.prunable.items():
        wrong += max(0, round(piece.size * networks.SPARSITY) - int(np.count_nonzero(sparse[name] == 0)))
        bits = np.unpackbits(subject.cpu[f"pruned/{name}"], count=piece.size)
        pruned[name] = bits.astype(bool).reshape(piece.shape)
    value, others = apart(sparse, end, pruned, _part(subject.cpu, "end/"))
    detail = f"{2 * DSD_STEPS} steps moved the weights by {moved:.1e}, the order of examples by {noise:.1e}"
    return {
        "dsd": Found(value, limit, "all weights", detail),
        "masks": Found(others, MASKS, "pruned weights"),
        "zeros": Found(wrong, 0),
        "verify": Found(0, 0),
    }


def curve(precision: Any) -> Check:
    def check(subject: Subject, setting: Setting) -> Found:
        if setting not in subject.curves:
            subject.curves[setting] = subject.losses(setting.execution(), setting.steps)[0]
        expected = subject.curves[setting]
        losses, _, skipped = subject.losses(setting.execution(precision=precision), setting.steps)
        apart = f"{skipped} updates left out, " if skipped else ""
        detail = f"{apart}loss {expected[0]:.3g} → {expected[-1]:.3g}, here {losses[-1]:.3g}"
        return Found(deviation(losses, expected), CURVE, "loss", detail)

    return check


def repeats(subject: Subject, setting: Setting) -> Found:
    first, second = (subject.losses(setting.execution(deterministic=True), FEW)[1] for _ in range(2))
    return Found(differing(first, second), 0)


def graphs(precision: Any) -> Check:
    def check(subject: Subject, setting: Setting) -> Found:
        recorded, launched = (
            subject.losses(setting.execution(deterministic=True, cuda_graphs=on, precision=precision), FEW)[1]
            for on in (True, False)
        )
        return Found(distance(recorded, launched), GRAPHS, "all weights")

    return check


def dropout(subject: Subject, setting: Setting) -> Found:
    execution = setting.execution(deterministic=True)
    one, same, other = (subject.step(execution, run="dropout", seed=seed) for seed in (7, 7, 8))
    if float(one["loss"]) == float(other["loss"]):
        return Found(math.inf, 0, "loss", "another seed drops the same")
    return Found(differing(one, same), 0)


Check = Callable[[Subject, Setting], "Found | dict[str, Found]"]

CHECKS: dict[str, Check] = {
    "dense": one_step("dense"),
    "sparse": one_step("sparse"),
    "dsd": dsd,
    "fp16": curve("fp16"),
    "bf16": curve("bf16"),
    "tf32": curve("tf32"),
    "graphs": graphs("fp32"),
    "graphs-fp16": graphs("fp16"),
    "dropout": dropout,
    "repeats": repeats,
}
"""The most important first."""


def concerns(check: str, name: str) -> bool:
    """Is there something to check?"""
    return check != "dropout" or name in networks.DROPPING
