"""What an experiment says: which arm is best, how the arms differ, and the verdict in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from dsd_ort import statistics
from dsd_ort.api.comparison import ladder, measuring
from dsd_ort.api.comparison.arms import DENSE_ONLY, Arm
from dsd_ort.api.comparison.document import Document, Final, Result
from dsd_ort.recipe import Recipe
from dsd_ort.recipe.names import PERCENTAGES
from dsd_ort.run.journal import AS_IT_CAME
from dsd_ort.run.metrics import HIGHER_IS_BETTER, better
from dsd_ort.statistics import Paired


class Known(NamedTuple):
    """An arm of the plan, or one that an earlier call measured."""

    name: str
    title: str
    prunes: bool


def known(document: Document, plan: Sequence[Arm]) -> list[Known]:
    """All arms that there is something to say of: the plan's, then others that were measured before."""
    found = {arm.name: Known(arm.name, arm.title, arm.prunes) for arm in plan}
    for result in document.results:
        found.setdefault(result.arm, Known(result.arm, result.title, result.prunes))
    return list(found.values())


@dataclass(frozen=True)
class Row:
    """An arm over all seeds, or the model as it came."""

    arm: str
    title: str
    seeds: int
    selection: dict[str, float]
    """Means."""
    evaluation: dict[str, float]
    """Likewise."""
    against: Paired | None
    """The deciding metric on the evaluation data, less that of dense only; None for dense only, and without it."""
    density: float | None
    seconds: float | None
    """Means; None for the model as it came."""
    diverged: int = 0
    """Seeds that ended without a result."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def scores_file(folder: Path, arm: str, seed: int) -> Path:
    """Where the scores of each test example are."""
    return folder / "scores" / f"{arm.replace(' ', '-')}-{seed}.npz"


def of_arm(document: Document, arm: str) -> dict[int, Result]:
    """The results of an arm by seed."""
    return {result.seed: result for result in document.results if result.arm == arm}


def table(document: Document, plan: Sequence[Known], folder: Path) -> Iterator[Row]:
    """A row for the model as it came, then one for each arm."""
    came = document.came
    found = against(document, AS_IT_CAME, folder)
    yield Row(AS_IT_CAME, AS_IT_CAME, 0, came.selection, came.evaluation, found, None, None)
    for arm in plan:
        results = list(of_arm(document, arm.name).values())
        diverged = sum(each.arm == arm.name for each in document.diverged)
        if not results:
            yield Row(arm.name, arm.title, 0, {}, {}, None, None, None, diverged)
            continue
        yield Row(
            arm=arm.name,
            title=arm.title,
            seeds=len(results),
            selection=_means([r.measured.selection for r in results]),
            evaluation=_means([r.measured.evaluation for r in results]),
            against=against(document, arm.name, folder) if arm.name != DENSE_ONLY else None,
            density=float(np.mean([r.density for r in results])),
            seconds=float(np.mean([r.seconds for r in results])),
            diverged=diverged,
        )


def best(document: Document, plan: Sequence[Known]) -> Final:
    """The arm with the best mean on the selection data, and its best seed there; else the model as it came.

    Of equal arms the first in the plan.  The file must be better there than the model as it came, not only its arm.
    """
    monitor, found = document.monitor, Final(arm=AS_IT_CAME, measured=document.came)
    value = document.came.selection[monitor]
    for arm in plan:
        results = of_arm(document, arm.name)
        if not results:
            continue
        mean = _means([r.measured.selection for r in results.values()])[monitor]
        if better(monitor, mean, value):
            first = top(list(results.values()), monitor)
            found, value = Final(arm=arm.name, seed=first.seed, measured=first.measured), mean
    return found


def against(
    document: Document, arm: str, folder: Path, reference: str = DENSE_ONLY, metric: str | None = None
) -> Paired | None:
    """How *arm* differs from *reference* on the evaluation data: over seeds, or of one seed over examples."""
    metric = metric or document.monitor
    higher = HIGHER_IS_BETTER[metric]
    new, old = (_by_seed(document, name, metric) for name in (arm, reference))
    seeds = sorted(new.keys() & old.keys())
    if not seeds:
        return None
    if len(seeds) == 1:
        files = [scores_file(folder, name, seeds[0] if name != AS_IT_CAME else 0) for name in (arm, reference)]
        scores = [measuring.scores(file, metric) for file in files]
        if scores[0] is not None and scores[1] is not None and len(scores[0]) == len(scores[1]):
            counting = np.isfinite(scores[0]) & np.isfinite(scores[1])
            rng = np.random.default_rng(0)
            return statistics.over_examples(scores[0][counting], scores[1][counting], rng, higher_is_better=higher)
    pairs = ([new[seed] for seed in seeds], [old[seed] for seed in seeds])
    return statistics.over_seeds(*pairs, higher_is_better=higher)


def _by_seed(document: Document, arm: str, metric: str) -> dict[int, float]:
    """A metric of an arm by seed; of the model as it came, the same for every seed that any arm has."""
    if arm == AS_IT_CAME:
        seeds = {result.seed for result in document.results}
        return dict.fromkeys(seeds, document.came.evaluation[metric])
    return {seed: result.measured.evaluation[metric] for seed, result in of_arm(document, arm).items()}


def sentences(document: Document, plan: Sequence[Known], folder: Path) -> Iterator[str]:
    """What was found, in words; the last one is the verdict on DSD."""
    titles = {arm.name: arm.title for arm in plan}
    final, metric = document.final, document.monitor
    show = partial(shown, metric)
    if document.ladder:
        yield _of_ladder(document)
    if final is not None and final.arm == AS_IT_CAME:
        yield f"final.onnx is the model as it came: no arm is better on the selection data ({metric})"
    elif final is not None:
        several = len(of_arm(document, final.arm)) > 1
        seed = f", seed {final.seed}" if several else ""
        yield f"final.onnx is from {titles[final.arm]}{seed}, the best on the selection data ({metric})"
        if found := against(document, final.arm, folder, AS_IT_CAME):
            yield f"{titles[final.arm]} against the model as it came: {statistics.verdict(found, metric, show)}"
    stopped = "early-stopping"
    sparse = _top_arm(document, [arm for arm in plan if arm.prunes])
    if sparse and stopped in titles and (found := against(document, sparse.name, folder, stopped)):
        yield f"{sparse.title} against stopping early: {statistics.verdict(found, metric, show)}"
    if left_out := [f"{r.title}, seed {r.seed}: {r.skipped}" for r in document.results if r.skipped]:
        yield f"updates that were not finite were left out: {'; '.join(left_out)}"
    if len({result.seed for result in document.results}) > 1:
        yield "all seeds go on from one file: they speak of this file, not of other networks"
    if sparse and (found := against(document, sparse.name, folder)):
        yield f"{sparse.title} against dense only: {statistics.verdict(found, metric, show)}"


def _of_ladder(document: Document) -> str:
    top = ladder.top(document.ladder, document.monitor)
    found = f"sparsity {top.sparsity:g} is the best of {len(document.ladder) - 1} on the selection data"
    if ladder.gains(document.ladder, document.monitor):
        return found
    return f"{found}, and no better than dense there: pruning gains nothing on this model and data"


def shown(metric: str, difference: float) -> str:
    """A difference with its unit: percentage points, or the metric's own."""
    return f"{100 * difference:.2f} points" if metric in PERCENTAGES else f"{difference:.4g}"


def deciding(recipe: Recipe) -> str:
    """What chooses where the recipe leaves it at the loss: for classes the share that is right."""
    return "top-1" if recipe.monitor == "loss" and recipe.losses[0].name == "cross-entropy" else recipe.monitor


def _top_arm(document: Document, candidates: Sequence[Known]) -> Known | None:
    """The one that is best on the selection data."""
    found: Known | None = None
    value = 0.0
    for arm in candidates:
        results = of_arm(document, arm.name)
        if results:
            mean = _means([r.measured.selection for r in results.values()])[document.monitor]
            if found is None or better(document.monitor, mean, value):
                found, value = arm, mean
    return found


def top(results: Sequence[Result], monitor: str) -> Result:
    """The best on the selection data; of equal ones that of the lowest seed, whichever came first."""
    first, *others = sorted(results, key=lambda result: result.seed)
    for result in others:
        if better(monitor, result.measured.selection[monitor], first.measured.selection[monitor]):
            first = result
    return first


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of what all rows have."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if all(name in row for row in rows)}
