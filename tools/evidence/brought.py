"""Models that somebody brings, trained already, each with its data: what the evidence of recipes is measured on.

::

    diamonds        an MLP for the logarithms of prices, mse          pip install --no-deps plotnine (for its data)
    digits          an MLP for the bundled digits; also with 30 % wrong labels, learned by heart
    digits-cnn      the bundled network with batch norm; also with 30 % wrong labels
    fashion-wrong   an MLP for 10,000 images with 30 % wrong labels   apt-get install dataset-fashion-mnist
    images, captions, speech    what the examples train first of all; their READMEs say what to install
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

import dsd_ort
from examples.captions import __main__ as captions
from examples.captions import emoji
from examples.images import __main__ as images
from examples.speech import __main__ as speech
from examples.speech import stamps
from graphs import deepspeech, lenet, neuraltalk
from tools.evidence.suspects import dense, digits, with_wrong_labels, write_mlp

Arrays = dict[str, np.ndarray]


class Brought(NamedTuple):
    """A model as it came, and what there is to train it on."""

    model: Path
    recipe: dsd_ort.Recipe
    """The default one, with the loss and the data's keys that this model needs."""
    train: Any
    test: Any
    metric: str
    """What people look at: an error or a loss, or top-1."""


def _brought(model: Path, train: Any, test: Any, metric: str, keys: dict[str, Any] | None = None) -> Brought:
    recipe = dsd_ort.default_recipe(None if keys else model).to_dict() | (keys or {})
    return Brought(model, dsd_ort.Recipe.from_dict(recipe), train, test, metric)


def _trained(folder: Path, recipe: dict[str, Any], train: Any, test: Any = None, threads: int = 1) -> Path:
    """``brought.onnx``, from ``drawn.onnx``; what an earlier call made is taken."""
    final = folder / "brought.onnx"
    if not final.exists():
        dsd_ort.prepare(folder / "drawn.onnx", folder / "run", dsd_ort.Recipe.from_dict(recipe))
        dsd_ort.train(folder / "run", train, eval_data=test, threads=threads)
        dsd_ort.export(folder / "run", final)
    return final


def diamonds(folder: Path, seed: int) -> Brought:
    """``x f32[N, 26]``, standardised numbers and indicators of grades, → log price; a fifth is held out.

    Impossible sizes, 0 mm or more than 20, are left out.
    """
    found = importlib.util.find_spec("plotnine")
    if found is None or found.origin is None:
        raise SystemExit("the diamonds are not there: pip install --no-deps plotnine")
    with (Path(found.origin).parent / "data" / "diamonds.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if all(0 < float(row[side]) < 20 for side in "xyz")]
    numbers = np.array([[float(row[name]) for name in ("carat", "depth", "table", "x", "y", "z")] for row in rows])
    columns = [(numbers - numbers.mean(0)) / numbers.std(0)]
    for name in ("cut", "color", "clarity"):
        grades = sorted({row[name] for row in rows})
        columns.append(np.array([[row[name] == grade for grade in grades] for row in rows], np.float64))
    x = np.concatenate(columns, 1).astype(np.float32)
    label = np.log([[float(row["price"])] for row in rows]).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = ({"x": x[part], "label": label[part]} for part in np.split(order, [len(x) // 5]))
    write_mlp(folder / "drawn.onnx", seed, (x.shape[1], 128, 64, 1), (x.shape[1],), "x")
    adam = {"name": "adam"}
    recipe = {
        "batch_size": 64,
        "optimizer": adam,
        "loss": {"name": "mse"},
        "phase": [dense(40, {"schedule": "cosine", "initial": 1e-3})],
    }
    model = _trained(folder, recipe, train)
    return _brought(model, train, test, "loss", {"loss": {"name": "mse"}})


def _digits(folder: Path, seed: int, share: float, recipe: dict[str, Any]) -> Brought:
    """Pixels are 0…1 in float32, so that the default recipe has nothing to scale."""
    data, _ = with_wrong_labels(seed, share)
    train, test = ({**side, "image": side["image"].astype(np.float32) / 16} for side in (data, digits("test")))
    return _brought(_trained(folder, recipe, train), train, test, "top-1")


def digits_mlp(folder: Path, seed: int, share: float = 0.0) -> Brought:
    write_mlp(folder / "drawn.onnx", seed)
    optimizer = {"weight_decay": 1e-4}
    return _digits(folder, seed, share, {"batch_size": 16, "optimizer": optimizer, "phase": [dense(40, 2e-2)]})


def digits_cnn(folder: Path, seed: int, share: float = 0.0) -> Brought:
    """By the demo's first phase."""
    bundled = files("dsd_ort.demo")
    (folder / "drawn.onnx").write_bytes((bundled / "digits_cnn.onnx").read_bytes())
    recipe = dsd_ort.Recipe.load(str(bundled / "digits.toml")).to_dict()
    return _digits(folder, seed, share, recipe | {"phase": recipe["phase"][:1], "seed": seed, "data": {}})


def fashion_wrong(folder: Path, seed: int) -> Brought:
    train, test = images.splits(images.DATA, held_out=False)
    rng = np.random.default_rng(seed)
    part = rng.permutation(len(train["label"]))[:10_000]
    label = train["label"][part].astype(np.int64)
    label = np.where(rng.random(len(label)) < 0.3, rng.integers(0, 10, len(label)), label)
    write_mlp(folder / "drawn.onnx", seed, (784, 512, 512, 10), (1, 28, 28))
    recipe = {"batch_size": 128, "optimizer": {"weight_decay": 1e-4}, "phase": [dense(30, 5e-2)]}
    pictures = {"image": train["image"][part, None], "label": label}
    model = _trained(folder, recipe, pictures)
    return _brought(model, pictures, {"image": test["image"][:, None], "label": test["label"]}, "top-1")


def lenet_images(folder: Path, seed: int) -> Brought:
    """By the first phase of the example's recipe, as are the next two."""
    ir.save(lenet(width=images.WIDTH), folder / "drawn.onnx")
    return _example(folder, seed, Path(images.__file__), images.splits(images.DATA, held_out=False), "top-1")


def captioner(folder: Path, seed: int) -> Brought:
    split = emoji.split(emoji.read(captions.DATA))
    network = neuraltalk(vocabulary=len(split.vocabulary), picture=emoji.SIZE, maps=32, width=128, every_step=1)
    ir.save(network, folder / "drawn.onnx")
    return _example(folder, seed, Path(captions.__file__), (split.train, split.test), "perplexity")


def spanish(folder: Path, seed: int) -> Brought:
    sides = stamps.split(stamps.read(speech.DATA))
    train, test = (str(stamps.write(side, folder / f"{i}.jsonl")) for i, side in enumerate(sides))
    network = deepspeech(
        classes=len(stamps.ALPHABET), bands=40, width=speech.WIDTH, context=speech.CONTEXT, dropout=speech.DROPOUT
    )
    ir.save(network, folder / "drawn.onnx")
    return _example(folder, seed, Path(speech.__file__), (train, test), "cer")


def _example(folder: Path, seed: int, main: Path, sides: tuple[Any, Any], metric: str) -> Brought:
    begin, recipe = main.with_name("begin.toml"), dsd_ort.Recipe.load(main.with_name("recipe.toml")).to_dict()
    first = dsd_ort.Recipe.load(begin).to_dict() if begin.exists() else recipe
    model = _trained(folder, first | {"phase": first["phase"][:1], "seed": seed}, sides[0])
    keys = {key: recipe[key] for key in ("loss", "data", "metrics", "batch_size", "freeze")}
    return _brought(model, *sides, metric, keys)


TASKS: dict[str, Callable[[Path, int], Brought]] = {
    "diamonds": diamonds,
    "digits": digits_mlp,
    "digits-wrong": partial(digits_mlp, share=0.3),
    "digits-cnn": digits_cnn,
    "digits-cnn-wrong": partial(digits_cnn, share=0.3),
    "fashion-wrong": fashion_wrong,
    "images": lenet_images,
    "captions": captioner,
    "speech": spanish,
}
