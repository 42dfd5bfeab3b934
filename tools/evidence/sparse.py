"""Ways to a sparse network, and through one: DSD, AC/DC, pruned gradually and at once, with one budget; and which
layers to prune how much: by ``dsd-ort scan``, or all alike.

    python -m tools.evidence.sparse digits-mlp-256 --share 0,0.3 --seeds 5

Of each seed, network and wrong labels are drawn anew, as in :mod:`tools.evidence.wrong_labels`; arms have the same
batches and rates.  The scan is of the network at the end of the first dense phase, on the training data; each of its
recipes and, beside it, the same total in all layers are measured at once, and after the sparse phase and what is left
of the budget, all sparse.  What ``docs/evidence_sparse.json`` has is not measured again, and a seed that was stopped
goes on.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import mean

import msgspec

import dsd_ort
from dsd_ort.api.comparison.arms import arms
from dsd_ort.cli.progress import reporter
from tools.evidence.pictures import Labelled, labelled
from tools.evidence.rows import SPARSE, Row, seeds_of
from tools.evidence.summary import difference, lower, word
from tools.evidence.tasks import TASKS
from tools.measuring.machine import cpu

SPARSITY, TOTALS = 0.9, (0.8, 0.9, 0.95)
ARMS = {
    "dense-only": "dense only",
    f"dsd-{SPARSITY}": "DSD",
    f"acdc-{SPARSITY}": "AC/DC",
    f"gradual-{SPARSITY}": "pruned gradually, ships sparse",
    f"one-shot-{SPARSITY}": "pruned at once, ships sparse",
}
KINDS = tuple(name.removesuffix(f"-{SPARSITY}") for name in ARMS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="+", choices=TASKS)
    parser.add_argument("--share", default="0.3", help="of the labels, several with commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("build/evidence-sparse"), help="what is not done yet")
    arguments = parser.parse_args()
    wanted = seeds_of(arguments.task, arguments.share, arguments.seeds)
    SPARSE.measure(wanted, lambda row: measure(row, arguments.folder, arguments.threads))


def measure(about: Row, folder: Path, threads: int) -> Row:
    """All of one seed; errors on the test pictures in percent, density of what each arm ends with."""
    task, seed, began = TASKS[about["task"]], about["seed"], time.perf_counter()
    folder = folder / "-".join(f"{about[name]}" for name in SPARSE.names)
    folder.mkdir(parents=True, exist_ok=True)
    data, recipe = labelled(task.pictures, "drawn", about["share"], seed), task.recipe(seed)
    task.write(folder / "drawn.onnx", seed)
    with reporter(brief=True) as listener:
        found = dsd_ort.experiment(
            folder / "drawn.onnx",
            folder / "experiment",
            recipe,
            data.train,
            data.test,
            sparsities=(SPARSITY,),
            kinds=KINDS,
            select_data=data.select,
            threads=threads,
            listener=listener,
        )
    row = {
        "arms": {
            result.arm: {"error": _error(result.measured.evaluation), "density": round(result.density, 4)}
            for result in found.document.results
        },
        "diverged": [each.arm for each in found.document.diverged],
        "totals": layers(folder, recipe, data, threads),
        "cpu": cpu(),
        "minutes": round((time.perf_counter() - began) / 60, 2),
    }
    shutil.rmtree(folder)
    return row


def layers(folder: Path, recipe: dsd_ort.Recipe, data: Labelled, threads: int) -> Row:
    """What the scan's sparsities and all alike measure at each total: as they are, and trained on."""
    dense = folder / "dense.onnx"
    dsd_ort.export(folder / "experiment" / "runs" / "seed-0" / "dense-only", dense, phase=1)
    (sparse,) = arms(msgspec.structs.replace(recipe, phase=recipe.phase[1:]), ("one-shot",), ())
    found: Row = {}
    for total in TOTALS:
        scanned = dsd_ort.scan(
            dense, data.train, sparse.recipe, total=total, examples=0, sparsities=(*FINE, 0.99), threads=threads
        )
        assert scanned.total is not None
        given = {"scan": dsd_ort.Recipe.from_dict(scanned.recipe), "all alike": sparse.recipe.at_sparsity(total)}
        found[f"{total:g}"] = {
            "layers": list(scanned.total.layers.values()),
            "training loss": [round(m["loss"], 4) for m in (scanned.total.metrics, scanned.total.uniform)],
            **{name: trained(folder, dense, each, data, threads) for name, each in given.items()},
        }
    return found


FINE = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97)


def trained(folder: Path, model: Path, recipe: dsd_ort.Recipe, data: Labelled, threads: int) -> float:
    """The error at the end of a training, in percent."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    dsd_ort.prepare(model, folder / "run", msgspec.structs.replace(recipe, monitor="loss"))
    dsd_ort.train(folder / "run", data.train, threads=threads)
    return _error(dsd_ort.evaluate(folder / "run", data.test, threads=threads))


def _error(metrics: Mapping[str, float]) -> float:
    return round(100 * (1 - metrics["top-1"]), 2)


def ways(rows: Iterable[Row]) -> Iterator[list[object]]:
    """The table of the arms: test errors, differences from dense only's, and how much is not zero in the end."""
    yield ["task", "wrong labels", "seeds", "", "test error", "less dense only", "", "non-zero"]
    for (task, share), own in _by_task(rows):
        whole = [row["arms"] for row in own if not row["diverged"]]
        dense = [row["dense-only"]["error"] for row in whole]
        for arm, title in ARMS.items():
            errors, densities = ([row[arm][name] for row in whole] for name in ("error", "density"))
            said = [difference(lower(errors, dense)), word(lower(errors, dense))] if arm != "dense-only" else ["", ""]
            yield [task, share, len(whole), title, f"{mean(errors):.1f}", *said, f"{100 * mean(densities):.0f} %"]


def by_layer(rows: Iterable[Row]) -> Iterator[list[object]]:
    """The table of the totals: the scan's sparsities beside all alike, as they are and trained on."""
    measured = ["loss at once: scan", "all alike", "test error: scan", "all alike", "scan less all alike", ""]
    yield ["task", "wrong labels", "total", "seeds", *measured]
    for (task, share), own in _by_task(rows):
        for total in TOTALS:
            found = [row["totals"][f"{total:g}"] for row in own]
            losses = [mean([each["training loss"][side] for each in found]) for side in (0, 1)]
            sides = [[each[name] for each in found] for name in ("scan", "all alike")]
            cells = [*(f"{loss:.3f}" for loss in losses), *(f"{mean(errors):.1f}" for errors in sides)]
            said = [difference(lower(*sides)), word(lower(*sides))]
            yield [task, share, f"{100 * total:g} %", len(own), *cells, *said]


def _by_task(rows: Iterable[Row]) -> Iterator[tuple[tuple[str, str], list[Row]]]:
    there = list(rows)
    for task, share in sorted({(row["task"], row["share"]) for row in there}):
        yield (task, f"{100 * share:g} %"), [row for row in there if (row["task"], row["share"]) == (task, share)]


if __name__ == "__main__":
    main()
