"""Wrong labels, the whole way: a network that knows them by heart, DSD, the suspects, a look, and training on without.

Of the 1,287 bundled digits, 30 % get a label drawn anew.  Their true labels stay in a file that nothing is trained on:
it only tells, in the end, how many suspects were truly wrong.
"""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

import dsd_ort
from dsd_ort.cli import main, tables
from dsd_ort.cli.options import FILE, threads_option
from dsd_ort.recipe import Recipe
from examples.training import trained, trained_on
from graphs import digits_mlp

SHARE = 0.3
"""Of the labels that are drawn anew; nine in ten of these are then wrong."""
FAR = {"kind": "dense", "epochs": 40, "learning_rate": 2e-2}
"""How the network was trained that somebody brings."""
ON = {"kind": "dense", "epochs": 15, "learning_rate": 2e-3}
"""How it is trained on without the suspects: at the sparse phase's rate."""

Arrays = dict[str, np.ndarray]


@click.command()
@click.option("-o", "--folder", type=FILE, default=Path("runs/labels"), show_default=True, help="Where files go.")
@click.option("--seed", default=0, show_default=True, help="Of the labels that are drawn, and of the trainings.")
@threads_option
def labels(folder: Path, seed: int, threads: int) -> None:
    """Find the wrong labels of 1,287 digits, leave them out, and train on: FOLDER/better.onnx."""
    recipe = Recipe.load(Path(__file__).with_name("recipe.toml"))
    truth, data, test = split(seed)
    folder.mkdir(parents=True, exist_ok=True)

    click.echo("1. A network that was trained too far on them")
    trained(digits_mlp(seed=seed), folder / "brought", with_phases(recipe, FAR), data, test, threads=threads)

    click.echo("2. Sparse, so that it forgets what it only knows by heart, then dense")
    trained_on(folder / "brought.onnx", folder / "dsd", recipe, data, test, threads=threads)

    click.echo("3. What the sparse network does not believe")
    listed, sheet = folder / "suspects.csv", folder / "suspects.png"
    found = dsd_ort.suspects(folder / "dsd", data, output=listed, sheet=sheet, threads=threads).found
    click.echo(f"   {len(found)} labels: {listed}; pictures of the first hundred: {sheet}")
    click.echo("   Look at them now, and take out of the list what is right; here nobody looks.")

    click.echo("4. Training on without them")
    without = msgspec.structs.replace(recipe.data, without=str(listed))
    on = msgspec.structs.replace(with_phases(recipe, ON), data=without)
    trained_on(folder / "dsd.onnx", folder / "better", on, data, test, threads=threads)
    _show(folder, recipe, test, threads)
    with listed.open() as file:
        wrong = [data["label"][i] != truth[i] for i in (int(row["index"]) for row in csv.DictReader(file))]
    of = np.count_nonzero(data["label"] != truth)
    click.echo(f"{sum(wrong)} of {len(wrong)} suspects are truly wrong, of {of} wrong labels in all")


def split(seed: int) -> tuple[np.ndarray, Arrays, Arrays]:
    """The true labels to train on, what is trained on, and what measures."""
    train, test = (dict(np.load(str(files("dsd_ort.demo") / f"digits-{name}.npz"))) for name in ("train", "test"))
    rng, truth = np.random.default_rng(seed), train["label"]
    drawn = np.where(rng.random(len(truth)) < SHARE, rng.integers(0, 10, len(truth)), truth).astype(truth.dtype)
    return truth, train | {"label": drawn}, test


def with_phases(recipe: Recipe, *phases: dict[str, Any]) -> Recipe:
    """*recipe* with other phases."""
    return Recipe.from_dict(recipe.to_dict() | {"phase": list(phases)})


def _show(folder: Path, recipe: Recipe, test: Arrays, threads: int) -> None:
    names = {"brought": "as somebody brought it", "dsd": "after DSD", "better": "trained on without the suspects"}
    rows = []
    for name, title in names.items():
        measured = dsd_ort.evaluate(folder / f"{name}.onnx", test, recipe, threads=threads)
        rows.append([title, f"{100 * (1 - measured['top-1']):.1f} %", str(folder / f"{name}.onnx")])
    tables.show("Held-out digits", {"the network": "left", "wrong": "right", "file": "left"}, rows)


if __name__ == "__main__":
    main(labels, "python -m examples.labels")
