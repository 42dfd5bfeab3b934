"""Several trainings of one model to their ends; what their recipes have in common at the beginning is trained once.

The recipes are paths in a tree of phases.  Where two part, the one that came so far is forked to the other
(:mod:`dsd_ort.run.fork`) before it goes on.  All state is in the run folders: the same call goes on after any stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dsd_ort.graph.program import Program
from dsd_ort.run import checkpoint
from dsd_ort.run.fork import fork, shared_phases
from dsd_ort.run.journal import Event, read


def is_begun(run: Program) -> bool:
    return (run.folder / checkpoint.FILE).exists()


def is_complete(run: Program) -> bool:
    return any(event["event"] == "end" for event in read(run.folder))


def phases_to_train(runs: Sequence[Program]) -> list[int]:
    """How many leading phases each run gets from one of the runs before it."""
    return [
        max((shared_phases(run.recipe, other.recipe) for other in runs[:number]), default=0)
        for number, run in enumerate(runs)
    ]


def train_all(
    runs: Mapping[str, Program],
    training: Callable[..., object],
    listener: Callable[[Event], None],
    ended: Callable[[str], None] = lambda name: None,
) -> None:
    """Trains *runs*, which have a name each, one behind the other.

    Args:
        runs: new, or as far as an earlier call came.
        training: :func:`dsd_ort.train` with all arguments but the run, ``resume`` and ``until``.
        listener: is told where a training begins or goes on.
        ended: is told the name of each run that is complete, also of one that was complete before.
    """
    names, programs = list(runs), list(runs.values())
    shared = dict(zip(names, phases_to_train(programs), strict=True))
    told: set[str] = set()

    def advance(name: str, until: int | None) -> None:
        run = runs[name]
        if is_complete(run):
            return
        begun = is_begun(run)
        if name not in told:
            told.add(name)
            taken_over = shared[name] if begun else 0
            listener({"event": "training", "name": name, "run": str(run.folder), "taken_over": taken_over})
        training(run.folder, resume=begun, until=until)

    def descend(group: list[str], depth: int) -> None:
        """*group* have *depth* phases in common, which are behind them or to be trained again."""
        while group:
            lead, *others = group
            alike = [name for name in others if shared_phases(runs[lead].recipe, runs[name].recipe) > depth]
            if alike:
                until = min(shared_phases(runs[lead].recipe, runs[name].recipe) for name in alike)
                new = [name for name in alike if not is_begun(runs[name])]
                if new:
                    advance(lead, until)
                for name in new:
                    fork(runs[lead], runs[name])
                descend([lead, *alike], until)
            else:
                advance(lead, None)
                ended(lead)
            group = [name for name in others if name not in alike]

    descend(names, 0)
