"""A captioner for emoji: pictures in, their names out, word by word.

First a whole captioner, picture part and LSTM, is trained dense: the model that one would bring.  Then its picture part
is frozen, as in the DSD paper, and the rest goes through sparse → dense, beside the same budget dense only.  The same
captioner trained on blank pictures tells what the pictures are worth.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

import dsd_ort
from dsd_ort import decode
from dsd_ort.cli import comparing, main, tables
from dsd_ort.cli.options import FILE, threads_option
from dsd_ort.recipe import Recipe
from examples.captions import emoji
from examples.captions.emoji import Arrays, Split
from examples.training import trained
from graphs import neuraltalk

DATA = Path("node_modules/emoji-datasource-google")
HERE = Path(__file__).parent
BEAM, SHOWN = 5, 12


@click.command()
@click.option("-o", "--folder", type=FILE, default=Path("runs/captions"), show_default=True, help="Where files go.")
@click.option("--data", type=FILE, default=DATA, show_default=True, help="The npm package.")
@click.option("--held-out", is_flag=True, help="Measure on an eighth of the training captions, and train without.")
@threads_option
def captions(folder: Path, data: Path, held_out: bool, threads: int) -> None:
    """Train a captioner on emoji and export it to FOLDER/final.onnx."""
    split = emoji.split(emoji.read(data), held_out=held_out)
    network = neuraltalk(vocabulary=len(split.vocabulary), picture=emoji.SIZE, maps=32, width=128, every_step=1)
    begin, recipe = (Recipe.load(HERE / name) for name in ("begin.toml", "recipe.toml"))
    folder = folder / "held-out" if held_out else folder  # what was found on other captions stays apart
    counts = [len(side["label"]) for side in (split.train, split.test)]
    click.echo("{:,} captions to train on, {:,} to measure on".format(*counts), err=True)
    trained(network, folder / "begin", begin, split.train, split.test, threads=threads)
    blind = trained(network, folder / "blind", begin, blank(split.train), blank(split.test), threads=threads)
    comparison = comparing.run(
        dsd_ort.compare, folder / "begin.onnx", folder, recipe, split.train, split.test, threads=threads
    )
    comparing.show(comparison, "The captioner after each phase, on captions that it never saw")
    click.echo(f"the same captioner, trained on blank pictures: perplexity {blind['perplexity']:.2f}")
    describe(folder, split, recipe, threads)


def blank(arrays: Arrays) -> Arrays:
    """The same captions with nothing to see."""
    return arrays | {"image": np.zeros_like(arrays["image"])}


def describe(folder: Path, split: Split, recipe: Recipe, threads: int) -> None:
    """What the exported model says of the pictures that it was measured on: BLEU, and all captions in a file."""
    model = decode.Captioner(folder / "final.onnx", threads=threads)
    pictures = {"image": (split.test["image"].transpose(0, 3, 1, 2) / 255 - recipe.data.shift) / recipe.data.spread}
    search = {"start": emoji.START, "end": emoji.END, "limit": split.test["words"].shape[1]}
    said = {
        "greedy": model.greedy(pictures, **search),
        f"beam of {BEAM}": [found[0].labels for found in model.beam(pictures, width=BEAM, alpha=0.6, **search)],
    }
    right = [split.text(row[row > emoji.END]) for row in split.test["label"]]
    rows = []
    for search_name, captions_ in said.items():
        bleu = decode.scores.bleu([split.text(caption) for caption in captions_], [[text] for text in right])
        rows.append([search_name, *(f"{bleu[n]:.1f}" for n in (1, 2, 3, 4))])
    columns = {"search": "left", **{f"BLEU-{n}": "right" for n in (1, 2, 3, 4)}}
    tables.show("final.onnx on the same pictures", columns, rows)
    lines = [f"{truth}  →  {split.text(caption)}" for truth, caption in zip(right, [*said.values()][-1], strict=True)]
    (folder / "captions.txt").write_text("\n".join(lines) + "\n", "utf-8")
    click.echo("\n".join(lines[:: max(1, len(lines) // SHOWN)][:SHOWN]))
    click.echo(f"all of them: {folder / 'captions.txt'}")


if __name__ == "__main__":
    main(captions, "python -m examples.captions")
