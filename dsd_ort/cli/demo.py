"""``dsd-ort demo``: the whole job on bundled data, and the same budget spent dense only beside it."""

from __future__ import annotations

import itertools
import shutil
import time
from importlib.resources import as_file, files
from pathlib import Path

import click

from dsd_ort import api
from dsd_ort.cli import tables
from dsd_ort.cli.progress import format_metrics, reporter
from dsd_ort.errors import RunError
from dsd_ort.recipe import Recipe
from dsd_ort.run.journal import Event

BUNDLED = {
    "digits_cnn.onnx": "model.onnx",
    "digits.toml": "recipe.toml",
    "digits-train.npz": "train.npz",
    "digits-test.npz": "test.npz",
    "LICENSE-digits.txt": "LICENSE-digits.txt",
}
"""Bundled file → its name in the demo's folder."""


def run(folder: Path | None, threads: int) -> None:
    """Fills *folder* with model, data, two runs and the final model, and prints what came out.

    Args:
        folder: by default ``dsd-ort-demo``, with a number behind it where that exists.
        threads: of ONNX Runtime; 0 means one a core.

    Raises:
        RunError: *folder* exists and is not empty.
    """
    began = time.monotonic()
    folder = folder or _free(Path("dsd-ort-demo"))
    if folder.exists() and any(folder.iterdir()):
        raise RunError(
            "the demo's folder is not empty", where=str(folder), fix="remove it, or choose another with --folder"
        )
    _unpack(folder)
    recipe = Recipe.load(folder / "recipe.toml")
    click.echo(f"The demo trains {folder / 'model.onnx'} on 8×8 handwritten digits, dense → sparse → dense.\n")
    results = {
        "DSD": _train(folder, "run", recipe, threads),
        "dense only": _train(folder, "run-dense-only", recipe.dense_only(), threads),
    }
    verdict = api.export(folder / "run", folder / "final.onnx")
    held_out = api.evaluate(folder / "final.onnx", str(folder / "test.npz"), recipe, threads=threads)

    rows = [[name, *row] for name, events in results.items() for row in tables.phase_rows(events)]
    click.echo("")
    tables.show("Accuracy on the held-out digits after each phase", {"training": "left", **tables.PHASE_COLUMNS}, rows)
    tables.show_verdict(verdict, folder / "final.onnx")
    click.echo(f"final.onnx in plain inference: {format_metrics(held_out)}")
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


def _train(folder: Path, name: str, recipe: Recipe, threads: int) -> list[Event]:
    click.echo(f"{'dsd-ort prepare and train':>26}: {folder / name}", err=True)
    api.prepare(folder / "model.onnx", folder / name, recipe)
    with reporter() as listener:
        return api.train(
            folder / name,
            str(folder / "train.npz"),
            eval_data=str(folder / "test.npz"),
            threads=threads,
            listener=listener,
        )


def _say_next(folder: Path, seconds: float) -> None:
    click.echo(
        f"""
{seconds:.0f} seconds.  Files in {folder}:
  model.onnx            the network as it was
  final.onnx            the same graph with trained weights
  train.npz, test.npz   the data: arrays "image" and "label"
  recipe.toml           what was trained, and how
  run/                  training graphs, journal.jsonl, checkpoint, weights after each phase
  run-dense-only/       the same budget without pruning, to compare with

Now with your own model:
  dsd-ort inspect yours.onnx
  dsd-ort prepare yours.onnx -o run
  dsd-ort train run --data yours.npz
  dsd-ort export run -o better.onnx"""
    )
