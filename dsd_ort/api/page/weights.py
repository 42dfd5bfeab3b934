"""What became of the weights, drawn: density and movement by layer, figure 2 of the paper, heat over layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dsd_ort.api.page.draw import BLUE, GRID, INK, MUTED, RED, SERIES, legend, log_scale, logarithmic, picture, short
from dsd_ort.api.page.layout import Picture, Table
from dsd_ort.notes import plain
from dsd_ort.run.borders import Histograms, Layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 48
"""More layers are not drawn beside each other: the largest are, and the table has all."""
CUT = 3
"""Times the room that what was not pruned takes, from where what came back is cut off: it would leave none."""
_ROW = 0.19  # inches


def density(layers: Sequence[Layer], phases: Sequence[str]) -> Picture:
    """The share of weights that are not zero, of each prunable layer after each phase."""
    drawn = largest([layer for layer in layers if layer.prunable])
    means = [
        sum(layer.density[i] * layer.size for layer in drawn) / sum(layer.size for layer in drawn)
        for i in range(1, len(phases) + 1)
    ]
    said = ", ".join(f"{100 * mean:.1f} % after {name}" for mean, name in zip(means, phases, strict=True))

    def paint(panels: list[Axes]) -> None:
        _dots(panels[0], drawn, phases, [[100 * d for d in layer.density[1:]] for layer in drawn])
        panels[0].set_xlim(0, 103)
        panels[0].set_xlabel("weights that are not zero, %")

    text = f"Of the weights that may be pruned, {said} are not zero; each dot is a layer after a phase."
    return picture("Density by layer", text, paint, name="density", height=_height(drawn))


def movement(layers: Sequence[Layer], phases: Sequence[str]) -> Picture:
    """How far each layer moved in each phase."""
    drawn = largest(layers)
    most = max(((m, layer.name) for layer in drawn for m in layer.moved if math.isfinite(m)), default=(0.0, ""))

    def paint(panels: list[Axes]) -> None:
        rows = [[m if math.isfinite(m) and m > 0 else math.nan for m in layer.moved] for layer in drawn]
        _dots(panels[0], drawn, phases, rows)
        if logarithmic([m for row in rows for m in row if not math.isnan(m)], 20):
            log_scale(panels[0], "x")
        else:
            panels[0].set_xlim(left=0)
        panels[0].set_xlabel("way, in lengths of the layer's weights before the phase")

    text = (
        "The distance between a layer's weights before and after each phase, over their length before it. "
        f"Farthest: {plain(most[1])}, {most[0]:.2g}."
    )
    return picture("How far each layer moved", text, paint, name="moved", height=_height(drawn))


def table(layers: Sequence[Layer], phases: Sequence[str]) -> Table:
    """All layers, in words."""
    columns = ["layer", "shape", "weights"]
    columns += [f"density after {name}" for name in phases] + [f"moved in {name}" for name in phases]
    columns += ["came back"]
    rows = [
        [
            layer.name,
            " × ".join(map(str, layer.shape)),
            f"{layer.size:,}",
            *(f"{100 * d:.1f} %" for d in layer.density[1:]),
            *(f"{m:.3g}" for m in layer.moved),
            _returned(layer.histograms),
        ]
        for layer in layers
    ]
    return Table("Layers in numbers", columns, rows, folded=True)


def _returned(found: Histograms | None) -> str:
    return "" if found is None or found.returned is None or not found.count else f"{100 * found.returned:.1f} %"


def figure_2(layer: Layer, number: int) -> Picture:
    """Five moments of a layer around the sparse phase, below each other on one axis of weights."""
    found = layer.histograms
    assert found is not None, "the layer was not pruned"
    share = found.count / max(1, layer.size)
    followed = len(found.kept) == 3
    moments = ["before pruning", "pruned", "after sparse", *(["restored", "after dense"] if followed else [])]
    kept = [found.kept[0], found.kept[0], found.kept[1], *([found.kept[1], found.kept[2]] if followed else [])]
    pruned = [found.pruned[0], None, None, *([None, found.pruned[1]] if followed else [])]
    at_zero = [0, 0, 0, *([found.count, 0] if followed else [])]
    text = f"{100 * share:.1f} % of {layer.size:,} weights were pruned: all up to a magnitude of {found.threshold:.3g}."
    if not found.count:
        text = f"None of {layer.size:,} weights was pruned."
    elif followed:
        text += f" Of these, {100 * (found.returned or 0):.1f} % are above it in the end."

    def paint(panels: list[Axes]) -> None:
        width = found.edges[1] - found.edges[0]
        room = 1.4 * max(1, *(int(counts.max()) for counts in found.kept))
        for axes, name, stay, go, zeros in zip(panels, moments, kept, pruned, at_zero, strict=True):
            axes.stairs(stay, found.edges, fill=True, color=BLUE, linewidth=0)
            if go is not None:
                axes.stairs(stay + go, found.edges, baseline=stay, fill=True, color=RED, linewidth=0)
            whole = stay + (0 if go is None else go)
            top = room if int(whole.max()) > CUT * room else max(room, 1.18 * int(whole.max()))
            if zeros:
                axes.bar([0], [top], width, color=RED, linewidth=0)
            said = f"{zeros:,} at 0" if zeros else f"cut: to {whole.max():,}" if whole.max() > top else ""
            place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
            axes.annotate(said, (0, 0.97), (6, 0), va="top", fontsize=7.5, color=INK, **place)
            axes.set_ylim(0, top)
            axes.set_yticks([])
            axes.grid(visible=False)
            axes.spines["left"].set_visible(False)
            axes.text(0, 0.97, name, transform=axes.transAxes, va="top", fontsize=8, color=INK)
        panels[-1].set_xlabel("weight")

    rows, height = len(moments), 0.4 + 0.68 * len(moments)
    name = f"layer-{number}"
    return picture(plain(layer.name), text, paint, name=name, panels=rows, width=3.4, height=height, size="third")


def heat(
    title: str, text: str, *, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]], unit: str
) -> Picture:
    """A heat map, as of a scan: layers × sparsities.

    Args:
        title: stands above it.
        text: says the same in words.
        rows: names, of layers.
        columns: names, of sparsities.
        values: a number for each row and column; NaN is left blank.  More is darker.
        unit: of the values, with what they are.
    """
    from matplotlib.colors import to_rgba

    finite = [value for row in values for value in row if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    # One colour in as many strengths: it is seen on white and on black, and by everybody.
    reach = high - low or 1.0

    def paint(panels: list[Axes]) -> None:
        [axes] = panels
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                if not math.isfinite(value):
                    continue
                strength = 0.06 + 0.94 * (value - low) / reach
                axes.barh([i], [0.96], left=[j - 0.48], height=0.92, color=to_rgba(RED, strength), linewidth=0)
                axes.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=7, color=INK)
        axes.set_xticks(range(len(columns)), list(columns))
        axes.set_yticks(range(len(rows)), [short(name) for name in rows])
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False)
        axes.set_xlabel(unit)
        for side in axes.spines.values():
            side.set_visible(False)

    width, height = 1.6 + 0.5 * len(columns), 0.8 + 0.24 * len(rows)
    return picture(title, text, paint, name="heat", width=width, height=height, size="wide")


def largest(layers: Sequence[Layer]) -> list[Layer]:
    """As many as a drawing has room for, in the model's order."""
    chosen = {layer.name for layer in sorted(layers, key=lambda layer: -layer.size)[:ROWS]}
    return [layer for layer in layers if layer.name in chosen]


def _height(layers: Sequence[Layer]) -> float:
    return max(1.6, 0.85 + _ROW * len(layers))


def _dots(axes: Axes, layers: Sequence[Layer], phases: Sequence[str], values: Sequence[Sequence[float]]) -> None:
    """A row a layer, a dot a phase; of many phases the first colours come again with other marks."""
    marks = "oDs^v"
    for i, name in enumerate(phases):
        axes.plot(
            [row[i] for row in values],
            range(len(layers)),
            linestyle="none",
            marker=marks[i % len(marks)],
            markersize=4.5,
            color=SERIES[i % len(SERIES)],
            label=name,
            clip_on=False,
        )
    axes.set_yticks(range(len(layers)), [short(layer.name) for layer in layers])
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.tick_params(axis="y", colors=MUTED)
    axes.grid(color=GRID)
    legend(axes, 3)
