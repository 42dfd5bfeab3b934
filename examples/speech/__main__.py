"""Spanish speech to text: Tux Paint's recordings, DeepSpeech, and dense → sparse → dense → sparse → dense."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import onnx_ir as ir

import dsd_ort
from dsd_ort import decode, runtime
from dsd_ort.cli import comparing, main, tables
from dsd_ort.cli.options import FILE, threads_option
from dsd_ort.data import audio
from dsd_ort.recipe import Recipe
from examples.speech import stamps
from examples.speech.stamps import Stamp
from graphs import deepspeech

DATA = Path("/usr/share/tuxpaint/stamps")
WIDTH, CONTEXT, DROPOUT = 384, 5, 40
BEAM, SHOWN = 32, 12


@click.command()
@click.option("-o", "--folder", type=FILE, default=Path("runs/speech"), show_default=True, help="Where files go.")
@click.option("--data", type=FILE, default=DATA, show_default=True, help="Where the stamps are.")
@click.option("--held-out", is_flag=True, help="Measure on a tenth of the training texts, and train without.")
@threads_option
def speech(folder: Path, data: Path, held_out: bool, threads: int) -> None:
    """Train DeepSpeech on spoken Spanish and export it to FOLDER/final.onnx."""
    recipe = Recipe.load(Path(__file__).with_name("recipe.toml"))
    train, test = stamps.split(stamps.read(data), held_out=held_out)
    folder = folder / "held-out" if held_out else folder  # what was found on other texts stays apart
    folder.mkdir(parents=True, exist_ok=True)
    manifests = [stamps.write(side, folder / f"{name}.jsonl") for name, side in (("train", train), ("test", test))]
    model, classes, bands = folder / "deepspeech.onnx", len(stamps.ALPHABET), recipe.data.audio.mels
    ir.save(deepspeech(classes=classes, bands=bands, width=WIDTH, context=CONTEXT, dropout=DROPOUT), model)
    seconds = sum(stamp.seconds for stamp in train)
    click.echo(f"{len(train)} recordings, {seconds / 60:.0f} minutes, to train on, {len(test)} to measure on", err=True)
    comparison = comparing.run(dsd_ort.compare, model, folder, recipe, *map(str, manifests), threads=threads)
    comparing.show(comparison, "DeepSpeech after each phase, on texts that it never saw")
    transcribe(folder, test, recipe, threads)


def transcribe(folder: Path, test: list[Stamp], recipe: Recipe, threads: int) -> None:
    """What the exported model hears: error rates of both ways of decoding, and all transcripts in a file."""
    session = runtime.session(str(folder / "final.onnx"), runtime.session_options(threads))
    heard: dict[str, list[str]] = {"best path": [], f"prefix beam of {BEAM}": []}
    for stamp in test:
        features = audio.features(stamp.recording, recipe.data.audio)[None]
        (logits,) = session.run(["logits"], {"features": features, "lengths": np.array([features.shape[1]])})
        paths = decode.ctc.greedy(logits)[0], decode.ctc.beam(logits, width=BEAM)[0][0].labels
        for texts, labels in zip(heard.values(), paths, strict=True):
            texts.append("".join(stamps.ALPHABET[label] for label in labels))
    said = [stamp.text for stamp in test]
    rows = [
        [name, f"{decode.scores.cer(texts, said):.2%}", f"{decode.scores.wer(texts, said):.2%}"]
        for name, texts in heard.items()
    ]
    columns = {"decoding": "left", "characters": "right", "words": "right"}
    tables.show("final.onnx on the same recordings", columns, rows)
    lines = [f"{right}  →  {text}" for right, text in zip(said, [*heard.values()][-1], strict=True)]
    (folder / "transcripts.txt").write_text("\n".join(lines) + "\n", "utf-8")
    click.echo("\n".join(lines[:: max(1, len(lines) // SHOWN)][:SHOWN]))
    click.echo(f"all of them: {folder / 'transcripts.txt'}")


if __name__ == "__main__":
    main(speech, "python -m examples.speech")
