"""A part of an experiment, trained by a call of its own: as many calls as one likes, on all machines of a file system.

A cell is a seed's arms whose trainings begin alike.  What trains a cell writes run folders only, each behind a lock;
the experiment itself, called when all are trained, finds them complete, measures, and says what was found.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsd_ort import runtime
from dsd_ort.api.comparison.beginning import Beginning, Begun, beginning_of
from dsd_ort.api.comparison.lab import Group
from dsd_ort.api.comparison.training import Listener, Trainings, once
from dsd_ort.errors import DivergedError, RecipeError, RunError
from dsd_ort.recipe import Recipe
from dsd_ort.run.lock import is_held


@dataclass(frozen=True)
class Cell:
    """What :func:`train_cell` trained."""

    number: int
    """From 0."""
    of: int
    """How many cells the experiment has."""
    runs: dict[str, Path]
    """Its trainings, by their names for people."""
    diverged: dict[str, str]
    """Those that have no result, and why."""


def train_cell(
    model: str | Path,
    folder: str | Path,
    recipe: Recipe,
    data: Any,
    eval_data: Any,
    *,
    number: int,
    listener: Listener = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
    **options: Any,
) -> Cell:
    """Trains one cell of the experiment that :func:`dsd_ort.experiment` carries out with the same arguments.

    Args:
        model: as there, and so are the others.
        folder: on a file system that all calls see.
        recipe: as there.
        data: as there.
        eval_data: as there.
        number: of the cell, from 0; the error of a wrong one says which there are.
        listener: is told all events.
        stop: see :func:`train`.
        options: more of :func:`dsd_ort.experiment`'s arguments, but ``keep`` and ``jobs``.

    Raises:
        RecipeError: there is no such cell.
        RunError: another process trains it, or the folder holds another experiment.
    """
    runtime.require_runtime()
    runtime.choose_device(options.get("device", "auto"))
    begun = _begun(beginning_of(model, folder, recipe, data, eval_data, **options), listener, stop)
    # Of all that there is to train, whatever is measured already: a number means the same cell in every call.
    cells = begun.lab.groups(None, begun.plan, begun.seeds)
    if not 0 <= number < len(cells):
        names = (f"{i}: {', '.join(map(group.title, _runs(group)))}" for i, group in enumerate(cells))
        raise RecipeError(f"there is no cell {number}", where=f"{len(cells)} cells, {'; '.join(names)}", fix="give one")
    group = cells[number]
    named = {group.title(run): program for run, program in begun.lab.programs(group).items()}
    tell, diverged = once(listener), dict[str, str]()

    def note(name: str, error: DivergedError) -> None:
        diverged[name] = error.what

    def train(run: Path, **more: Any) -> None:
        begun.lab.training(run, listener=tell, **more)

    Trainings(named, train, tell, diverged=note)()
    return Cell(number, len(cells), {name: program.folder for name, program in named.items()}, diverged)


def _runs(group: Group) -> list[str]:
    return list(dict.fromkeys(arm.run for arm in group.arms))


def _begun(beginning: Beginning, listener: Listener, stop: Callable[[], bool]) -> Begun:
    """The experiment, whose folder is free again: other calls begin it too."""
    folder, told = beginning.opening.folder, False
    while True:
        try:
            with beginning.begun(listener, stop) as begun:
                return begun
        except RunError:
            if not is_held(folder) or stop():
                raise
        if not told:
            listener({"event": "note", "text": f"another call holds {folder}: waiting until it has begun"})
        told = True
        time.sleep(0.5)
