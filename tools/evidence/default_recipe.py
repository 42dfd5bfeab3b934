"""Does the recipe that is taken where none is given leave a model better than it came, or at least no worse?

    .venv/bin/python -m tools.evidence.default_recipe --json docs/evidence_default_recipe.json

Each model of :mod:`tools.evidence.brought`, as it came, goes through five trainings of the same length, and is measured
on data that nothing was chosen on::

    fitted         the default recipe at the rate that dsd_ort.fit_rates finds on the training data
    dense only     the same without pruning
    safe           the default recipe at its own rates, which are what is taken where there is no data to test on
    SGD            the default recipe with SGD, momentum 0.9, at the rate that fits that
    earlier        what the default recipe was before: SGD at 1e-3, then 1e-4

A difference is told from noise by seeds, where there are three or more, and over the test examples otherwise.  The
models of the examples take minutes to half an hour; ``--folder`` keeps them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dsd_ort
from dsd_ort import statistics
from dsd_ort.data import open_data
from dsd_ort.model import source
from dsd_ort.run import memory
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.execution import Execution
from dsd_ort.run.scoring import score
from tools.evidence.brought import TASKS, Brought
from tools.measuring.machine import cpu

ARMS = ("fitted", "dense only", "safe", "SGD", "earlier")
EARLIER = {
    "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
    "phase": [
        {"kind": "sparse", "sparsity": 0.3, "epochs": 5, "learning_rate": 1e-3},
        {"kind": "dense", "epochs": 5, "learning_rate": 1e-4},
    ],
}
SMALL = tuple(name for name in TASKS if name not in ("images", "captions", "speech"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", choices=list(TASKS), help="by default, the small ones")
    parser.add_argument("--arm", action="append", choices=ARMS, help="by default, all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keeps the models that are brought")
    parser.add_argument("--json", type=Path, help="write the rows to this file; those of other tasks in it stay")
    arguments = parser.parse_args()
    tasks, rows = arguments.task or list(SMALL), []
    for task in tasks:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            with tempfile.TemporaryDirectory() as temporary:
                folder = (arguments.folder or Path(temporary)) / f"{task}-{seed}"
                folder.mkdir(parents=True, exist_ok=True)
                brought = TASKS[task](folder, seed)
                rows.append({"task": task, "seed": seed, **measure(brought, Path(temporary), arguments.arm or ARMS)})
            print(json.dumps(rows[-1]), flush=True)
        say([row for row in rows if row["task"] == task])
    if arguments.json:
        there = json.loads(arguments.json.read_text()) if arguments.json.exists() else []
        kept = [row for row in there if row["task"] not in tasks]
        arguments.json.write_text(json.dumps(kept + [row | {"cpu": cpu()} for row in rows], indent=1) + "\n")


def measure(brought: Brought, folder: Path, arms: Sequence[str] = ARMS) -> dict[str, Any]:
    """Loss and metric of each arm, and the loss's difference to the model as it came over the test examples."""
    sgd = dsd_ort.Recipe.from_dict(brought.recipe.to_dict() | {"optimizer": EARLIER["optimizer"]})
    fitted, fitted_sgd = (
        dsd_ort.fit_rates(brought.model, recipe, brought.train, threads=1) for recipe in (brought.recipe, sgd)
    )
    recipes = {
        "fitted": fitted.recipe,
        "dense only": fitted.recipe.dense_only(),
        "safe": brought.recipe,
        "SGD": fitted_sgd.recipe,
        "earlier": dsd_ort.Recipe.from_dict(brought.recipe.to_dict() | EARLIER),
    }
    before = losses(brought.model, brought)
    row: dict[str, Any] = {
        "rate": fitted.rate,
        "SGD's rate": fitted_sgd.rate,
        "metric": brought.metric,
        "as it came": _metrics(brought.model, brought),
    }
    for arm in arms:
        final = folder / f"{arm}.onnx"
        try:
            dsd_ort.prepare(brought.model, folder / arm, recipes[arm])
            dsd_ort.train(folder / arm, brought.train, threads=1)
        except dsd_ort.DsdError as error:
            row[arm] = {"error": error.what}
            continue
        dsd_ort.export(folder / arm, final)
        found = statistics.over_examples(
            losses(final, brought), before, np.random.default_rng(0), higher_is_better=False
        )
        row[arm] = _metrics(final, brought) | {"change": found.mean, "interval": found.interval}
    return row


def losses(model: Path, brought: Brought) -> np.ndarray:
    """Of each test example, f64[N]."""
    execution = Execution(threads=1)
    evaluator = Evaluator.of_source(
        source.load(model), brought.recipe, execution=execution, memory=memory.of(execution.device)
    )
    scored = score(evaluator, open_data(brought.test, evaluator.fields, brought.recipe.data))
    return scored.loss * scored.weight / scored.weight.mean()


def _metrics(model: Path, brought: Brought) -> dict[str, float]:
    metrics = dsd_ort.evaluate(model, brought.test, brought.recipe, threads=1)
    return {name: round(metrics[name], 5) for name in ("loss", brought.metric)}


def say(rows: list[dict[str, Any]]) -> None:
    """What the rows of one task say of each arm."""
    for arm in (arm for arm in ARMS if arm in rows[0]):
        whole = [row for row in rows if "error" not in row[arm]]
        for name in dict.fromkeys(("loss", rows[0]["metric"])):
            if len(whole) < len(rows):
                print(f"{rows[0]['task']}, {arm}: {len(rows) - len(whole)} of {len(rows)} trainings diverged")
                continue
            pairs = ([row[side][name] for row in rows] for side in (arm, "as it came"))
            found = statistics.over_seeds(*pairs, higher_is_better=name.startswith("top"))
            print(f"{rows[0]['task']}, {arm}: {statistics.verdict(found, name)}")


if __name__ == "__main__":
    main()
