"""What a person sees while a run trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dsd_ort.api.numbers import amount, duration, format_metrics
from dsd_ort.cli.say import say
from dsd_ort.notes import plain
from dsd_ort.run.journal import Event

WITHIN = ("needs", "outlook", "phase", "phase-steps", "tick", "epoch", "suspects", "phase-end")
"""What happens within a training."""
SOON = 10.0
"""Seconds that are not worth a line."""
LINE_EVERY = 30.0
"""Seconds between two plain lines within an epoch."""


@contextmanager
def reporter(*, quiet: bool = False, brief: bool = False) -> Iterator[Callable[[Event], None]]:
    """A listener for a :class:`~dsd_ort.run.journal.Journal`; everything goes to standard error.

    Where there are many trainings, *brief* leaves out what each does within.
    """
    if quiet:
        yield lambda event: None
        return
    console = Console(stderr=True, emoji=False)
    if not console.is_terminal:
        yield _brief(_Lines()) if brief else _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars = _Bars(progress)
        try:
            yield _brief(bars) if brief else bars
        finally:
            bars.clear()


def _brief(listener: Callable[[Event], None]) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        if event["event"] not in WITHIN:
            listener(event)

    return tell


@contextmanager
def doing(*, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Shows what is being done, on standard error: one line that changes on a terminal, lines elsewhere."""
    console = Console(stderr=True, emoji=False)
    if quiet or not console.is_terminal:
        yield (lambda text: None) if quiet else lambda text: say(text, err=True)
        return
    with console.status("") as status:
        yield lambda text: status.update(escape(plain(text)))


def describe(event: Event) -> str:
    """One line for an event that people should keep seeing; empty for the others."""
    said = LINES.get(event["event"])
    return said(event) if said else ""


def _training(event: Event) -> str:
    same = f"; up to the end of phase {event['taken_over']} it is the same" if event["taken_over"] else ""
    of = f"; {event['number']} of {event['of']}, about {duration(event['left'])} left" if "left" in event else ""
    return f"{event['name']}: {event['run']}{same}{of}"


def _cost(event: Event) -> str:
    size = event["bytes"] / 1e6
    runs = "one training" if event["runs"] == 1 else f"{event['runs']} trainings"
    return f"{runs} to go: about {duration(event['seconds'])}, and {size:,.0f} MB on disk"


def _needs(event: Event) -> str:
    short = "" if event["disk"] <= event["free"] else ", which is too little"
    return (
        f"it takes {amount(event['memory'])} of memory for weights, gradients and optimizer, and what a batch takes; "
        f"and up to {amount(event['disk'])} of disk, of which {amount(event['free'])} are free{short}"
    )


def _outlook(event: Event) -> str:
    if event["seconds"] < SOON:
        return ""
    memory = "" if event["memory"] is None else f", in {amount(event['memory'])} of memory"
    return f"  about {duration(event['seconds'])} of training to go{memory}; evaluation is not counted"


def _result(event: Event) -> str:
    measured = event["measured"]
    shown = [format_metrics(measured[of], f"{name} ") for of, name in (("selection", "select"), ("evaluation", "eval"))]
    return f"  {event['title']}: {'  '.join(shown)}"


def _phase(event: Event) -> str:
    rises = f"{event['sparsity_from']:g} to " if "sparsity_from" in event else ""
    sparsity = f", sparsity {rises}{event['sparsity']:g}" if event["sparsity"] is not None else ""
    length = f"{event['epochs']} epochs" if "epochs" in event else f"{event['steps']} steps"
    return f"phase {event['phase']} of {event['phases']}: {event['kind']}{sparsity}, {length}"


def _epoch(event: Event) -> str:
    shown = [format_metrics({"loss": event["train_loss"]}, "train "), format_metrics(event["metrics"], "eval ")]
    return f"  epoch {event['epoch']}: {'  '.join(filter(None, shown))}{'  *' if event['best'] else ''}"


LINES: dict[str, Callable[[Event], str]] = {
    "cost": _cost,
    "needs": _needs,
    "outlook": _outlook,
    "result": _result,
    "diverged": lambda event: f"  {event['arm']}, seed {event['seed']}, ends without a result: {event['why']}",
    "training": _training,
    "measured": lambda event: f"{event['name']}: {format_metrics(event['metrics'])}",
    "phase": _phase,
    "suspects": lambda event: f"  without {event['suspects']:,} of {event['examples']:,} examples: the suspects",
    "epoch": _epoch,
    "phase-end": lambda event: f"  {event['reason']} done in {event['seconds']:.0f} s, density {event['density']:.3f}",
    "resume": lambda event: f"going on from update {event['step']}",
    "note": lambda event: f"note: {event['text']}",
}
"""Event → what is said of it."""


class _Lines:
    """Plain lines: phases, epochs, and within long epochs one every half minute."""

    def __init__(self) -> None:
        self.steps, self.printed, self.began, self.done = 0, time.monotonic(), time.monotonic(), 0

    def __call__(self, event: Event) -> None:
        if event["event"] == "phase-steps":
            self.steps, self.done, self.began = event["steps"], event["done"], time.monotonic()
        elif event["event"] == "tick" and time.monotonic() - self.printed > LINE_EVERY:
            self.printed = time.monotonic()
            per_step = (self.printed - self.began) / max(event["done"] - self.done, 1)
            left = per_step * (self.steps - event["done"])
            say(f"  step {event['done']}/{self.steps}, {_state(event)}, {left:.0f} s left", err=True)
        elif event["event"] == "overall" and time.monotonic() - self.printed > LINE_EVERY:
            self.printed = time.monotonic()
            say(f"  {_share(event)} done, about {duration(event['left'])} left", err=True)
        elif line := describe(event):
            self.printed = time.monotonic()
            say(line, err=True)


class _Bars:
    """One bar a phase; lines that stay are printed above it."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.title = progress, ""
        self.task: Any = None

    def __call__(self, event: Event) -> None:
        if line := describe(event):
            self.progress.console.print(plain(line), highlight=False, markup=False)
        if event["event"] == "phase-steps":
            self.clear()
            self.task = self.progress.add_task("", total=event["steps"], completed=event["done"], state="")
        elif event["event"] == "tick":
            title = f"phase {event['phase']}, epoch {event['epoch']}"
            self.progress.update(self.task, completed=event["done"], description=title, state=_state(event))
        elif event["event"] == "overall":
            if self.task is None:
                self.task = self.progress.add_task("", total=event["of"], state="")
            self.progress.update(self.task, completed=event["done"], description="all trainings", state=_share(event))
        elif event["event"] == "phase-end":
            self.clear()

    def clear(self) -> None:
        """Takes the bar away."""
        if self.task is not None:
            self.progress.remove_task(self.task)
            self.task = None


def _share(event: Event) -> str:
    return f"{min(100, 100 * event['done'] / max(1, event['of'])):.0f} %"


def _state(event: Event) -> str:
    return f"loss {event['loss']:.4f}, {event['examples_per_second']:.0f} examples/s"
