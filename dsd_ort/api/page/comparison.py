"""The page of a comparison: its arms, how they differ by seed, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dsd_ort.api.comparison import answer, document, ladder, report
from dsd_ort.api.comparison.answer import Row, of_arm
from dsd_ort.api.comparison.arms import DENSE_ONLY
from dsd_ort.api.comparison.document import Document
from dsd_ort.api.comparison.folder import FOLDERS
from dsd_ort.api.numbers import format_column, format_difference, format_value, heading
from dsd_ort.api.page.draw import BLUE, GRID, INK, MUTED, RED, counted, legend, picture, short, thinned
from dsd_ort.api.page.layout import Facts, Figure, Page, Part, Picture, Section, Sheet, Source, Table
from dsd_ort.errors import RunError
from dsd_ort.recipe import Recipe, to_toml
from dsd_ort.recipe.names import PERCENTAGES
from dsd_ort.run.journal import AS_IT_CAME, read
from dsd_ort.run.metrics import HIGHER_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def page(folder: Path, sheets: Sequence[Sheet] = ()) -> Page:
    """Of a folder of ``compare``: an experiment, or DSD beside dense only.

    Raises:
        RunError: it has no result yet, or one that cannot be read.
    """
    found = document.read(folder)
    made = _of_experiment(folder, found) if found is not None else _of_two(folder)
    more = [Section("Suspects", parts=sheets)] if sheets else []
    return replace(made, sections=[*made.sections, *more])


def _nothing(folder: Path) -> RunError:
    return RunError(
        "there is nothing to report: no training of the comparison is measured yet",
        where=str(folder),
        fix="give the compare command again: it goes on where it was",
    )


def _of_experiment(folder: Path, found: Document) -> Page:
    if not found.results:
        raise _nothing(folder)
    known = answer.known(found, [])
    rows = list(answer.table(found, known, folder))
    metric, seeds = found.monitor, len({result.seed for result in found.results})
    said = found.verdict or tuple(answer.sentences(found, known, folder))
    facts = [
        ("model", found.source_digest),
        ("training data", found.data),
        ("data that choose", found.selection),
        ("data that measure", found.evaluation),
        ("diverged", "; ".join(f"{d.arm}, seed {d.seed}: {d.why}" for d in found.diverged) or "none"),
    ]
    parts: list[Part] = [_by_seed(found, rows)]
    if any(row.against is not None and row.arm != AS_IT_CAME for row in rows):
        parts.append(_differences(found, rows))
    parts += [_arms(rows, metric), _results(found)]
    return Page(
        title=f"{folder.name}: {len(known)} ways to train, {seeds} {'seeds' if seeds > 1 else 'seed'}",
        subtitle=f"A comparison by dsd-ort in {folder}.",
        figures=list(_figures(found, rows)),
        sections=[
            Section("What was found", points=said),
            Section("The arms", [_explained(metric)], parts=parts),
            *([Section("Short sparse phases", parts=[_ladder(found)])] if found.ladder else []),
            Section("What it was", parts=[Facts("Facts", facts), Source("The recipe", _toml(found))]),
        ],
    )


def _toml(found: Document) -> str:
    return to_toml(Recipe.from_dict(found.recipe, where=document.FILE))


def _explained(metric: str) -> str:
    better = "higher" if HIGHER_IS_BETTER[metric] else "lower"
    return (
        f"All numbers are {metric} on the evaluation data, which chose nothing; {better} is better. A difference is an "
        "arm less dense only with the same seed; its interval holds 95 %."
    )


def _figures(found: Document, rows: Sequence[Row]) -> Iterator[Figure]:
    metric = found.monitor
    if found.final is not None:
        title = {row.arm: row.title for row in rows}.get(found.final.arm, found.final.arm)
        value = format_value(metric, found.final.measured.evaluation[metric])
        yield Figure("final.onnx", value, f"{title}{'' if found.final.seed is None else f', seed {found.final.seed}'}")
    yield Figure("as it came", format_value(metric, found.came.evaluation[metric]), heading(metric))
    for row in rows:
        if row.arm == DENSE_ONLY and row.evaluation:
            yield Figure("dense only", format_value(metric, row.evaluation[metric]), f"mean of {row.seeds}")


def _by_seed(found: Document, rows: Sequence[Row]) -> Picture:
    """Each arm's result with each seed, and their mean."""
    metric, scale = found.monitor, _scale(found.monitor)
    drawn = [row for row in rows if row.evaluation and row.arm != AS_IT_CAME]
    came = scale * found.came.evaluation[metric]

    def paint(panels: list[Axes]) -> None:
        [axes] = panels
        for i, row in enumerate(drawn):
            results = of_arm(found, row.arm).values()
            values = [scale * r.measured.evaluation[metric] for r in results]
            axes.plot(values, [i] * len(values), "o", color=BLUE, alpha=0.45, markersize=4.5, markeredgewidth=0)
            axes.plot([scale * row.evaluation[metric]], [i], "|", color=INK, markersize=13, markeredgewidth=1.8)
        low, high = axes.get_xlim()
        if low - (high - low) < came < high + (high - low):  # otherwise nobody would tell the arms apart
            axes.axvline(came, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), label="as it came")
            legend(axes)
        _names(axes, drawn)
        axes.set_xlabel(_unit(metric))

    parts = (f"{row.title} {format_value(metric, row.evaluation[metric])}" for row in drawn)
    text = f"Dots are seeds, bars their means: {', '.join(parts)}. It came with {format_value(metric, came / scale)}."
    return picture("By arm and seed", text, paint, name="arms", height=_height(drawn))


def _differences(found: Document, rows: Sequence[Row]) -> Picture:
    """From dense only, by seed, with intervals."""
    metric, scale = found.monitor, _scale(found.monitor)
    drawn = [row for row in rows if row.against is not None and row.arm != AS_IT_CAME]
    base = of_arm(found, DENSE_ONLY)

    def paint(panels: list[Axes]) -> None:
        [axes] = panels
        axes.axvline(0, color=MUTED, linewidth=1)
        for i, row in enumerate(drawn):
            assert row.against is not None
            mine = of_arm(found, row.arm)
            pairs = [
                scale * (mine[s].measured.evaluation[metric] - base[s].measured.evaluation[metric])
                for s in sorted(mine.keys() & base.keys())
            ]
            axes.plot(pairs, [i - 0.16] * len(pairs), "o", color=BLUE, alpha=0.45, markersize=4, markeredgewidth=0,
                      label="a seed" if i == 0 else None)  # fmt: skip
            if row.against.interval is not None:
                ends = [scale * end for end in row.against.interval]
                axes.plot(ends, [i + 0.16] * 2, color=RED, linewidth=2, label="95 % interval" if i == 0 else None)
            axes.plot([scale * row.against.mean], [i + 0.16], "o", color=RED, markersize=5)
        _names(axes, drawn)
        axes.set_xlabel(f"{_unit(metric)}, less dense only's")
        legend(axes)

    found_ = ((row.title, format_difference(row.against, metric)) for row in drawn if row.against is not None)
    text = f"Means, and where they lie with 95 %: {'; '.join(f'{title} {said}' for title, said in found_)}."
    return picture("Differences from dense only", text, paint, name="differences", height=_height(drawn) + 0.2)


def _arms(rows: Sequence[Row], metric: str) -> Table:
    metrics = list(rows[0].evaluation)
    columns = [format_column(name, [row.evaluation.get(name) for row in rows]) for name in metrics]
    cells = zip(
        [row.title for row in rows],
        [str(row.seeds or "") + (f" ({row.diverged} diverged)" if row.diverged else "") for row in rows],
        *columns,
        [
            "" if row.against is None or row.arm == AS_IT_CAME else format_difference(row.against, metric)
            for row in rows
        ],
        ["" if row.density is None else f"{row.density:.3f}" for row in rows],
        ["" if row.seconds is None else f"{row.seconds:.1f}" for row in rows],
        strict=True,
    )
    names = ["arm", "seeds", *map(heading, metrics), f"{_unit(metric)}, less dense only's (95 %)", "density", "seconds"]
    return Table("Means over the seeds; * is the best of a column", names, [[*row] for row in cells])


def _results(found: Document) -> Table:
    metrics = list(found.came.evaluation)
    rows = [
        [
            f"{r.title}, seed {r.seed}",
            *(format_value(name, r.measured.evaluation[name]) for name in metrics if name in r.measured.evaluation),
            f"{r.phase}, {r.epoch}",
            f"{r.density:.3f}",
        ]
        for r in found.results
    ]
    return Table("Every training", ["training", *map(heading, metrics), "phase, epoch", "density"], rows, folded=True)


def _ladder(found: Document) -> Table:
    metric, best = found.monitor, ladder.top(found.ladder, found.monitor)
    rows = [
        [
            ("dense" if not rung.sparsity else f"{100 * rung.sparsity:g} %") + (" *" if rung == best else ""),
            format_value(metric, rung.selection[metric]) if metric in rung.selection else "not finite",
            "" if rung.fit is None else f"{100 * rung.fit:.1f} %",
        ]
        for rung in found.ladder
    ]
    return Table("Which sparsity", ["sparsity", f"{metric} on what chooses", "fits the training labels"], rows)


def _of_two(folder: Path) -> Page:
    """DSD beside dense only, one seed."""
    found = report.read(folder)
    if not found.rows:
        raise _nothing(folder)
    metrics = list(dict.fromkeys(name for row in found.rows for name in row.metrics))
    columns = [format_column(name, [row.metrics.get(name) for row in found.rows]) for name in metrics]
    cells = zip(
        [row.training if not row.phase else f"{row.training}, phase {row.phase} {row.kind}" for row in found.rows],
        *columns,
        [f"{row.density:.3f}" for row in found.rows],
        [f"{row.seconds:.1f}" if row.phase else "" for row in found.rows],
        strict=True,
    )
    names = ["training", *map(heading, metrics), "density", "seconds"]
    table = Table("After each phase; * is the best of a column", names, [[*row] for row in cells])
    final, came = found.metrics or {}, found.came or {}
    before = {name: f"came with {format_value(name, came[name])}" for name in came}
    figures = [Figure(heading(name), format_value(name, final[name]), before.get(name, "")) for name in list(final)[:4]]
    said = ["One seed: which of the two is better by how much, several seeds tell (--seeds 3)."]
    return Page(
        title=f"{folder.name}: DSD beside dense only",
        subtitle=f"A comparison by dsd-ort in {folder}.",
        figures=figures,
        sections=[Section("What was found", said, parts=[table, *_side_by_side(folder)])],
    )


def _side_by_side(folder: Path) -> Iterator[Picture]:
    """Each metric of both trainings over their updates, as far as their run folders are there."""
    epochs = {
        name: [event for event in read(folder / run) if event["event"] == "epoch"] for name, run in FOLDERS.items()
    }
    for metric in dict.fromkeys(name for events in epochs.values() for event in events for name in event["metrics"]):
        scale = _scale(metric)
        ends = (
            f"{name} {format_value(metric, events[-1]['metrics'][metric])}" for name, events in epochs.items() if events
        )

        def paint(panels: list[Axes], metric: str = metric, scale: int = scale) -> None:
            [axes] = panels
            for colour, (name, events) in zip((RED, BLUE), epochs.items(), strict=True):
                values = [scale * event["metrics"][metric] for event in events]
                axes.plot(*thinned([event["step"] for event in events], values), color=colour, label=name)
            counted(axes, "x")
            axes.set_xlabel("updates")
            legend(axes)

        text = f"On the evaluation data, after each epoch; in the end {', '.join(ends)}."
        yield picture(_unit(metric), text, paint, name=f"metric-{metric}")


def _scale(metric: str) -> int:
    return 100 if metric in PERCENTAGES else 1


def _unit(metric: str) -> str:
    return f"{metric}, %" if metric in PERCENTAGES else metric


def _height(rows: Sequence[Row]) -> float:
    return max(1.5, 0.75 + 0.32 * len(rows))


def _names(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_yticks(range(len(rows)), [short(row.title) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", colors=MUTED)
    axes.grid(color=GRID)
