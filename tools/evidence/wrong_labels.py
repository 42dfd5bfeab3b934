"""Wrong labels: dsd-ort's own experiment on networks that learn them by heart, a file of all that was measured.

    python -m tools.evidence.wrong_labels fashion-mlp-512 --share 0,0.1,0.3,0.5 --seeds 10
    python -m tools.evidence.wrong_labels fashion-mlp-512 --noise neighbour --share 0.1,0.3 --seeds 10
    python -m tools.evidence.wrong_labels fashion-mlp-512 --share 0.3 --seeds 3 --auto
    python -m tools.evidence.wrong_labels cifar10-resnet20 --share 0,0.2 --seeds 16 --threads 0     # a GPU
    python -m tools.evidence.wrong_labels cifar10-resnet20 --share 0.2 --seeds 1 --small            # does it work here?

Of each seed, network, pictures and wrong labels are drawn anew (:mod:`tools.evidence.pictures`), and all arms have the
same batches.  A set of labels that is as wrong as the one trained on chooses the epoch of each arm; the test pictures,
whose labels are right, measure.  What ``docs/evidence_wrong_labels.json`` has of a seed is not measured again, and a
seed that was stopped goes on, so the same command ends what it began.  ``--auto`` adds what ``--sparsity auto`` finds.
``--small`` goes all the way with a few pictures and an epoch a phase, and keeps nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import dsd_ort
from dsd_ort import runtime
from dsd_ort.api.comparison.document import Document
from dsd_ort.cli.progress import reporter
from dsd_ort.data import open_data
from dsd_ort.graph.program import open_program
from dsd_ort.run import memory
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.execution import Execution
from dsd_ort.run.scoring import score
from dsd_ort.run.suspects import doubted, weights_of
from dsd_ort.statistics import precision_at, roc_area
from tools.evidence import networks
from tools.evidence.pictures import NOISES, Labelled, labelled
from tools.evidence.rows import WRONG_LABELS, Row
from tools.evidence.summary import sparsity
from tools.evidence.tasks import TASKS
from tools.measuring.machine import cpu

SMALL = 512
"""Pictures of a trial."""
ARMS = ("dense-only", "early-stopping", "weight-decay", "dsd", "drop-suspects")
PRUNED = ("dsd", "drop-suspects")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="+", choices=TASKS)
    parser.add_argument("--noise", choices=NOISES, default="drawn")
    parser.add_argument("--share", default="0.3", help="of the labels, several with commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--auto", action="store_true", help="let the sparsity be looked for, in the place of a sweep")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="only try: a few pictures, and no row")
    parser.add_argument("--folder", type=Path, default=Path("build/evidence"), help="what is not done yet")
    arguments = parser.parse_args()
    shares = [float(share) for share in arguments.share.split(",")]
    wanted = [
        {"task": task, "noise": arguments.noise, "share": share, "seed": seed, "auto": arguments.auto}
        for seed in range(arguments.seeds)
        for task in arguments.task
        for share in shares
    ]
    if arguments.small:
        for about in wanted:
            print(json.dumps(about | measure(about, arguments.folder / "small", arguments.threads, small=True)))
        return
    WRONG_LABELS.measure(
        wanted,
        lambda row: completed(row, arguments.folder, arguments.threads),
        is_whole=lambda row: row["auto"] or not TASKS[row["task"]].left(row),
    )


def completed(about: Row, folder: Path, threads: int) -> Row:
    """All arms with one seed, or of those that are there already the sparsities that they lack, beside them."""
    there = [row for row in WRONG_LABELS.read() if WRONG_LABELS.key(row) == WRONG_LABELS.key(about)]
    if not there:
        return measure(about, folder, threads)
    (row,) = there
    found = measure(about, folder, threads, only=TASKS[about["task"]].left(row))
    arms = row["arms"] | found["arms"]
    return row | {
        "arms": {name: arms[name] for name in sorted(arms, key=_place)},
        "diverged": [*row["diverged"], *found["diverged"]],
        "minutes": round(row["minutes"] + found["minutes"], 1),
    }


def measure(
    about: Row, folder: Path, threads: int, *, only: tuple[float, ...] | None = None, small: bool = False
) -> Row:
    """All arms with one seed; errors on the test pictures in percent.

    Args:
        about: task, noise, share and seed.
        folder: of what is not done yet.
        threads: of ONNX Runtime.
        only: DSD at these sparsities and no other arm.
        small: only a trial.
    """
    task, seed, began = TASKS[about["task"]], about["seed"], time.perf_counter()
    folder = folder / "-".join(
        f"{about[name]:g}" if name == "share" else str(about[name]) for name in WRONG_LABELS.names
    )
    folder.mkdir(parents=True, exist_ok=True)
    data = labelled(task.pictures, about["noise"], about["share"], seed)
    if small:
        task, data = task._replace(epochs=(1, 1, 1)), data.cut(SMALL)
    task.write(folder / "drawn.onnx", seed)
    with reporter(brief=True) as listener:
        found = dsd_ort.experiment(
            folder / "drawn.onnx",
            folder / "experiment",
            task.recipe(seed),
            data.train,
            data.test,
            sparsities="auto" if about["auto"] else only or task.sparsities,
            kinds=PRUNED if only else ARMS,
            select_data=data.select,
            threads=threads,
            listener=listener,
        )
    runs = found.final.parent / "runs" / "seed-0"
    arms = {
        result.arm: {
            "error": _error(result.measured.evaluation),
            "select error": _error(result.measured.selection),
            "epoch": [result.phase, result.epoch],
            "seconds": round(result.seconds, 1),
            **(labels_of(runs / result.arm, data, threads) if result.arm.startswith("dsd") else {}),
        }
        for result in found.document.results
    }
    row = {
        "weights": networks.weights(folder / "drawn.onnx"),
        "wrong": int((data.train["label"] != data.truth).sum()),
        "arms": arms,
        "diverged": [each.arm for each in found.document.diverged],
        **({"ladder": list(_ladder(found.document))} if about["auto"] else {}),
        "cpu": cpu(),
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }
    shutil.rmtree(folder)
    return row


def labels_of(run: Path, data: Labelled, threads: int) -> Row:
    """How the sparse network fits the labels as given, and how its loss tells the wrong ones from the right ones."""
    program, execution = open_program(run), Execution(runtime.choose_device("auto"), threads)
    place = memory.of(execution.device)
    phase = next(number for number, phase in enumerate(program.recipe.phase, 1) if phase.kind == "sparse")
    arena = weights_of(program, phase)  # the evaluator reads its memory
    evaluator = Evaluator.of_program(program, place.place(arena.values()), execution=execution, memory=place)
    scored = score(evaluator, open_data(data.train, evaluator.fields, program.recipe.data))
    suspect, wrong = doubted(scored), data.train["label"] != data.truth
    found: Row = {
        "fits": round(float(1 - suspect.mean()), 4),
        "suspects": int(suspect.sum()),
        "truly wrong": int((suspect & wrong).sum()),
    }
    if wrong.any():
        found["area"] = round(roc_area(scored.loss, wrong), 4)
        found["precision"] = round(precision_at(scored.loss, wrong, int(wrong.sum())), 4)
    return found


def _place(arm: str) -> tuple[int, float]:
    """In a row."""
    kind = next(kind for kind in ARMS if arm.startswith(kind))
    return ARMS.index(kind), sparsity(arm) if kind in PRUNED else 0.0


def _error(metrics: dict[str, float]) -> float:
    return round(100 * (1 - metrics["top-1"]), 2)


def _ladder(document: Document) -> Iterator[Row]:
    for rung in document.ladder:
        yield {"sparsity": rung.sparsity, "select error": _error(rung.selection), "fit": rung.fit}


if __name__ == "__main__":
    main()
