"""What the evidence of wrong labels is measured on: networks that learn a set of pictures by heart, and how.

Every network begins with drawn weights and goes dense → sparse → dense, each phase at a tenth of the rate before; DSD
at each sparsity stands beside its controls, which have the same budget, batches and rates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import onnx_ir as ir

import dsd_ort
from graphs import digits_cnn
from tools.evidence import networks
from tools.evidence.pictures import SETS
from tools.evidence.rows import Row

Write = Callable[[Path, int], None]


class Task(NamedTuple):
    """A network, its data, and the recipe."""

    pictures: str
    """The set, of :data:`tools.evidence.pictures.SETS`."""
    write: Write
    """Writes the network, with weights drawn by a seed."""
    epochs: tuple[int, int, int]
    rate: float
    """Of the first phase."""
    sparsities: tuple[float, ...]
    whole: tuple[str, ...] = ()
    """Selectors of what is not pruned."""
    batch: int = 128

    def left(self, row: Row) -> tuple[float, ...]:
        """The sparsities that *row* has not measured; a training that diverged is measured."""
        tried = {*row["arms"], *row["diverged"]}
        return tuple(each for each in self.sparsities if f"dsd-{each:g}" not in tried)

    def recipe(self, seed: int) -> dsd_ort.Recipe:
        """Dense, sparse, dense."""
        first, sparse, last = self.epochs
        table: dict[str, Any] = {
            "batch_size": self.batch,
            "seed": seed,
            "monitor": "top-1",
            "optimizer": {"weight_decay": 1e-4},
            "data": SETS[self.pictures].data,
            "prune": {"exclude": list(self.whole)},
            "phase": [
                {"kind": "dense", "epochs": first, "learning_rate": self.rate},
                {"kind": "sparse", "sparsity": 0.9, "epochs": sparse, "learning_rate": self.rate / 10},
                {"kind": "dense", "epochs": last, "learning_rate": self.rate / 100},
            ],
        }
        return dsd_ort.Recipe.from_dict(table)


def _of(pictures: str, write: Callable[..., None], **sizes: int) -> Write:
    return partial(write, pixels=SETS[pictures].shape, **sizes)


def _bundled(path: Path, seed: int) -> None:
    """The digits' CNN with batch norm."""
    ir.save(digits_cnn(seed=seed), path)


DENSE, ENDS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99), ("w1", "w4")
CONVOLUTIONAL = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)
RESIDUAL, OUTER = (0.5, 0.8, 0.9, 0.95, 0.98), ("conv1.weight", "fc.weight")
FEWER = (0.3, 0.5, 0.8, 0.9, 0.95)
"""On CIFAR-10, where a seed takes half an hour of one core, and at width 16 an hour and a half."""
PAPERS = (0.3, 0.5, 0.8)
"""The paper's for its CNNs, and two above."""
LONG, SHORTER = (30, 15, 15), (30, 15, 10)


TASKS: dict[str, Task] = {
    "fashion-mlp-128": Task("fashion", _of("fashion", networks.mlp, width=128), LONG, 5e-2, DENSE),
    "fashion-mlp-512": Task("fashion", _of("fashion", networks.mlp, width=512), LONG, 5e-2, DENSE),
    "fashion-mlp-1024": Task("fashion", _of("fashion", networks.mlp, width=1024), LONG, 5e-2, DENSE),
    "fashion-cnn-4": Task("fashion", _of("fashion", networks.cnn, width=4), SHORTER, 5e-2, CONVOLUTIONAL, ENDS),
    "fashion-cnn-16": Task("fashion", _of("fashion", networks.cnn, width=16), SHORTER, 5e-2, CONVOLUTIONAL, ENDS),
    "fashion-residual-8": Task(
        "fashion", _of("fashion", networks.residual, width=8, depth=1), SHORTER, 5e-2, RESIDUAL, OUTER
    ),
    "fashion-residual-16": Task(
        "fashion", _of("fashion", networks.residual, width=16, depth=1), SHORTER, 5e-2, RESIDUAL, OUTER
    ),
    "digits-mlp-256": Task("digits", _of("digits", networks.mlp, width=256), (40, 15, 5), 2e-2, DENSE, batch=16),
    "digits-cnn-24": Task("digits", _bundled, (40, 15, 5), 2e-2, CONVOLUTIONAL, OUTER, batch=16),
    "cifar10-residual-8": Task(
        "cifar10", _of("cifar10", networks.residual, width=8, depth=2), SHORTER, 5e-2, FEWER, OUTER
    ),
    "cifar10-resnet20": Task(
        "cifar10-whole", _of("cifar10", networks.residual, width=16, depth=3), (90, 45, 45), 1e-1, PAPERS, OUTER
    ),
}
"""By set, network and width.  CNNs have two convolutions; ``residual`` is ResNet-8, on CIFAR-10 ResNet-14.

``cifar10-resnet20`` is for a GPU: ResNet-20 on all of CIFAR-10 with shifted and mirrored pictures, as He et al. (2016,
arXiv 1512.03385) train it, with the phases and the sparsity that Han et al. (2017) give their ResNets.
"""
