"""Layers one by one, beside PyTorch eager: which of them wait for a kernel that goes number by number?

    .venv-oracle/bin/python -m tools.benchmarks.layers --json docs/bench_layers.json
    .venv-oracle/bin/python -m tools.benchmarks.layers leaky_relu gelu --threads 2 --clock wall

Each stands between an addition of as many parameters as it has inputs and the mean of squares; forward and backward
pass are measured, an update is not.  The two sides take turns in one process, and medians count.  Pictures are f32[8,
64, 56, 56], volumes f32[2, 16, 16, 28, 28], sequences f32[8, 128, 256], rows f32[256, 512].
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import dsd_ort
from dsd_ort.graph.program import open_program
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from tools.benchmarks.turns import CLOCKS, ratio, take_turns
from tools.measuring.children import Died, each
from tools.measuring.machine import cpu

Tensor = torch.Tensor
Item = tuple[str, int, str, int]
"""A layer's name, threads, clock and rounds."""
PATIENCE = 300
"""Seconds of one layer, at most."""
REST = {"wall": 0.05, "processor": 0.0}
"""Seconds in front of a turn, in which the threads of the other side stop looking for work."""
PICTURES, VOLUMES, SEQUENCES, ROWS = (8, 64, 56, 56), (2, 16, 16, 28, 28), (8, 128, 256), (256, 512)


class By(nn.Module):
    """A layer that is a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class First(nn.Sequential):
    """The first of what the last layer gives."""

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = super().forward(x)[0]
        return found


class Attention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        found, _ = super().forward(x, x, x, need_weights=False)
        return found


class Behind(nn.Module):
    """The layer behind an addition, so that a gradient has to pass it."""

    def __init__(self, shape: tuple[int, ...], layer: nn.Module) -> None:
        super().__init__()
        self.added, self.layer = nn.Parameter(torch.randn(shape) / 10), layer

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x + self.added)
        return found


def _by(function: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    return partial(By, function)


LAYERS: dict[tuple[int, ...], dict[str, Callable[[], nn.Module]]] = {
    PICTURES: {
        "nothing": nn.Identity,
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "leaky_relu": lambda: nn.LeakyReLU(0.1),
        "prelu": lambda: nn.PReLU(64),
        "elu": nn.ELU,
        "selu": nn.SELU,
        "gelu": nn.GELU,
        "gelu_by_tanh": lambda: nn.GELU("tanh"),
        "silu": nn.SiLU,
        "mish": nn.Mish,
        "hardswish": nn.Hardswish,
        "hardsigmoid": nn.Hardsigmoid,
        "softplus": nn.Softplus,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "where": _by(lambda x: torch.where(x > 0, x, x * 0.3)),
        "square": _by(lambda x: x**2),
        "batch_norm": lambda: nn.BatchNorm2d(64),
        "group_norm": lambda: nn.GroupNorm(8, 64),
        "instance_norm": lambda: nn.InstanceNorm2d(64, affine=True),
        "local_response": lambda: nn.LocalResponseNorm(5),
        "max_pool_2": lambda: nn.MaxPool2d(2),
        "max_pool_3_by_2": lambda: nn.MaxPool2d(3, 2, 1),
        "average_pool_2": lambda: nn.AvgPool2d(2),
        "global_average": lambda: nn.AdaptiveAvgPool2d(1),
        "conv_3": lambda: nn.Conv2d(64, 64, 3, padding=1),
        "conv_3_by_2": lambda: nn.Conv2d(64, 128, 3, 2, 1),
        "conv_1": lambda: nn.Conv2d(64, 256, 1),
        "conv_5": lambda: nn.Conv2d(64, 32, 5, padding=2),
        "conv_3_depthwise": lambda: nn.Conv2d(64, 64, 3, padding=1, groups=64),
        "conv_3_in_8_groups": lambda: nn.Conv2d(64, 64, 3, padding=1, groups=8),
        "conv_3_dilated": lambda: nn.Conv2d(64, 64, 3, padding=2, dilation=2),
        "transposed_4_by_2": lambda: nn.ConvTranspose2d(64, 32, 4, 2, 1),
        "twice_as_large": lambda: nn.Upsample(scale_factor=2),
        "twice_bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
        "pixel_shuffle": lambda: nn.PixelShuffle(2),
        "pad_reflect": lambda: nn.ReflectionPad2d(1),
        "pad_edge": lambda: nn.ReplicationPad2d(1),
        "softmax_of_channels": lambda: nn.Softmax(1),
        "log_softmax_of_channels": lambda: nn.LogSoftmax(1),
        "parts_in_reverse": _by(lambda x: torch.cat(x.chunk(4, 1)[::-1], 1)),
        "mirrored": _by(lambda x: x.flip(3)),
        "rolled": _by(lambda x: torch.roll(x, (3, 3), (2, 3))),
        "channels_last": _by(lambda x: x.permute(0, 2, 3, 1)),
        "unit_length": _by(lambda x: functional.normalize(x, dim=1)),
        "cumulative_sum": _by(lambda x: x.cumsum(2)),
    },
    VOLUMES: {
        "conv3d_3": lambda: nn.Conv3d(16, 16, 3, padding=1),
        "max_pool3d_2": lambda: nn.MaxPool3d(2),
        "instance_norm3d": lambda: nn.InstanceNorm3d(16, affine=True),
    },
    SEQUENCES: {
        "layer_norm": lambda: nn.LayerNorm(256),
        "softmax": lambda: nn.Softmax(-1),
        "log_softmax": lambda: nn.LogSoftmax(-1),
        "linear": lambda: nn.Linear(256, 256),
        "attention": lambda: Attention(256, 4, batch_first=True),
        "encoder_layer": lambda: nn.TransformerEncoderLayer(256, 4, 1024, dropout=0, batch_first=True),
        "lstm": lambda: First(nn.LSTM(256, 256, batch_first=True)),
        "gru": lambda: First(nn.GRU(256, 256, batch_first=True)),
        "conv1d_9": lambda: nn.Conv1d(128, 128, 9, padding=4),
    },
    ROWS: {"linear_of_rows": lambda: nn.Linear(512, 512), "batch_norm_of_rows": lambda: nn.BatchNorm1d(512)},
}
SHAPES = {name: shape for shape, layers in LAYERS.items() for name in layers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layers", nargs="*", metavar="LAYER", help=f"by default all: {', '.join(SHAPES)}")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="processor", help="processor, with one thread: a busy machine"
    )
    parser.add_argument("--json", type=Path, help="add the rows to this file, in the place of those of the same layer")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.layers if name not in SHAPES]:
        parser.error(f"no such layer: {', '.join(unknown)}")
    chosen = arguments.layers or list(SHAPES)
    items: list[Item] = [(name, arguments.threads, arguments.clock, arguments.rounds) for name in chosen]
    for name, row in zip(chosen, each(measure, items, seconds=PATIENCE), strict=True):
        if isinstance(row, Died):
            print(f"{name}: the process ended: {row.how}", flush=True)
            continue
        print(f"{name:25} {row['ours']:8.2f} ms, PyTorch {row['eager']:8.2f} ms: {row['ratio']:.2f}", flush=True)
        if arguments.json:
            _keep(arguments.json, row)


def _keep(path: Path, row: dict[str, Any]) -> None:
    there = json.loads(path.read_text()) if path.exists() else []
    rows = {tuple(each[key] for key in ("layer", "threads", "clock", "cpu")): each for each in [*there, row]}
    path.write_text("[\n" + ",\n".join(json.dumps(each) for each in rows.values()) + "\n]\n")


def measure(item: Item) -> dict[str, Any]:
    """Milliseconds of both sides, and the median ratio of turns that follow each other."""
    name, threads, clock, rounds = item
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    shape = SHAPES[name]
    network, x = Behind(shape, LAYERS[shape][name]()).train(), torch.randn(shape)
    target = torch.randn(network(x).shape)
    with tempfile.TemporaryDirectory() as folder:
        step = Step(network, x, target, Path(folder), threads)
        step()  # opens sessions

    def eager() -> None:
        network.zero_grad()
        functional.mse_loss(network(x), target).backward()

    mine, theirs = take_turns([step, eager], rounds, CLOCKS[clock], rest=REST[clock])
    return {
        "layer": name,
        "shape": list(shape),
        "ratio": round(ratio(mine, theirs), 3),
        **{side: round(1e3 * statistics.median(of), 3) for side, of in (("ours", mine), ("eager", theirs))},
        "threads": threads,
        "clock": clock,
        "rounds": rounds,
        "torch": torch.__version__,
        "cpu": cpu(),
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


class Step:
    """Forward and backward pass of *network* with the mean square of what it makes of *x* less *target*, by dsd-ort."""

    def __init__(self, network: nn.Module, x: Tensor, target: Tensor, folder: Path, threads: int = 1) -> None:
        model, run = folder / "model.onnx", folder / "run"
        logging.disable(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network.eval(), (x,), model, input_names=["x"], output_names=["y"], external_data=False, verbose=False
            )
        network.train()
        phase = {"kind": "dense", "steps": 1, "learning_rate": 1e-4}
        recipe = dsd_ort.Recipe.from_dict({"batch_size": len(x), "loss": {"name": "mse"}, "phase": [phase]})
        dsd_ort.prepare(model, run, recipe)
        program = open_program(run)
        self.arena = Arena.of(program)
        self.arena.fill_from(program.source())
        self.engine = Engine(program, self.arena, Execution(threads=threads))
        (read,), (label,) = program.manifest.inputs, program.manifest.labels
        self.feeds: dict[str, np.ndarray] = {read.name: x.numpy(), label.name: target.numpy()}

    def __call__(self) -> float:
        return self.engine.step(self.feeds, sparse=False, seed=0)

    def gradient(self, name: str) -> np.ndarray:
        """Of the last step, with respect to the parameter *name*."""
        (piece,) = (piece for piece in self.arena.trained if piece.name == name)
        return view(self.arena.gradients, piece)


if __name__ == "__main__":
    main()
