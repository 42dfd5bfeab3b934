"""An experiment's lab, and several of them side by side: a process each, which train what they are handed.

What happens in a process is told to the one that began them, which alone writes results.  A process whose parent is
gone stops at the end of its step, with its run saved.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from dsd_ort import runtime
from dsd_ort.api.comparison.lab import Group, Lab
from dsd_ort.api.comparison.selection import open_sets
from dsd_ort.api.comparison.training import Listener
from dsd_ort.api.runs import train
from dsd_ort.errors import DataError, RunError, Stopped
from dsd_ort.model import source as source_files
from dsd_ort.recipe import Recipe
from dsd_ort.run import memory
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.execution import Execution
from dsd_ort.run.journal import Event

CHOICES = ("precision", "cuda_graphs", "deterministic")
"""The options that are an :class:`Execution`'s."""
EVERY = 0.25
"""Seconds between two ticks that a process sends."""


@dataclass(frozen=True)
class Opening:
    """What a lab is opened with, in any process."""

    model: Path
    folder: Path
    recipe: Recipe
    data: Any
    eval_data: Any
    select: float | None
    select_data: Any
    device: str
    threads: int
    options: dict[str, Any]
    """More of :func:`dsd_ort.train`'s arguments."""


def opened(opening: Opening, stop: Callable[[], bool]) -> tuple[Lab, Evaluator]:
    """The lab, and what measures the model as it came.

    Raises:
        ModelError, DataError, RecipeError: see :func:`dsd_ort.train`.
    """
    recipe = opening.recipe
    source = source_files.load(opening.model, recipe.parameters)
    chosen = {name: value for name, value in opening.options.items() if name in CHOICES and value is not None}
    execution = Execution(runtime.choose_device(opening.device), opening.threads, **chosen)
    evaluator = Evaluator.of_source(source, recipe, execution=execution, memory=memory.of(execution.device))
    sets = open_sets(
        opening.folder,
        list(evaluator.fields),
        recipe,
        opening.data,
        opening.eval_data,
        select=opening.select,
        select_data=opening.select_data,
    )

    def training(run: Path, *, listener: Listener, resume: bool, until: int | None = None) -> None:
        train(
            run,
            sets.training,
            eval_data=sets.selection,
            resume=resume,
            until=until,
            device=opening.device,
            threads=opening.threads,
            measure_first=False,
            listener=listener,
            stop=stop,
            **opening.options,
        )

    return Lab(opening.folder, source, sets, execution, training), evaluator


def side_by_side(
    opening: Opening, groups: Sequence[Group], jobs: int, tell: Listener, stop: Callable[[], bool]
) -> None:
    """Trains *groups* in *jobs* processes; *tell* is called here with all that happens there.

    Raises:
        DataError: data that cannot be handed to another process.
        Stopped: *stop* said so; and what :meth:`Lab.train` raises, when the others have stopped.
    """
    for data in (opening.data, opening.eval_data, opening.select_data):
        if data is not None and not isinstance(data, (str, Path)):
            raise DataError(
                "Python objects cannot be handed to other processes", fix='give a path or "module:function", or one job'
            )
    context = get_context("spawn")
    queue, ending = context.SimpleQueue(), context.Event()
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_initialize, initargs=(queue, ending, os.getpid())
    ) as pool:
        futures: list[Future[None]] = [pool.submit(_work, opening, group) for group in groups]
        try:
            while not all(future.done() for future in futures):
                _drain(queue, tell)
                if stop() or any(future.done() and future.exception() for future in futures):
                    ending.set()
                time.sleep(EVERY / 5)
            _drain(queue, tell)
        except BaseException:
            ending.set()
            raise
    try:
        for future in futures:
            future.result()
    except BrokenProcessPool as error:
        raise RunError(
            "a process that trained was ended from outside, perhaps for want of memory",
            where=str(opening.folder),
            fix="give the same command again, which goes on; with fewer --jobs if it was memory",
        ) from error


def _drain(queue: Any, tell: Listener) -> None:
    while not queue.empty():
        tell(queue.get())


_here: dict[str, Any] = {}
"""What this process was begun with."""


def _initialize(queue: Any, ending: Any, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's

    def orphaned() -> bool:
        return os.getppid() != parent

    def leave() -> None:
        """A process whose parent was killed waits for work forever: it ends, once its run is saved."""
        while not orphaned() or _here["busy"]:
            time.sleep(EVERY)
        os._exit(1)

    _here.update(queue=queue, busy=False, stop=lambda: ending.is_set() or orphaned())
    threading.Thread(target=leave, daemon=True).start()


def _work(opening: Opening, group: Group) -> None:
    if _here["stop"]():
        raise Stopped
    _here["busy"] = True
    try:
        lab, _ = opened(opening, _here["stop"])
        lab.train(group, _seldom(_here["queue"].put))
    finally:
        _here["busy"] = False


def _seldom(tell: Listener) -> Listener:
    """*tell*, but of ticks, which may come a thousand times a second, only as many as people can see."""
    sent, updates = time.monotonic(), 0

    def send(event: Event) -> None:
        nonlocal sent, updates
        if event["event"] == "tick":
            updates += 1
            if time.monotonic() - sent < EVERY:
                return
            event = {**event, "updates": updates}
            sent, updates = time.monotonic(), 0
        tell(event)

    return send
