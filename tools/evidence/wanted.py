"""What belongs on the page, and the commands of what is not measured yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tools.evidence.rows import Row
from tools.evidence.summary import Group, by
from tools.evidence.tasks import TASKS

METRICS = {"captions": ("perplexity", 1), "speech": ("cer", 100)}
"""What is measured on folds, and times what it is shown."""
FOLDS_WANTED, EXPORTED_WANTED = 5, 5


class Wanted(NamedTuple):
    """What belongs on the page: all shares of wrong labels with one size of each kind of network, else 30 %."""

    task: str
    shares: tuple[float, ...]
    seeds: int
    noise: str = "drawn"
    where: str = ""


WANTED = (
    Wanted("digits-mlp-256", (0, 0.1, 0.3, 0.5), 10),
    Wanted("digits-cnn-24", (0, 0.1, 0.3, 0.5), 5),
    Wanted("fashion-mlp-512", (0, 0.1, 0.3, 0.5), 10),
    Wanted("fashion-mlp-512", (0.1, 0.3), 5, "neighbour"),
    Wanted("fashion-mlp-128", (0.3,), 5),
    Wanted("fashion-mlp-1024", (0.3,), 5),
    Wanted("fashion-cnn-4", (0, 0.1, 0.3, 0.5), 5),
    Wanted("fashion-cnn-16", (0.3,), 5),
    Wanted("fashion-residual-8", (0, 0.1, 0.3, 0.5), 5),
    Wanted("fashion-residual-16", (0.3,), 5),
    Wanted("cifar10-residual-8", (0, 0.2), 5),
    Wanted("cifar10-resnet20", (0, 0.2), 16, where=", on a GPU"),
)


def missing(swept: Iterable[Group], folds: Iterable[Row], exported: Iterable[Row]) -> Iterator[str]:
    """The commands that go on, and for how many seeds; also of those that lack a sparsity."""
    swept = list(swept)
    there = {(g.task, g.noise, g.share): sum(not TASKS[g.task].left(row) for row in g.rows) for g in swept}
    begun = {(g.task, g.noise, g.share): len(g.rows) for g in swept}
    for task, shares, seeds, noise, where in WANTED:
        left = {share: seeds - there.get((task, noise, share), 0) for share in shares}
        if some := [f"{share:g}" for share, count in left.items() if count > 0]:
            other = "" if noise == "drawn" else f" --noise {noise}"
            command = f"python -m tools.evidence.wrong_labels {task} --share {','.join(some)} --seeds {seeds}{other}"
            partly = sum(begun.get(key, 0) - there.get(key, 0) for key in ((task, noise, share) for share in shares))
            lacking = f", {partly} of which lack some sparsities" if partly else ""
            yield f"- `{command}`: {sum(max(0, count) for count in left.values())} seeds{lacking}{where}"
    counts = {task: len(rows) for (task,), rows in by(folds, "task")}
    for task in METRICS:
        if (left_ := FOLDS_WANTED - counts.get(task, 0)) > 0:
            yield f"- `python -m tools.evidence.folds {task}`: {left_} folds"
    brought_ = {key: len(rows) for key, rows in by(exported, "task", "share")}
    for task, share in ((task, share) for task in ("example", "mlp") for share in (0, 0.3)):
        if (left_ := EXPORTED_WANTED - brought_.get((task, share), 0)) > 0:
            command = f"python -m tools.evidence.exported {task} --share {share:g} --seeds {EXPORTED_WANTED}"
            yield f"- `{command}`: {left_} seeds"
