"""The eight networks: sizes, recipes and data, drawn from seeds, so that nothing large has to travel."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

import dsd_ort
from graphs import NETWORKS

Arrays = dict[str, np.ndarray]


class Size(NamedTuple):
    """Arguments of a network, examples of a batch, and for sequences frames or words."""

    arguments: dict[str, int]
    batch: int
    length: int = 0


PICTURES = {"classes": 16, "width": 16}
SPEECH = {"classes": 16, "bands": 16, "width": 32, "dropout": 0}
SMALL: dict[str, Size] = {
    "lenet": Size({"classes": 16, "width": 2}, 8),
    "resnet18": Size({**PICTURES, "size": 64, "depth": 1}, 8),
    "resnet50": Size({**PICTURES, "size": 64, "depth": 1}, 8),
    "vgg16": Size({"classes": 16, "width": 8, "size": 32, "dropout": 0}, 8),
    "googlenet": Size({**PICTURES, "size": 64, "dropout": 0}, 8),
    "neuraltalk": Size({"vocabulary": 32, "features": 16, "width": 32, "dropout": 0}, 8, 8),
    "deepspeech": Size({**SPEECH, "context": 2}, 8, 24),
    "deepspeech2": Size({**SPEECH, "maps": 8, "depth": 2}, 8, 24),
}
"""What is compared with the CPU: sizes of multiples of 8, as tensor cores take them; nothing is dropped."""

DROPPING = {"vgg16": 50, "googlenet": 40, "neuraltalk": 50, "deepspeech": 10}
"""Percent, of the networks that have dropout."""

RATES: dict[str, tuple[float, float]] = {
    "lenet": (1e-3, 5e-5),
    "resnet18": (3e-5, 1e-4),
    "resnet50": (1.5e-5, 3e-5),
    "vgg16": (1e-4, 2e-4),
    "googlenet": (5e-4, 1e-3),
    "neuraltalk": (1e-2, 1e-1),
    "deepspeech": (2e-3, 1e-4),
    "deepspeech2": (1e-3, 1e-4),
}
"""Learning rates of dense, sparse, dense, and of loss curves, at which two programs stay comparable.

A ReLU whose argument is as good as zero falls to the one or the other side by the order of a sum; and of a loss that
is next to nothing, 1 % is next to nothing too.
"""

FULL: dict[str, Size] = {
    "resnet50": Size({}, 256),
    "vgg16": Size({}, 64),
    "deepspeech2": Size({}, 32, 400),
}
"""What is timed: the paper's networks, 224×224 pixels, frames of 10 ms."""

TINY: dict[str, Size] = {
    "resnet50": Size({"classes": 8, "width": 8, "size": 32, "depth": 1}, 4),
    "vgg16": Size({"classes": 8, "width": 8, "size": 32}, 4),
    "deepspeech2": Size({"classes": 8, "bands": 16, "width": 16, "maps": 4, "depth": 2}, 4, 24),
}
"""The same for trying this tool on any machine."""

SPARSITY = 0.5
SETS = {"small": SMALL, "full": FULL, "tiny": TINY}


def write(kind: str, name: str, path: Path, **arguments: int) -> None:
    """The network's file.  A small one gets norms and biases with values as of one in training."""
    model = NETWORKS[name](**SETS[kind][name].arguments | arguments)
    rng = np.random.default_rng(5)
    for value in model.graph.initializers.values() if kind == "small" else ():
        if len(value.shape) == 1 and not value.name.endswith("running_var"):
            moved = value.const_value.numpy() + rng.uniform(-0.2, 0.2, value.shape.numpy())
            value.const_value = ir.tensor(moved.astype(np.float32))
    path.parent.mkdir(parents=True, exist_ok=True)
    ir.save(model, path)


def recipe(kind: str, name: str, steps: int) -> dsd_ort.Recipe:
    """Dense, sparse, dense with SGD as in the ResNet paper, and the network's own kind of loss."""
    loss: dict[str, Any] = {"output": "logits"}
    if name == "neuraltalk":
        loss |= {"ignore_index": -1, "class_axis": -1}
    if name.startswith("deepspeech"):
        loss |= {"name": "ctc", "lengths": "lengths" if name == "deepspeech" else "frames"}
    common = {"steps": steps, "learning_rate": RATES[name][0]}
    phases: list[dict[str, Any]] = [{"kind": "dense"}, {"kind": "sparse", "sparsity": SPARSITY}, {"kind": "dense"}]
    return dsd_ort.Recipe.from_dict(
        {
            "batch_size": SETS[kind][name].batch,
            "metrics": ["loss"],
            "loss": loss,
            "optimizer": {"momentum": 0.9, "weight_decay": 1e-4},
            "data": {"shuffle": False},
            "phase": [phase | common for phase in phases],
        }
    )


def data(kind: str, name: str, batches: int = 1) -> Arrays:
    """Examples of so many batches.

    Those of small networks can be learned: pictures are of one picture a class; sequences are of unequal length.
    """
    size, rng = SETS[kind][name], np.random.default_rng(2)
    count, length = batches * size.batch, size.length
    if name == "neuraltalk":
        words, features = size.arguments["vocabulary"], size.arguments["features"]
        label = np.where(rng.random((count, length)) < 0.2, -1, rng.integers(0, words, (count, length)))
        feature = rng.standard_normal((count, features), np.float32)
        return {"feature": feature, "words": rng.integers(0, words, (count, length)), "label": label}
    classes = size.arguments.get("classes", 29 if length else 1000)
    if name.startswith("deepspeech"):
        bands, words = size.arguments.get("bands", 161), max(3, length // 10)
        lengths = np.full(count, length)
        label = rng.integers(1, classes, (count, words))
        if kind == "small":
            lengths[1::2], label[1::2, words - 1] = length * 3 // 4, -1
        features = rng.standard_normal((count, length, bands), np.float32)
        return {"features": features, "lengths": lengths, "label": label}
    pixels = size.arguments.get("size", 28 if name == "lenet" else 224)
    shape = (1 if name == "lenet" else 3, pixels, pixels)
    image, label = rng.standard_normal((count, *shape), np.float32), rng.integers(0, classes, count)
    if kind == "small":
        image += np.random.default_rng(1).standard_normal((classes, *shape), np.float32)[label]
    return {"image": image, "label": label}
