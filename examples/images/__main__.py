"""LeNet on Fashion-MNIST: dense → sparse → dense, and the same budget dense only beside it."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import onnx_ir as ir

import dsd_ort
from dsd_ort.cli import comparing, main
from dsd_ort.cli.options import FILE, threads_option
from dsd_ort.data import idx
from dsd_ort.errors import DataError
from dsd_ort.recipe import Recipe
from graphs import lenet

DATA = Path("/usr/share/datasets/fashion-mnist")
WIDTH = 3
HELD_OUT = 10_000
"""Of the training images, the last: on these the recipe was chosen."""

Arrays = dict[str, np.ndarray]


@click.command()
@click.option("-o", "--folder", type=FILE, default=Path("runs/images"), show_default=True, help="Where files go.")
@click.option("--data", type=FILE, default=DATA, show_default=True, help="Where the four IDX files are.")
@click.option("--held-out", is_flag=True, help=f"Measure on the last {HELD_OUT:,} training images, and train without.")
@threads_option
def images(folder: Path, data: Path, held_out: bool, threads: int) -> None:
    """Train LeNet on Fashion-MNIST and export it to FOLDER/final.onnx."""
    train, test = splits(data, held_out=held_out)
    folder = folder / "held-out" if held_out else folder  # what was found on other images stays apart
    model = folder / "lenet.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    ir.save(lenet(width=WIDTH), model)
    recipe = Recipe.load(Path(__file__).with_name("recipe.toml"))
    comparison = comparing.run(dsd_ort.compare, model, folder, recipe, train, test, threads=threads)
    measured_on = "the training images that were held out" if held_out else "the test images"
    comparing.show(comparison, f"LeNet after each phase, on {measured_on}")


def splits(data: Path, *, held_out: bool) -> tuple[Arrays, Arrays]:
    """``image u8[N, 28, 28]`` and ``label u8[N]``, to train on and to measure on.

    Raises:
        DataError: the files are not there.
    """
    if not data.is_dir():
        raise DataError("Fashion-MNIST is not there", where=str(data), fix="apt-get install dataset-fashion-mnist")
    train, test = (
        {name: idx.read(files[f"{name}s"]) for name in ("image", "label")}
        for files in (idx.pair(data / "train"), idx.pair(data / "t10k"))
    )
    if not held_out:
        return train, test
    return {k: v[:-HELD_OUT] for k, v in train.items()}, {k: v[-HELD_OUT:] for k, v in train.items()}


if __name__ == "__main__":
    main(images, "python -m examples.images")
