"""What a run recorded over its updates, drawn: losses, metrics, learning rate, speed, and where the time went."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from dsd_ort.api.numbers import duration, format_value
from dsd_ort.api.page.draw import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    RED,
    SHADE,
    counted,
    legend,
    log_scale,
    logarithmic,
    picture,
    thinned,
)
from dsd_ort.api.page.layout import Picture
from dsd_ort.recipe.names import PERCENTAGES
from dsd_ort.run.journal import AS_IT_CAME, Event
from dsd_ort.run.metrics import HIGHER_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes


LETTER, ROW = 0.018, 0.09
"""The share of an axis that a letter of a phase's name takes, and a row of names."""


class Span(NamedTuple):
    """A phase, and its updates."""

    number: int
    kind: str
    sparsity: float | None
    start: int
    stop: int

    @property
    def name(self) -> str:
        return self.kind + (f" {100 * self.sparsity:g} %" if self.sparsity is not None else "")


class Times(NamedTuple):
    """Where the seconds of a phase went."""

    phase: str
    computing: float
    waiting: float
    """For data."""
    beside: float
    """Evaluating, saving, pruning."""


def spans(events: Sequence[Event]) -> list[Span]:
    """The phases that began, each as far as it is."""
    begins = [event for event in events if event["event"] == "phase"]
    found = []
    for event in begins:
        own = [e["step"] for e in events if e.get("phase") == event["phase"]]
        found.append(Span(event["phase"], event["kind"], event["sparsity"], event["step"], max(own)))
    return found


def times(events: Sequence[Event], resumed: Sequence[Event]) -> list[Times]:
    """Of the phases that are complete; the time between a stop and the resumption does not count."""
    stops, found = [event["time"] for event in resumed], []
    for span in spans(events):
        own = [event for event in events if event.get("phase") == span.number]
        if own[-1]["event"] != "phase-end":
            continue
        trained = own[-1]["seconds"]
        passed = sum(
            new["time"] - old["time"]
            for old, new in pairwise(own)
            if not any(old["time"] <= stop <= new["time"] for stop in stops)
        )
        shares = [event["waiting"] for event in own if event["event"] == "progress" and "waiting" in event]
        waiting = trained * sum(shares) / max(1, len(shares))
        name = f"{span.number} {span.name}"
        found.append(Times(name, trained - waiting, waiting, max(0.0, passed - trained)))
    return found


def pictures(events: Sequence[Event], resumed: Sequence[Event]) -> Iterator[Picture]:
    """All that there is something to draw of."""
    phases = spans(events)
    progress = [event for event in events if event["event"] == "progress"]
    epochs = [event for event in events if event["event"] == "epoch"]
    if epochs:
        yield _loss(phases, progress, epochs, events)
    for metric in dict.fromkeys(name for event in epochs for name in event["metrics"] if name != "loss"):
        yield _metric(metric, phases, epochs, events)
    if progress:
        yield _rate(phases, progress)
        yield _speed(phases, progress)
    if found := times(events, resumed):
        yield _times(found)


def _loss(
    phases: Sequence[Span], progress: Sequence[Event], epochs: Sequence[Event], events: Sequence[Event]
) -> Picture:
    measured = [event for event in epochs if "loss" in event["metrics"]]
    came = as_it_came(events).get("loss")
    trained = [event["train_loss"] for event in epochs]
    said = f"The training loss went from {trained[0]:.4g} in the first epoch to {trained[-1]:.4g} in the last"
    if measured:
        held_out = [event["metrics"]["loss"] for event in measured]
        said += f", the loss on the evaluation data from {held_out[0]:.4g} to {held_out[-1]:.4g}"
        said += f", lowest {min(held_out):.4g}"
    said += "" if came is None else f". The model came with {came:.4g}"

    def paint(panels: list[Axes]) -> None:
        [axes] = panels
        batches = [event["loss"] for event in progress]
        axes.plot(*thinned(_steps(progress), batches), color=BLUE, alpha=0.3, linewidth=0.8, label="batches")
        axes.plot(*thinned(_steps(epochs), trained), color=BLUE, label="training")
        values = [*batches, *trained]
        if measured:
            held_out = [event["metrics"]["loss"] for event in measured]
            axes.plot(*thinned(_steps(measured), held_out), color=RED, label="evaluation", **_dots(measured))
            values += held_out
        if came is not None:
            axes.axhline(came, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), label="as it came")
        if logarithmic(values):
            log_scale(axes, "y")
        _shade(axes, phases)
        legend(axes)

    return picture("Loss", f"{said}.", paint, name="loss")


def _metric(metric: str, phases: Sequence[Span], epochs: Sequence[Event], events: Sequence[Event]) -> Picture:
    measured = [event for event in epochs if metric in event["metrics"]]
    values = [event["metrics"][metric] for event in measured]
    best = (max if HIGHER_IS_BETTER.get(metric, False) else min)(values)
    first = values.index(best)
    came, scale = as_it_came(events).get(metric), 100 if metric in PERCENTAGES else 1
    said = (
        f"{metric} on the evaluation data ends at {format_value(metric, values[-1])}; the best epoch has "
        f"{format_value(metric, best)}, at update {measured[first]['step']:,}"
    )
    said += "" if came is None else f". The model came with {format_value(metric, came)}"

    def paint(panels: list[Axes]) -> None:
        [axes] = panels
        axes.plot(*thinned(_steps(measured), [scale * v for v in values]), color=RED, **_dots(measured))
        mark: dict[str, Any] = {"color": INK, "marker": "o", "markersize": 5, "fillstyle": "none", "linestyle": "none"}
        axes.plot([measured[first]["step"]], [scale * best], label="best", **mark)
        if came is not None:
            axes.axhline(scale * came, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), label="as it came")
        _shade(axes, phases)
        legend(axes)

    unit = ", %" if metric in PERCENTAGES else ""
    better = "higher" if HIGHER_IS_BETTER.get(metric, False) else "lower"
    return picture(f"{metric}{unit}", f"{said}. {better.capitalize()} is better.", paint, name=f"metric-{metric}")


def _rate(phases: Sequence[Span], progress: Sequence[Event]) -> Picture:
    rates = [event["learning_rate"] for event in progress]

    def paint(panels: list[Axes]) -> None:
        [axes] = panels
        for span in phases:
            own = [event for event in progress if event["phase"] == span.number]
            axes.plot(*thinned(_steps(own), [e["learning_rate"] for e in own]), color=GREEN)
        if logarithmic(rates, 8):
            log_scale(axes, "y")
        _shade(axes, phases)

    parts = []
    for span in phases:
        if own := [event["learning_rate"] for event in progress if event["phase"] == span.number]:
            ends = f"{own[0]:.3g}" if own[0] == own[-1] else f"{own[0]:.3g} to {own[-1]:.3g}"
            parts.append(f"{ends} in phase {span.number}")
    return picture("Learning rate", f"Of the recipe: {', '.join(parts)}.", paint, name="rate")


def _speed(phases: Sequence[Span], progress: Sequence[Event]) -> Picture:
    speeds = [event["examples_per_second"] for event in progress]

    def paint(panels: list[Axes]) -> None:
        [axes] = panels
        axes.plot(*thinned(_steps(progress), speeds), color=PURPLE)
        axes.set_ylim(0, 1.05 * max(speeds))
        counted(axes, "y")
        _shade(axes, phases)

    middle = sorted(speeds)[len(speeds) // 2]
    text = f"Half of the time {middle:,.0f} examples a second or more; each point is the mean since its epoch began."
    return picture("Examples a second", text, paint, name="speed")


def _times(found: Sequence[Times]) -> Picture:
    parts: list[tuple[str, str, Callable[[Times], float]]] = [
        ("computing", BLUE, lambda t: t.computing),
        ("waiting for data", RED, lambda t: t.waiting),
        ("evaluating, saving", GREEN, lambda t: t.beside),
    ]
    totals = [sum(part(t) for t in found) for _, _, part in parts]
    whole = sum(totals) or 1.0
    shares = (f"{100 * total / whole:.0f} % {name}" for (name, _, _), total in zip(parts, totals, strict=True))

    def paint(panels: list[Axes]) -> None:
        [axes] = panels
        rows = range(len(found))
        left = [0.0] * len(found)
        for name, colour, part in parts:
            widths = [part(t) for t in found]
            axes.barh(rows, widths, left=left, height=0.55, color=colour, label=name)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set_yticks(rows, [t.phase for t in found])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("seconds")
        legend(axes, 3)

    text = f"{duration(whole)} in all phases: {', '.join(shares)}."
    return picture("Where the time went", text, paint, name="times", height=max(1.5, 0.9 + 0.36 * len(found)))


def _shade(axes: Axes, phases: Sequence[Span]) -> None:
    """Sparse phases on a darker ground, all with their names, and the axis of updates."""
    low, high = axes.get_ylim()
    whole = max(1, phases[-1].stop - phases[0].start)
    ends: list[float] = []  # of the last name in each row
    for span in phases:
        if span.kind == "sparse":
            axes.axvspan(span.start, span.stop, color=SHADE, linewidth=0, zorder=0)
        half = whole * LETTER * len(span.name) / 2
        middle = min(max((span.start + span.stop) / 2, phases[0].start + half), phases[-1].stop - half)
        row = next((row for row, end in enumerate(ends) if end < middle - half), len(ends))
        ends[row : row + 1] = [middle + half]
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axes.annotate(
            span.name, (middle, 1), (0, -2 - 9 * row), ha="center", va="top", fontsize=7.5, color=MUTED, **place
        )
    room = ROW * len(ends)
    axes.set_ylim(low, high * (high / low) ** room if axes.get_yscale() == "log" else high + room * (high - low))
    axes.set_xlim(phases[0].start, phases[0].start + whole)
    counted(axes, "x")
    axes.set_xlabel("updates")


def _steps(events: Sequence[Event]) -> list[int]:
    return [event["step"] for event in events]


def _dots(events: Sequence[Event]) -> dict[str, Any]:
    """Marks, while there are few of them."""
    return {"marker": "o", "markersize": 2.5} if len(events) <= 60 else {}


def as_it_came(events: Sequence[Event]) -> dict[str, float]:
    """What the model measured before the first step; empty where it was not measured."""
    found: dict[str, float] = next(
        (e["metrics"] for e in events if e["event"] == "measured" and e["name"] == AS_IT_CAME), {}
    )
    return found
