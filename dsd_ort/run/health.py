"""Whether a training goes well, by what its journal holds: what somebody who watches it would say.

Each rule reads the events of the phase that goes on and says a sentence with the numbers that it saw, or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from dsd_ort.notes import listing
from dsd_ort.run.journal import Event

Rule: TypeAlias = Callable[[Sequence[Event]], str]

READ = ("progress", "epoch")
WINDOW = 10
"""Progress events that a mean is taken over, so that one batch decides nothing."""
RISES = 1.3
"""Times its lowest, from where a loss rises: more than batches scatter."""
WAITS = 0.3
"""The share of the time without data from which on the data are what takes the time."""
STALE = 3
"""Epochs in a row that are worse than the best one."""
EXPLODES = 10.0
"""Times what a phase's first losses were at most, from where three rising ones explode."""
MANY = 0.1
"""The share of updates that are left out, from which on that is no exception."""


def remarks(events: Iterable[Event]) -> list[str]:
    """What there is to say of the phase that the last of *events* is in."""
    of_phase: list[Event] = []
    for event in events:
        of_phase = [] if event["event"] == "phase" else [*of_phase, event] if event["event"] in READ else of_phase
    return [said for rule in RULES if (said := rule(of_phase))]


class Watch:
    """A listener that says each of the remarks once a phase, as soon as an epoch shows it.

    Args:
        tell: is told them as notes.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self.tell, self.events = tell, list[Event]()
        self.said = set[Rule]()
        self.ticks = list[Event]()

    def __call__(self, event: Event) -> None:
        if event["event"] == "phase":
            self.events, self.said, self.ticks = [], set(), []
        elif event["event"] == "tick" and math.isfinite(event["loss"]):
            self.ticks = [*self.ticks[:3], *self.ticks[3:][-2:], event]
            if _explodes not in self.said and (text := _explodes(self.ticks)):
                self.said.add(_explodes)
                self.tell({"event": "note", "text": text})
        elif event["event"] in READ:
            self.events.append(event)
        if event["event"] == "epoch":
            for rule in RULES:
                if rule not in self.said and (text := rule(self.events)):
                    self.said.add(rule)
                    self.tell({"event": "note", "text": text})


def _rises(events: Sequence[Event]) -> str:
    losses = [event["loss"] for event in events if event["event"] == "progress"]
    means = [sum(losses[i : i + WINDOW]) / WINDOW for i in range(0, len(losses) - WINDOW + 1, WINDOW)]
    if len(means) < 2 or means[-1] <= RISES * min(means) or min(means) <= 0:
        return ""
    return (
        f"the training loss rises: {means[-1]:.4g}, after {min(means):.4g}; a lower learning rate, or "
        "optimizer.clip_norm, would hold it"
    )


def _starves(events: Sequence[Event]) -> str:
    progress = [
        event for event in events if event["event"] == "progress" and {"waiting", "examples_per_second"} <= set(event)
    ]
    if not progress or (share := progress[-1]["waiting"]) < WAITS:
        return ""
    speed = progress[-1]["examples_per_second"]
    return (
        f"the data take {100 * share:.0f} % of the time: {speed:,.0f} examples/s, and the model could do "
        f"{speed / max(1 - share, 1e-3):,.0f}"
    )


def _overtrains(events: Sequence[Event]) -> str:
    """The evaluation loss goes up while the training loss goes down."""
    epochs = [event for event in events if event["event"] == "epoch" and "loss" in event["metrics"]]
    if len(epochs) <= STALE:
        return ""
    losses = [event["metrics"]["loss"] for event in epochs]
    best = losses.index(min(losses))
    falling = epochs[-1]["train_loss"] < epochs[best]["train_loss"]
    if len(losses) - 1 - best < STALE or not falling:
        return ""
    return (
        f"the evaluation loss was lowest in epoch {epochs[best]['epoch']}, {losses[best]:.4g}, and is {losses[-1]:.4g} "
        "now, while the training loss falls: it learns by heart; export --best takes the best epoch"
    )


def _silent(events: Sequence[Event]) -> str:
    """A parameter that no gradient reaches, as behind units that are dead."""
    epochs = [event for event in events if event["event"] == "epoch"]
    if not epochs or not (names := epochs[-1].get("silent")):
        return ""
    return (
        f"the gradients of {listing(names)} were zero in every update of epoch {epochs[-1]['epoch']}: the loss does "
        "not reach them, as behind units that are dead; a lower learning rate, or freeze, is the way out"
    )


def _skips(events: Sequence[Event]) -> str:
    epochs = [event for event in events if event["event"] == "epoch" and event.get("skipped")]
    if not epochs or (skipped := epochs[-1]["skipped"]) < MANY * max(epochs[-1]["step"], 1):
        return ""
    of = epochs[-1]["step"]
    return f"{skipped} of {of} updates were left out, as they were not finite: use a lower learning rate"


def _explodes(ticks: Sequence[Event]) -> str:
    """Told at any update, as there may be no epoch more."""
    losses = [event["loss"] for event in ticks]
    first, last = losses[:3], losses[-3:]
    if len(losses) < 6 or not last[0] < last[1] < last[2] or last[0] <= EXPLODES * max(first) or max(first) <= 0:
        return ""
    return (
        f"the loss explodes: {last[-1]:.4g}, after {max(first):.4g} at the beginning of the phase; stop it, and use a "
        "lower learning rate, warm-up or optimizer.clip_norm"
    )


RULES: tuple[Rule, ...] = (_rises, _starves, _overtrains, _silent, _skips)
