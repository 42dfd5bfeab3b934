"""Trainings whose bytes do not depend on how many ranks do them: the eight networks small, and every kind of update."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

import dsd_ort
from dsd_ort.run.execution import Precision
from tests.stock import siblings

UPDATE = 4
"""Batches of an update; the last one of an epoch has three."""
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "weight_decay": 1e-3, "nesterov": True},
    "adamw": {"name": "adamw", "weight_decay": 1e-2, "clip_norm": 0.5},
}


class Training(NamedTuple):
    """A network, what its recipe has of its own, and how it is executed."""

    network: str
    optimizer: dict[str, Any]
    loss: dict[str, Any] = {}  # noqa: RUF012 - never written
    precision: Precision = "fp32"
    micro_batch: int | None = None
    drop_suspects: bool = False
    rises: bool = False
    """Whether the sparsity rises, by a criterion that looks at data."""


TRAININGS = {
    f"{network}-{name}": Training(network, optimizer)
    for network in siblings.SIBLINGS
    for name, optimizer in OPTIMIZERS.items()
} | {
    "class-weights": Training(
        "neuraltalk", OPTIMIZERS["sgd"], {"class_weights": np.linspace(0.1, 2, siblings.WORDS).tolist()}
    ),
    "loss-scale": Training("lenet", OPTIMIZERS["adamw"], precision="fp16"),
    "micro-batch": Training("resnet18", OPTIMIZERS["sgd"], micro_batch=2),
    "suspects": Training("lenet", OPTIMIZERS["sgd"], drop_suspects=True),
    "rises": Training("lenet", OPTIMIZERS["sgd"], rises=True),
}


def data(training: Training) -> dict[str, np.ndarray]:
    """11 examples; of those that count labels, each a different number of them, and one none at all."""
    network = training.network
    arrays = siblings.data(network)
    arrays = {name: np.concatenate([array, array[:3]]) for name, array in arrays.items()}
    if network == "neuraltalk":
        arrays["label"][2] = -1
    if training.drop_suspects:  # so that some are believed
        arrays["label"][:8] = 0
    return arrays


def recipe(training: Training) -> dsd_ort.Recipe:
    """Dense, sparse, dense, two updates each."""
    found = siblings.recipe(training.network)
    cut = training.micro_batch is not None
    optimizer = {**training.optimizer, "accumulate": 1 if cut else UPDATE}
    table = found.to_dict() | {"optimizer": optimizer, "batch_size": 8 if cut else 1, "loss": [_loss(found, training)]}
    if training.drop_suspects:
        phases = [dict(phase) for phase in table["phase"]]
        phases[2]["drop_suspects"] = True
        table["phase"] = phases
    if training.rises:
        phases = [dict(phase) for phase in table["phase"]]
        phases[1] |= {"steps": 4, "sparsity": {"initial": 0.2, "final": 0.8, "every": 1}}
        table |= {"phase": phases, "prune": {**table["prune"], "criterion": "wanda"}}
    return dsd_ort.Recipe.from_dict(table)


def _loss(found: dsd_ort.Recipe, training: Training) -> dict[str, Any]:
    loss: dict[str, Any] = msgspec.to_builtins(found.losses[0])
    return {name: value for name, value in loss.items() if value is not None} | training.loss


def prepare(folder: Path) -> None:
    """A run folder of each, beside its model."""
    folder.mkdir()
    for network in siblings.SIBLINGS:
        siblings.write(network, folder / f"{network}.onnx")
    for name, training in TRAININGS.items():
        dsd_ort.prepare(folder / f"{training.network}.onnx", folder / name, recipe(training))


def train(folder: Path, name: str) -> None:
    """One of them, by the ranks that there are."""
    training = TRAININGS[name]
    arrays = data(training)
    dsd_ort.train(
        folder / name,
        arrays,
        eval_data={key: array[:6] for key, array in arrays.items()},
        threads=1,
        precision=training.precision,
        micro_batch=training.micro_batch,
    )
