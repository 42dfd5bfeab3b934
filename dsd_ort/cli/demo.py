"""``dsd-ort demo``: the whole job on bundled data, and the same budget spent dense only beside it."""

from __future__ import annotations

import itertools
import shlex
import shutil
import time
from importlib.resources import as_file, files
from pathlib import Path

import click

from dsd_ort.cli import comparing
from dsd_ort.cli.options import FILE, threads_option
from dsd_ort.errors import RunError
from dsd_ort.recipe import Recipe

BUNDLED = {
    "digits_cnn.onnx": "model.onnx",
    "digits.toml": "recipe.toml",
    "digits-train.npz": "train.npz",
    "digits-test.npz": "test.npz",
    "LICENSE-digits.txt": "LICENSE-digits.txt",
}
"""Bundled file → its name in the demo's folder."""


@click.command()
@click.option("-o", "--folder", type=FILE, help="Where the files go.  [default: dsd-ort-demo, or the next free name]")
@threads_option
def demo(folder: Path | None, threads: int) -> None:
    """Train a small network on bundled handwritten digits, dense → sparse → dense, in a minute or two.

    \b
    Example:
        dsd-ort demo -o digits
    """
    began = time.monotonic()
    folder = folder or _free(Path("dsd-ort-demo"))
    if folder.exists() and any(folder.iterdir()):
        raise RunError(
            "the demo's folder is not empty", where=str(folder), fix="remove it, or choose another with --folder"
        )
    _unpack(folder)
    model, recipe, train, test = (folder / name for name in ("model.onnx", "recipe.toml", "train.npz", "test.npz"))
    go_on = ["dsd-ort", "compare", model, "--recipe", recipe, "--data", train, "--eval-data", test, "-o", folder]
    click.echo(f"The demo trains {model} on 8×8 handwritten digits, dense → sparse → dense.\n")
    comparison = comparing.run(
        model,
        folder,
        Recipe.load(recipe),
        str(train),
        str(test),
        threads=threads,
        go_on=shlex.join(map(str, go_on)),
    )
    comparing.show(comparison, "Accuracy on the held-out digits after each phase")
    _say_next(folder, time.monotonic() - began)


def _free(folder: Path) -> Path:
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    return next(name for name in itertools.chain([folder], numbered) if not name.exists())


def _unpack(folder: Path) -> None:
    bundled = files("dsd_ort.demo")
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in BUNDLED.items():
        with as_file(bundled / name) as path:
            shutil.copyfile(path, folder / target)


def _say_next(folder: Path, seconds: float) -> None:
    click.echo(
        f"""
{seconds:.0f} seconds.  Files in {folder}:
  model.onnx            the network as it was
  final.onnx            the same graph with trained weights
  train.npz, test.npz   the data: arrays "image" and "label"
  recipe.toml           what was trained, and how
  dsd/                  training graphs, journal.jsonl, checkpoint, weights after each phase
  dense-only/           the same budget without pruning
  report.json           the table

Now with your own model:
  dsd-ort inspect yours.onnx
  dsd-ort compare yours.onnx --data yours.npz --eval-data held-out.npz -o comparison"""
    )
