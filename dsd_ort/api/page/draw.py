"""Drawings as SVG that stands in a page: matplotlib draws, the page's style sheet says in which colours.

A colour is drawn as a code that no other part of a drawing has, and becomes a variable of the style sheet: so one
drawing serves on white, on black and on paper.  Text stays text, in the page's own type.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dsd_ort.api.page.layout import Picture, require_extra
from dsd_ort.notes import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID, SHADE, PAPER = "#010101", "#010102", "#010103", "#010104", "#010105"
BLUE, RED, GREEN, PURPLE = "#010201", "#010202", "#010203", "#010204"
"""Okabe and Ito's blue, vermilion, bluish green and reddish purple, or on black sky blue, orange and so on."""
SERIES = (BLUE, RED, GREEN, PURPLE)
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    SHADE: "shade",
    PAPER: "paper",
    BLUE: "blue",
    RED: "red",
    GREEN: "green",
    PURPLE: "purple",
}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.0,
    "legend.borderpad": 0.0,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
WIDTH, HEIGHT = 4.6, 2.7
"""Inches of a drawing that has half of a page."""
LARGEST = 1.5
"""Pixels that a point of a drawing takes at most, however wide the page is."""
POINTS = 1000
"""More of a line are not drawn."""
_SHORT = 28


def picture(
    title: str,
    text: str,
    paint: Callable[[list[Axes]], None],
    *,
    name: str,
    width: float = WIDTH,
    height: float = HEIGHT,
    panels: int = 1,
    size: Literal["half", "third", "wide"] = "half",
) -> Picture:
    """What *paint* draws on axes below each other.

    Args:
        title: stands above it.
        text: says the same in words.
        paint: draws.
        name: of letters, another one for each drawing of a page.
        width: in inches.
        height: in inches.
        panels: how many axes, with one x axis for all.
        size: how much of a wide page it takes.

    Raises:
        InstallationError: matplotlib is missing.
    """
    require_extra()
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {**_STYLE, "svg.hashsalt": name}  # matplotlib names the keys in a type
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of signs that the type has no picture of: the page's type has
        figure = Figure(figsize=(width, height), layout="constrained" if panels == 1 else None)
        FigureCanvasSVG(figure)
        axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        if panels > 1:  # nothing stands beside these: what lays out exactly takes most of the time
            figure.subplots_adjust(left=0.03, right=0.97, top=0.99, bottom=0.42 / height, hspace=0.22)
        paint(list(axes))
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Picture(title, text, inline(file.getvalue(), name), size)


def inline(svg: str, name: str) -> str:
    """An SVG document as an element of a page, whose ids begin with *name*."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    [(box, width)] = re.findall(r'<svg [^>]*?viewBox="(\S+ \S+ (\S+) [^"]*)"', svg)
    head = f'<svg viewBox="{box}" style="max-width: {LARGEST * float(width):.0f}px" aria-hidden="true">'
    svg = head + svg.partition(">")[2]
    svg = re.sub(r"<[^>]+>|[^<\s]+", lambda part: _tag(part[0], name) if part[0][0] == "<" else plain(part[0]), svg)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


def _tag(tag: str, name: str) -> str:
    """A tag: text is left alone, whatever it looks like."""
    tag = re.sub(r'(<g) id="[^"]*"| transform="rotate\(-0[^"]*"', r"\1", tag)
    tag = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", re.sub(r" \n([A-Z])", r"\1", tag))
    tag = re.sub(r'\bid="|url\(#|href="#', lambda found: f"{found[0]}{name}-", tag).replace("xlink:href", "href")
    tag = re.sub(r"#010[12]0\d", lambda found: f"var(--{_VARIABLES[found[0]]})", tag)
    return re.sub(r"'DejaVu Sans'(, [\w' -]+)*", "inherit", tag)


def short(name: str) -> str:
    """A name for the margin of a drawing: its ends, where it is long."""
    name = plain(name)
    half = (_SHORT - 1) // 2
    return name if len(name) <= _SHORT else f"{name[:half]}…{name[-half:]}"


def thinned(x: Sequence[float], y: Sequence[float], points: int = POINTS) -> tuple[list[float], list[float]]:
    """At most *points* of a line, of equal stretches their least and greatest, so that no peak is lost."""
    if len(x) <= points:
        return list(x), list(y)
    values = np.asarray(y, np.float64)
    kept: set[int] = {0, len(x) - 1}
    for stretch in np.array_split(np.arange(len(x)), points // 2 - 1):
        kept |= {int(stretch[np.argmin(values[stretch])]), int(stretch[np.argmax(values[stretch])])}
    chosen = sorted(kept)
    return [x[i] for i in chosen], [y[i] for i in chosen]


def logarithmic(values: Sequence[float], ratio: float = 50) -> bool:
    """Whether *values* are all positive, and so far apart that a straight axis would hide the small ones."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > ratio * min(finite)


def log_scale(axes: Axes, which: Literal["x", "y"]) -> None:
    """Makes an axis logarithmic, with plain numbers on it, as 0.002."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0,) if high > 300 * low else (1.0, 2.0, 5.0), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def counted(axes: Axes, which: Literal["x", "y"]) -> None:
    """Whole numbers on an axis, with thousands apart, and few of them."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def legend(axes: Axes, columns: int = 4) -> None:
    """Above the axes, in a row."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.7, ncols=columns)
