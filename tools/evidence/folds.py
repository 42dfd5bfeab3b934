"""Speech and captions, cross-validated: every recording and every picture is measured on once.

    python -m tools.evidence.folds speech       apt-get install tuxpaint-stamps-default
    python -m tools.evidence.folds captions     npm install emoji-datasource-google@16.0.0

Texts, and names of pictures, are in ten parts; of each of the five folds two measure, one chooses the epoch of each
arm, and seven are trained on.  Network and recipe are those of :mod:`examples.speech` and :mod:`examples.captions`,
which were chosen on texts and names that are measured here too, by what dense → sparse → dense made of them.

What ``docs/evidence_folds.json`` has of a fold is not measured again, and a fold that was stopped goes on.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import onnx_ir as ir

import dsd_ort
from dsd_ort.cli.progress import reporter
from examples.captions import __main__ as captions
from examples.captions import emoji
from examples.parts import parts
from examples.speech import __main__ as speech
from examples.speech import stamps
from examples.training import trained
from graphs import deepspeech, neuraltalk
from tools.evidence.rows import FOLDS as ROWS
from tools.evidence.rows import Row
from tools.measuring.machine import cpu

FOLDS, PARTS = 5, 10
ARMS = ("dense-only", "early-stopping", "dsd")


class Fold(NamedTuple):
    """A model and its data."""

    model: Path
    recipe: dsd_ort.Recipe
    train: Any
    select: Any
    test: Any
    examples: int
    """That measure."""


def _sides(of: dict[str, int], fold: int) -> Callable[[str], int]:
    """0 for what a group is trained on, 1 for what chooses, 2 for what measures."""
    measures = {2 * fold, 2 * fold + 1}
    chooses = (2 * fold + 2) % PARTS
    return lambda group: 2 if of[group] in measures else int(of[group] == chooses)


def spanish(folder: Path, fold: int, threads: int) -> Fold:
    """DeepSpeech with drawn weights."""
    every = stamps.read(speech.DATA)
    side = _sides(parts((stamp.text for stamp in every), PARTS), fold)
    apart = [[stamp for stamp in every if side(stamp.text) == number] for number in range(3)]
    train, select, test = (str(stamps.write(each, folder / f"{n}.jsonl")) for n, each in enumerate(apart))
    recipe = dsd_ort.Recipe.load(Path(speech.__file__).with_name("recipe.toml")).to_dict()
    model, width = folder / "deepspeech.onnx", speech.WIDTH
    ir.save(
        deepspeech(classes=len(stamps.ALPHABET), bands=40, width=width, context=speech.CONTEXT, dropout=speech.DROPOUT),
        model,
    )
    return Fold(model, dsd_ort.Recipe.from_dict(recipe | {"monitor": "cer"}), train, select, test, len(apart[2]))


def names(folder: Path, fold: int, threads: int) -> Fold:
    """NeuralTalk, trained dense already by the example's begin.toml, whose picture part is frozen now."""
    every = emoji.read(captions.DATA)
    side = _sides(parts((one.title for one in every), PARTS), fold)
    apart = [[one for one in every if side(one.title) == number] for number in range(3)]
    words, longest = emoji.vocabulary(apart[0]), max(len(one.words) for one in every)
    train, select, test = (emoji.arrays(each, words, longest) for each in apart)
    begin, recipe = (dsd_ort.Recipe.load(captions.HERE / name) for name in ("begin.toml", "recipe.toml"))
    network = neuraltalk(vocabulary=len(words), picture=emoji.SIZE, maps=32, width=128, every_step=1)
    trained(network, folder / "begin", begin, train, select, threads=threads)
    table = recipe.to_dict() | {"monitor": "perplexity"}
    return Fold(folder / "begin.onnx", dsd_ort.Recipe.from_dict(table), train, select, test, len(apart[2]))


TASKS: dict[str, Callable[[Path, int, int], Fold]] = {"speech": spanish, "captions": names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="+", choices=TASKS)
    parser.add_argument("--folds", type=int, default=FOLDS, help="the first so many")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("build/folds"), help="what is not done yet")
    arguments = parser.parse_args()
    wanted = [{"task": task, "fold": fold} for task in arguments.task for fold in range(arguments.folds)]
    ROWS.measure(wanted, lambda row: measure(row, arguments.folder, arguments.threads))


def measure(about: Row, folder: Path, threads: int) -> Row:
    """All arms on one fold."""
    began, folder = time.perf_counter(), folder / f"{about['task']}-{about['fold']}"
    folder.mkdir(parents=True, exist_ok=True)
    fold = TASKS[about["task"]](folder, about["fold"], threads)
    with reporter(brief=True) as listener:
        found = dsd_ort.experiment(
            fold.model,
            folder / "experiment",
            fold.recipe,
            fold.train,
            fold.test,
            sparsities=(),
            kinds=ARMS,
            select_data=fold.select,
            threads=threads,
            keep="final",
            listener=listener,
        )
    arms = {
        result.arm: {
            **{name: round(value, 5) for name, value in result.measured.evaluation.items()},
            "epoch": [result.phase, result.epoch],
            "seconds": round(result.seconds, 1),
        }
        for result in found.document.results
    }
    came = {name: round(value, 5) for name, value in found.document.came.evaluation.items()}
    minutes = round((time.perf_counter() - began) / 60, 1)
    shutil.rmtree(folder)
    return {"examples": fold.examples, "as it came": came, "arms": arms, "cpu": cpu(), "minutes": minutes}


if __name__ == "__main__":
    main()
