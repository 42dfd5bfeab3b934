"""Writes ``docs/evidence.md``: the words of ``page.md`` beside this file, and tables of what was measured.

python -m tools.evidence.page
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.evidence import sparse
from tools.evidence.rows import EXPORTED, FOLDS, IN_PYTORCH, SPARSE, WRONG_LABELS, Row
from tools.evidence.summary import DECAY, DENSE, DROPPED, DSD, EARLY, Group, by, difference, groups, lower, word
from tools.evidence.wanted import FOLDS_WANTED, METRICS, missing

PAGE = Path("docs/evidence.md")
RECIPES = Path("docs/evidence_default_recipe.json")
SUSPECTS = Path("docs/evidence_suspects.json")
CLEANLAB = Path("docs/evidence_cleanlab.json")
NOISE = {"drawn": "drawn anew", "neighbour": "the next class"}
SHORT = (
    ("digits-mlp-256", "digits, MLP", 0),
    ("digits-mlp-256", "digits, MLP", 0.3),
    ("digits-cnn-24", "digits, CNN with batch norm", 0),
    ("digits-cnn-24", "digits, CNN with batch norm", 0.3),
    ("fashion-mlp-512", "Fashion-MNIST, MLP", 0),
    ("fashion-mlp-512", "Fashion-MNIST, MLP", 0.3),
    ("fashion-mlp-512", "Fashion-MNIST, MLP", 0.5),
    ("cifar10-residual-8", "CIFAR-10, ResNet-14", 0),
    ("cifar10-residual-8", "CIFAR-10, ResNet-14", 0.2),
)
"""Of the README."""
ENOUGH = 3
"""Seeds of which a median says something of time."""


def main() -> None:
    PAGE.write_text(page(), "utf-8")


def page() -> str:
    """All of it."""
    found = list(groups(WRONG_LABELS.read()))
    swept, auto = [g for g in found if not g.auto], [g for g in found if g.auto]
    folds, exported = FOLDS.read(), EXPORTED.read()
    words = Path(__file__).with_name("page.md").read_text("utf-8")
    return words.format(
        all_tasks=_lines(all_tasks(swept, folds)),
        in_pytorch=_lines(in_pytorch(IN_PYTORCH.read(), swept)),
        brought=_lines(brought(exported)),
        by_sparsity=_lines(by_sparsity(swept)),
        detector=_lines(detector(swept)),
        from_a_file=_lines(from_a_file(json.loads(SUSPECTS.read_text()))),
        cleanlab=_lines(beside_cleanlab(json.loads(CLEANLAB.read_text()))),
        found_by_auto=_lines(found_by_auto(auto, swept)),
        default_recipe=_lines(default_recipe(json.loads(RECIPES.read_text()))),
        ways=_lines(_table(sparse.ways(SPARSE.read()))),
        by_layer=_lines(_table(sparse.by_layer(SPARSE.read()))),
        cost=cost(swept, folds),
        missing=_lines(missing(swept, folds, exported)),
    )


def all_tasks(swept: Iterable[Group], folds: Iterable[Row]) -> Iterator[str]:
    """The one table."""
    arms = ("dense only", "stopped early", "weight decay", "DSD", "suspects dropped")
    yield from _head(
        *("task", "wrong labels", "seeds", *arms, "DSD less dense only", ""), *("dropped less stopped early", "")
    )
    for g in swept:
        errors = [f"{g.mean(arm):.1f}" for arm in (DENSE, EARLY, DECAY, DSD, DROPPED)]
        said = [said for pair in ((DSD, DENSE), (DROPPED, EARLY)) for said in _said(g.against(*pair), 1)]
        yield _row(g.task, _noise(g), len(g.rows), *errors, *said)
    for (task,), rows in by(folds, "task"):
        metric, scale = METRICS[task]
        values = {arm: [scale * row["arms"][arm][metric] for row in rows] for arm in (DENSE, EARLY, DSD)}
        dense, early, dsd = (f"{np.mean(of):.2f}" for of in values.values())
        said = [*_said(lower(values[DSD], values[DENSE]), 2)]
        count = f"{len(rows)} of {FOLDS_WANTED} folds"
        yield _row(f"{task}: {metric}", "none", count, dense, early, "", dsd, "", *said, "", "")


def in_pytorch(rows: Iterable[Row], swept: Iterable[Group]) -> Iterator[str]:
    """The same seeds, trained by PyTorch."""
    yield from _head(
        *("task", "wrong labels", "seeds", "", "test error: dsd-ort", "PyTorch", "dsd-ort less PyTorch", ""),
        *("fits: dsd-ort", "PyTorch"),
    )
    sweeps = [g for g in swept if g.noise == "drawn" and not g.auto]
    own = {(g.task, g.share, row["seed"]): row["arms"] for g in sweeps for row in g.rows}
    for (task, share), of in by(rows, "task", "share"):
        both = [(own[key], row["arms"]) for row in of if (key := (task, share, row["seed"])) in own]
        for arm in both[0][1] if both else ():
            sides = [[arms[arm] for arms in side] for side in zip(*both, strict=True)]
            ours, theirs = ([found["error"] for found in side] for side in sides)
            if arm == DENSE:
                way, fits = "dense only", ["", ""]
            else:
                way = f"DSD {_percent(arm.removeprefix('dsd-'))}"
                fits = [f"{100 * np.mean([found['fits'] for found in side]):.0f}" for side in sides]
            errors = (f"{np.mean(side):.1f}" for side in (ours, theirs))
            yield _row(task, f"{100 * share:g} %", len(ours), way, *errors, *_said(lower(ours, theirs), 1), *fits)


def brought(rows: Iterable[Row]) -> Iterator[str]:
    """Models that PyTorch trained."""
    columns = ("as it came", "dense only", "stopped early", "DSD", "suspects dropped", "shipped")
    yield from _head("network", "wrong labels", "seeds", *columns, "shipped less as it came", "", "what was shipped")
    for (task, share), of in by(rows, "task", "share"):
        came, ships = ([row[name] for row in of] for name in ("as it came", "error"))
        arms = [[_arm(row, kind) for row in of] for kind in (DENSE, EARLY, DSD, DROPPED)]
        means = [f"{np.mean(values):.1f}" for values in (came, *arms, ships)]
        names = [row["shipped"] for row in of]
        what = ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))
        yield _row(task, f"{100 * share:g} %", len(of), *means, *_said(lower(ships, came), 1), what)


def by_sparsity(swept: Sequence[Group]) -> Iterator[str]:
    """Errors, and how the sparse network fits."""
    names = sorted({name for g in swept for name in g.sparsities}, key=float)
    yield from _head("task", "weights", "wrong labels", "dense only", *(_percent(name) for name in names))
    for g in swept:
        cells = [
            f"{g.mean(f'dsd-{name}'):.1f} / {100 * g.mean(f'dsd-{name}', 'fits'):.0f}" if name in g.sparsities else ""
            for name in names
        ]
        yield _row(g.task, f"{g.rows[0]['weights']:,}", _noise(g), f"{g.mean(DENSE):.1f}", *cells)


def detector(swept: Iterable[Group]) -> Iterator[str]:
    """Wrong labels by the sparse network's loss."""
    yield from _head("task", "wrong labels", "at sparsity", "area", "precision", "the list's precision", "recall")
    for g in swept:
        if g.share:
            best = max((f"dsd-{name}" for name in g.sparsities), key=lambda arm: g.mean(arm, "area"))
            listed, truly = (sum(row["arms"][best][key] for row in g.rows) for key in ("suspects", "truly wrong"))
            wrong = sum(row["wrong"] for row in g.rows)
            numbers = (f"{g.mean(best, key):.3f}" for key in ("area", "precision"))
            yield _row(
                *(g.task, _noise(g), _percent(best.removeprefix("dsd-")), *numbers),
                *(f"{truly / listed:.2f}", f"{truly / wrong:.2f}"),
            )


def from_a_file(rows: Sequence[Row]) -> Iterator[str]:
    """A model that learned wrong labels, and what becomes of it in four ways."""
    ways = ("as it came", "dense only", "DSD", "drops", "train on")
    yield from _head("seeds", *ways, "the list's precision", "recall")
    listed, truly, wrong = (sum(row[key] for row in rows) for key in ("suspects", "truly wrong", "wrong"))
    means = (f"{np.mean([row[way] for row in rows]):.1f}" for way in ways)
    yield _row(len(rows), *means, f"{truly / listed:.2f}", f"{truly / wrong:.2f}")


def beside_cleanlab(rows: Iterable[Row]) -> Iterator[str]:
    """Means over seeds."""
    yield from _head("wrong labels", "way", "epochs", "cost in epochs", "area", "the list's precision", "recall")
    for (share, way, epochs), of in by(rows, "share", "way", "epochs"):
        means = (f"{np.mean([row[key] for row in of]):.3f}" for key in ("area", "precision", "recall"))
        yield _row(f"{100 * share:g} %", way, epochs, f"{of[0]['cost']:g}", *means)


def of_short() -> list[Group]:
    """The groups of the README's table."""
    found = {(g.task, g.share): g for g in groups(WRONG_LABELS.read()) if g.noise == "drawn" and not g.auto}
    return [found[task, share] for task, _, share in SHORT]


def short() -> str:
    """The README's table: some of the tasks with enough seeds."""
    lines = [*_head("test errors in %", "wrong labels", "dense only", "stopped early", "DSD", "DSD, suspects dropped")]
    for (_, about, share), g in zip(SHORT, of_short(), strict=True):
        errors = [f"{g.mean(arm):.1f}" for arm in (DENSE, EARLY, DSD, DROPPED)]
        lines.append(_row(about, f"{100 * share:g} %" if share else "none", *errors))
    return _lines(lines)


def found_by_auto(auto: Iterable[Group], swept: Iterable[Group]) -> Iterator[str]:
    """What the search chose, beside the best of the sweep, which right labels tell."""
    yield from _head("task", "wrong labels", "seeds", "auto chose", "DSD's error", "the sweep's best", "its error")
    sweeps = {(g.task, g.noise, g.share): g for g in swept}
    for g in auto:
        chose = ", ".join(f"{100 * value:g} %" for value in g.chosen(DSD))
        line = [g.task, _noise(g), len(g.rows), chose, f"{g.mean(DSD):.1f}"]
        if sweep := sweeps.get((g.task, g.noise, g.share)):
            best, seeds = sweep.best(), {row["seed"] for row in g.rows}
            there = [row["arms"][f"dsd-{best}"]["error"] for row in sweep.rows if row["seed"] in seeds]
            line += [_percent(best), f"{np.mean(there):.1f}"]
        yield _row(*line, *[""] * (7 - len(line)))


def default_recipe(rows: Iterable[Row]) -> Iterator[str]:
    """What the recipe without a recipe does."""
    yield from _head("task", "seeds", "as it came", "default", "less as it came", "", "less dense only", "")
    for (task,), of in by(rows, "task"):
        came, fitted = ([row[arm]["loss"] for row in of] for arm in ("as it came", "fitted"))
        dense = [row["dense only"]["loss"] for row in of if "dense only" in row]
        less = _said(lower(fitted, dense), 4) if len(dense) == len(of) else ("not measured", "")
        yield _row(
            task, len(of), *(f"{np.mean(of_):.4f}" for of_ in (came, fitted)), *_said(lower(fitted, came), 4), *less
        )


def cost(swept: Iterable[Group], folds: Iterable[Row]) -> str:
    """How much longer the same epochs take under the mask, where there are seeds enough: one may have had to wait."""
    ratios = [g.seconds() for g in swept if len(g.timed) >= ENOUGH]
    ratios += [
        float(np.median([row["arms"][DSD]["seconds"] / row["arms"][DENSE]["seconds"] for row in rows]))
        for _, rows in by((row for row in folds if not row.get("held")), "task")
        if len(rows) >= ENOUGH
    ]
    middle, spread = f"{np.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"
    return (
        f"DSD has as many steps as dense only. Its training took {middle} times as long in the median over "
        f"{len(ratios)} tasks,\n{spread}, one thread on a machine with other work."
    )


def _arm(row: Row, kind: str) -> float:
    found: float = next(arm["error"] for name, arm in row["arms"].items() if name.startswith(kind))
    return found


def _said(found: Any, digits: int) -> tuple[str, str]:
    return difference(found, digits), word(found)


def _noise(g: Group) -> str:
    return f"{100 * g.share:g} %, {NOISE[g.noise]}" if g.share else "none"


def _percent(sparsity: str) -> str:
    return f"{100 * float(sparsity):g} %"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _table(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    columns, *others = rows
    yield from _head(*map(str, columns))
    yield from (_row(*cells) for cells in others)


def _head(*columns: str) -> Iterator[str]:
    yield _row(*columns)
    yield "|" + "---|" * len(columns)


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
