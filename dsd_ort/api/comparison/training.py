"""Several trainings of one model to their ends; what their recipes have in common at the beginning is trained once.

The recipes are paths in a tree of phases.  Where two part, the one that came so far is forked to the other
(:mod:`dsd_ort.run.fork`) before it goes on.  All state is in the run folders: the same call goes on after any stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dsd_ort.errors import DivergedError
from dsd_ort.graph.program import Program
from dsd_ort.run import keeping
from dsd_ort.run.fork import fork, shared_phases
from dsd_ort.run.journal import Event, read

Listener = Callable[[Event], None]


def is_begun(run: Program) -> bool:
    return (run.folder / keeping.CHECKPOINT).exists()


def is_complete(run: Program) -> bool:
    return any(event["event"] == "end" for event in read(run.folder))


def phases_taken_over(runs: Sequence[Program]) -> list[int]:
    """How many leading phases each run has in common with one of the runs before it."""
    return [
        max((shared_phases(run.recipe, other.recipe) for other in runs[:number]), default=0)
        for number, run in enumerate(runs)
    ]


def once(listener: Listener) -> Listener:
    """Tells notes on the data, and where training goes on, before the first step only: later they say nothing new."""
    begun = False

    def tell(event: Event) -> None:
        nonlocal begun
        begun = begun or event["event"] == "tick"
        if not (begun and event["event"] in ("note", "resume")):
            listener(event)

    return tell


@dataclass
class Trainings:
    """Runs that are trained one behind the other."""

    runs: Mapping[str, Program]
    """By names for people: new, or as far as an earlier call came."""
    training: Callable[..., object]
    """:func:`dsd_ort.train` with all arguments but the run, ``resume`` and ``until``."""
    listener: Listener
    """Is told where a training begins or goes on."""
    ended: Callable[[str], None] = lambda name: None
    """Is told the name of each run that is complete, also of one that was complete before."""
    diverged: Callable[[str, DivergedError], None] | None = None
    """Is told the name of each run that cannot be completed; without it, the first one ends the call."""
    told: set[str] = field(default_factory=set)

    def __call__(self) -> None:
        """Trains all of them.

        Raises:
            DivergedError: see ``diverged``; and what ``training`` raises.
        """
        self.taken_over = dict(zip(self.runs, phases_taken_over(list(self.runs.values())), strict=True))
        self._descend(list(self.runs), 0)

    def _descend(self, group: list[str], depth: int) -> None:
        """Trains *group*, whose first *depth* phases are the same, and trained once already."""
        while group:
            lead, *others = group
            alike = [name for name in others if self._shared(lead, name) > depth]
            group = [name for name in others if name not in alike]
            until = min((self._shared(lead, name) for name in alike), default=None)
            heads = [] if until is None else self._heads([lead, *alike], until)[1:]
            try:
                self._to(lead, until, [name for name in heads if not is_begun(self.runs[name])])
            except DivergedError as error:
                if self.diverged is None:
                    raise
                for name in (lead, *alike):
                    self.diverged(name, error)
                continue
            if until is None:
                self.ended(lead)
            else:
                self._descend([lead, *alike], until)

    def _shared(self, name: str, other: str) -> int:
        return shared_phases(self.runs[name].recipe, self.runs[other].recipe)

    def _heads(self, group: list[str], depth: int) -> list[str]:
        """Of runs that have *depth* phases in common, the first of each branch behind them."""
        heads: list[str] = []
        for name in group:
            if all(self._shared(head, name) <= depth for head in heads):
                heads.append(name)
        return heads

    def _to(self, lead: str, until: int | None, new: list[str]) -> None:
        """Trains *lead* up to the end of phase *until*, and lets *new* go on from there; None is to its end."""
        if until is None or new:
            self._advance(lead, until)
        for name in new:
            fork(self.runs[lead], self.runs[name])

    def _advance(self, name: str, until: int | None) -> None:
        run = self.runs[name]
        if is_complete(run):
            return
        begun = is_begun(run)
        if name not in self.told:
            self.told.add(name)
            taken_over = self.taken_over[name] if begun else 0
            self.listener({"event": "training", "name": name, "run": str(run.folder), "taken_over": taken_over})
        self.training(run.folder, resume=begun, until=until)
