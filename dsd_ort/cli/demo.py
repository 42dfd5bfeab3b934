"""``dsd-ort demo``: the same experiment on digits with wrong labels, where DSD gains, and on clean ones, where not."""

from __future__ import annotations

import itertools
import shlex
import shutil
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import click
import numpy as np

from dsd_ort import api
from dsd_ort.cli import comparing
from dsd_ort.cli.options import FILE, threads_option
from dsd_ort.errors import InstallationError, RunError
from dsd_ort.recipe import Recipe

BUNDLED = {
    "digits_mlp.onnx": "model.onnx",
    "digits.toml": "recipe.toml",
    "digits-train.npz": "clean.npz",
    "digits-test.npz": "test.npz",
    "LICENSE-digits.txt": "LICENSE-digits.txt",
}
"""Bundled file → its name in the demo's folder."""
SHARE = 0.3
"""Of the labels that are drawn anew, each of the ten digits as likely: nine in ten of these are then wrong."""
ARMS = ("dense-only", "early-stopping", "dsd", "drop-suspects")
SEEDS, SELECT = 5, 0.2


@click.command()
@click.option("-o", "--folder", type=FILE, help="Where the files go.  [default: dsd-ort-demo, or the next free name]")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Trainings at a time.")
@threads_option
def demo(folder: Path | None, jobs: int, threads: int) -> None:
    """Train a small network on bundled digits, with wrong labels and with right ones.

    It takes about a minute.  With wrong labels, DSD stands beside dense only and stopping early, over five seeds, and
    the labels that its sparse network does not believe are counted.

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
    wrong = _draw_labels(folder)
    click.echo(
        f"1. Wrong labels. Of the {len(wrong):,} handwritten digits to train on, {100 * SHARE:.0f} % got a label drawn "
        f"anew, and {wrong.sum()} labels are wrong now;\n   those of the test digits are right. "
        f"{SEEDS} seeds of dense -> sparse -> dense, and of the same budget in other ways."
    )
    found = _experiment(folder, "wrong", jobs, threads)
    comparing.show_experiment(found, "Held-out digits, after training on wrong labels")
    _count_suspects(folder, wrong, threads)
    click.echo("\n2. The same with right labels.")
    comparing.show_experiment(_experiment(folder, "clean", jobs, threads), "Held-out digits, right labels")
    _report(folder)
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


def _draw_labels(folder: Path) -> Any:
    """Writes ``wrong.npz``; which of its labels are wrong, bool[N]."""
    with np.load(folder / "clean.npz") as clean:
        image, label = clean["image"], clean["label"]
    rng = np.random.default_rng(0)
    drawn = np.where(rng.random(len(label)) < SHARE, rng.integers(0, 10, len(label)), label).astype(label.dtype)
    np.savez(folder / "wrong.npz", image=image, label=drawn)
    return drawn != label


def _experiment(folder: Path, data: str, jobs: int, threads: int) -> api.Experiment:
    """What ``dsd-ort compare`` does, with the arms of the demo."""
    model, recipe, train, test = (folder / name for name in ("model.onnx", "recipe.toml", f"{data}.npz", "test.npz"))
    options: dict[str, Any] = {"seeds": SEEDS, "select": SELECT, "jobs": jobs, "threads": threads}
    arguments = ["dsd-ort", "compare", model, "--recipe", recipe, "--data", train, "--eval-data", test]
    arguments += ["-o", folder / data, "--arms", ",".join(ARMS)]
    arguments += [part for name, value in options.items() if value for part in (f"--{name}", value)]
    command = shlex.join(map(str, arguments))
    click.echo(f"   {command}\n")
    return comparing.run(
        api.experiment,
        model,
        folder / data,
        Recipe.load(recipe),
        str(train),
        str(test),
        go_on=command,
        kinds=ARMS,
        **options,
    )


def _count_suspects(folder: Path, wrong: Any, threads: int) -> None:
    """The suspects of the first seed; as it is known here which labels are wrong, how many of them truly are."""
    run, output = folder / "wrong" / "runs" / "seed-0" / "dsd", folder / "suspects.csv"
    found = api.suspects(run, str(folder / "wrong.npz"), output=output, threads=threads).found
    right = sum(bool(wrong[suspect.index]) for suspect in found)
    click.echo(f"\n   dsd-ort suspects {run} --data {folder / 'wrong.npz'} -o {output}")
    click.echo(
        f"   {len(found)} labels are not believed by the sparse network of seed 0: {right} of these are truly wrong "
        f"({100 * right / max(1, len(found)):.0f} %), which is {100 * right / wrong.sum():.0f} % of the wrong ones."
    )


def _report(folder: Path) -> None:
    """The pages of what gained, or how to get them."""
    try:
        pages = [api.report(folder / "wrong"), api.report(folder / "wrong" / "runs" / "seed-0" / "dsd")]
    except InstallationError as error:
        click.echo(f"\nno pictures: {error.fix} brings what draws them, and then dsd-ort report {folder / 'wrong'}")
        return
    click.echo("\n3. Pictures, to be opened in a browser: of the experiment, and of one training, layer by layer.")
    for page in pages:
        click.echo(f"   {page}")


def _say_next(folder: Path, seconds: float) -> None:
    click.echo(
        f"""
{seconds:.0f} seconds.  Files in {folder}:
  model.onnx              the network as it was, not trained
  recipe.toml             what was trained, and how
  wrong.npz, clean.npz    the data: arrays "image" and "label";  test.npz, what measured
  suspects.csv            the labels that are probably wrong
  wrong/, clean/          the experiments: final.onnx, experiment.json and .csv, and a folder each run

Now with your own model:
  dsd-ort inspect yours.onnx
  dsd-ort compare yours.onnx --data yours.npz --eval-data held-out.npz -o experiment --sparsity auto --seeds 3"""
    )
