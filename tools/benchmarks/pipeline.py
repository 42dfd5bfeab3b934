"""Pictures a second: ours, PyTorch's DataLoader and Pillow's decoder alone; and how long LeNet waits for its data.

    .venv-oracle/bin/python -m tools.benchmarks.pipeline --json docs/bench_pipeline.json

Reading: the same JPEG files through the same transforms (shorter side 256, random crop of 224, mirrored by chance,
normalised; the digits of 28 × 28 only normalised) in batches of 64, by one worker and by two, threads here and
processes there.  All sides read the same files in turns.  ``pictures a second`` is by the clock, ``of a processor``
divides by the processor's seconds of all processes and threads, which other work on the machine leaves alone; ``load``
is how many wanted a core.  What is kept decoded for the next epoch is left out, but for the row that says so.

Training: LeNet in batches of 256, from an array and from files, and the share of its time that it waits for a batch.
Needs PyTorch and torchvision; make oracle makes the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx_ir as ir
import PIL
import psutil
import torch
from torch.utils.data import DataLoader

import dsd_ort
from dsd_ort.data import Batches, Field, images, open_data
from dsd_ort.data.cache import Cache
from dsd_ort.recipe import Data, Image
from graphs import NETWORKS
from tests.oracle.torchvision_models import torchvision_models
from tools.measuring.machine import cpu

BATCH, LENET_BATCH = 64, 256
WORKERS = (1, 2)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # of the collating process
    torchvision_models()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, write in SETS.items():
            write(Path(folder) / name)
            rows += reading(name, Path(folder) / name, arguments.rounds)
        rows += training(Path(folder))
    if arguments.json:
        machine = {"cpu": cpu(), "cores": psutil.cpu_count(), "load": round(os.getloadavg()[1], 1)}
        machine |= {"torch": torch.__version__, "pillow": PIL.__version__}
        arguments.json.write_text(json.dumps([row | machine for row in rows], indent=1) + "\n")


def photos(folder: Path) -> None:
    """256 pictures of 500 × 375 and about 90 KB, as a camera's: large things, small ones, and noise."""
    random = np.random.default_rng(0)
    for number in range(256):
        scales = [random.normal(0, sigma, (side, side, 3)) for side, sigma in ((4, 60), (16, 35), (64, 20))]
        size = (500, 375)
        grown = [np.stack([_grown(s[..., c], size) for c in range(3)], -1) for s in scales]
        _save(folder, number, 128 + sum(grown) + random.normal(0, 12, (375, 500, 3)))


def _grown(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(pixels.astype(np.float32)).resize(size, PIL.Image.Resampling.BICUBIC))


def digits(folder: Path) -> None:
    """8192 grey pictures of 28 × 28."""
    random = np.random.default_rng(0)
    for number in range(8192):
        _save(folder, number, 128 + 60 * _grown(random.standard_normal((7, 7)), (28, 28)))


def _save(folder: Path, number: int, pixels: np.ndarray) -> None:
    path = folder / str(number % 10) / f"{number:04}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)


SETS: dict[str, Callable[[Path], None]] = {"photos": photos, "digits": digits}


def reading(name: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*/*.jpg"))
    epochs = iter(range(10**6))
    sides: dict[tuple[str, int], Callable[[], object]] = {}
    ours = {"ours": Cache(0), "ours, kept from the epoch before": Cache()}
    for workers in WORKERS:
        for side, cache in ours.items():
            with mock.patch.object(images, "Cache", lambda cache=cache: cache):
                data = opened(name, folder)
            sides[side, workers] = lambda d=data, w=workers: [  # type: ignore[misc]
                None for _ in Batches(d, BATCH, epoch=next(epochs), augment=True, workers=w)
            ]
        loader = theirs(name, folder, workers)
        sides["DataLoader", workers] = lambda loader=loader: [None for _ in loader]  # type: ignore[misc]
        sides["Pillow's decoder alone", workers] = partial(decoded, files, workers)
    seconds = turns(list(sides.values()), rounds)
    rows = []
    for (side, workers), times in zip(sides, seconds, strict=True):
        wall, work = (statistics.median(column) for column in zip(*times, strict=True))
        speeds = {"pictures a second": len(files) / wall, "of a processor": len(files) / work}
        rows.append({"pictures": name, "side": side, "workers": workers, **speeds, "rounds": rounds})
        show(rows[-1])
    return rows


def opened(name: str, folder: Path) -> Any:
    """With the whole preparation of training."""
    if name == "photos":
        shape, data = ("N", 3, 224, 224), Data(image=Image(resize=256, crop=224, flip=True), mean=MEAN, std=STD)
    else:
        shape, data = ("N", 1, 28, 28), Data(mean=(0.13,), std=(0.31,))
    label = Field("label", "int64", ("N",), label=True, classes=10)
    return open_data(folder, [Field("image", "float32", shape), label], data)


def theirs(name: str, folder: Path, workers: int) -> DataLoader[Any]:
    """Its processes stay from epoch to epoch, as far ahead as by default."""
    from torchvision import datasets
    from torchvision import transforms as t

    if name == "photos":
        steps = [t.Resize(256), t.RandomCrop(224), t.RandomHorizontalFlip(), t.ToTensor(), t.Normalize(MEAN, STD)]
    else:
        steps = [t.Grayscale(), t.ToTensor(), t.Normalize((0.13,), (0.31,))]
    data = datasets.ImageFolder(str(folder), t.Compose(steps))
    return DataLoader(data, BATCH, shuffle=True, num_workers=workers, persistent_workers=True)


def decoded(files: list[Path], workers: int) -> None:
    def decode(part: list[Path]) -> None:
        for path in part:
            with PIL.Image.open(path, formats=("JPEG",)) as image:
                image.load()

    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(decode, [files[i::workers] for i in range(workers)]))


def turns(sides: list[Callable[[], object]], rounds: int) -> list[list[tuple[float, float]]]:
    """Of each side the clock's and the processor's seconds of each round; one before them does not count."""
    found: list[list[tuple[float, float]]] = [[] for _ in sides]
    for turn in range(1 + rounds):
        for side, times in zip(sides, found, strict=True):
            began, worked = time.perf_counter(), work()
            side()
            if turn:
                times.append((time.perf_counter() - began, work() - worked))
    return found


def work() -> float:
    """Seconds of the processor, of this process and of those that it started and that are alive."""
    there = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (there, *there.children()))


def training(folder: Path) -> list[dict[str, Any]]:
    """LeNet's share of waiting and its speed, an epoch a row."""
    ir.save(NETWORKS["lenet"](), folder / "lenet.onnx")
    random = np.random.default_rng(0)
    array = random.integers(0, 256, (60_000, 1, 28, 28), np.uint8)
    np.savez(folder / "array.npz", image=array, label=random.integers(0, 10, len(array)))
    rows = []
    for what, data in {"array": folder / "array.npz", "files": folder / "digits"}.items():
        for epoch, found in enumerate(epochs_of(folder / f"run of {what}", folder / "lenet.onnx", data)):
            rows.append({"training": "lenet", "batch": LENET_BATCH, "data": what, "epoch": epoch + 1, **found})
            show(rows[-1])
    return rows


def epochs_of(run: Path, model: Path, data: Path) -> Iterator[dict[str, float]]:
    recipe = {
        "batch_size": LENET_BATCH,
        "optimizer": {"momentum": 0.9},
        "data": {"mean": [0.13], "std": [0.31], "drop_last": True},
        "phase": [{"kind": "dense", "epochs": 3, "learning_rate": 1e-3}],
    }
    dsd_ort.prepare(model, run, dsd_ort.Recipe.from_dict(recipe))
    last: dict[int, dict[str, float]] = {}

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "tick":
            speed = {"share of time that waits": event["waiting"], "pictures a second": event["examples_per_second"]}
            last[event["epoch"]] = speed

    dsd_ort.train(run, data, listener=listen)
    yield from last.values()


def show(row: dict[str, Any]) -> None:
    print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
