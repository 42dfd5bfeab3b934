"""The examples whose labels a sparse network does not believe: their labels are probably wrong.

A network with too few weights to learn wrong labels by heart gives other labels in their place.  An example is
believed where the network gives half of its labels or more: its class, its tokens, or what is said in it up to edits::

    suspects = { i : agreed[i] < 1/2 },   ranked by the sparse network's loss, the largest first

It cannot tell a wrong label from a hard example, which is a suspect too.  As CSV, a list that
:func:`dsd_ort.data.without` leaves out::

    rank,index,file,given,believed,probability,dense_loss,sparse_loss,data
    1,17,cat/0018.png,3,5,0.97,0.01,5.6,1287-9f86d081884c7d65
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from dsd_ort.data import Subset
from dsd_ort.data.subset import DATA, Counted
from dsd_ort.errors import RunError
from dsd_ort.file import writing
from dsd_ort.graph.program import Program
from dsd_ort.recipe import WITH_LABELS, Recipe
from dsd_ort.run import checkpoint, keeping, memory
from dsd_ort.run.arena import Arena
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.execution import Execution
from dsd_ort.run.scoring import Scored, score

Label: TypeAlias = int | float | str
"""A class, yes or no as 1 and 0, or a text."""


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """An example that the sparse network does not believe."""

    rank: int
    """From 1, by ``sparse_loss``."""
    index: int
    """Its number in the data, from 0."""
    file: str | None
    """Its name, where the data is files."""
    given: Label | None
    """Its label; None where it has several."""
    believed: Label | None
    """What the sparse network says instead."""
    probability: float | None
    """What the sparse network gives ``believed``."""
    dense_loss: float
    """Before the sparse phase: after the last dense phase, or of the model as it came."""
    sparse_loss: float
    """At the end of the sparse phase."""


def doubted(scored: Scored) -> npt.NDArray[np.bool_]:
    """Which examples are not believed, bool[N]; one of which no label counts is none of them."""
    assert scored.agreed is not None
    doubts: npt.NDArray[np.bool_] = scored.agreed < 0.5
    return doubts


def ranked(numbers: npt.NDArray[np.int64], data: Counted, sparse: Scored, dense: Scored) -> list[Suspect]:
    """The suspects among the examples *numbers* of *data*, which *sparse* and *dense* are the scores of."""
    places = np.flatnonzero(doubted(sparse))
    places = places[np.argsort(-sparse.loss[places], kind="stable")]
    return [
        Suspect(
            rank=rank,
            index=int(numbers[i]),
            file=None if data.names is None else data.names[int(numbers[i])],
            given=None if sparse.given is None else _label(sparse.given[i]),
            believed=None if sparse.believed is None else _label(sparse.believed[i]),
            probability=None if sparse.probability is None else float(sparse.probability[i]),
            dense_loss=float(dense.loss[i]),
            sparse_loss=float(sparse.loss[i]),
        )
        for rank, i in enumerate(places, 1)
    ]


def _label(value: Any) -> Label:
    label: Label = value.item()
    return int(label) if isinstance(label, float) and label.is_integer() else label


def find(
    program: Program,
    phase: int,
    data: Counted,
    numbers: npt.NDArray[np.int64] | None = None,
    *,
    execution: Execution,
) -> list[Suspect]:
    """Those of the network at the end of the sparse *phase* (from 1), which is complete.

    Args:
        program: the run.
        phase: whose weights.
        data: that fits the run.
        numbers: the examples of it that are looked at; by default all.
        execution: on what; in memory of its own there, which is free again afterwards.

    Raises:
        RunError: the weights of a phase are missing or damaged.
        DataError: an example cannot be read.
    """
    numbers = np.arange(data.examples) if numbers is None else numbers
    looked_at = Subset(data, numbers)

    def scored(arena: Arena) -> Scored:
        place = memory.of(execution.device)
        weights = place.place(arena.values())
        return score(Evaluator.of_program(program, weights, execution=execution, memory=place), looked_at)

    return ranked(numbers, data, scored(weights_of(program, phase)), scored(_before(program, phase)))


def weights_of(program: Program, phase: int, *, best: bool = False) -> Arena:
    """An arena with the weights of *phase*, from 1.

    Raises:
        RunError: see :func:`dsd_ort.run.checkpoint.load`.
    """
    arena = Arena.of(program)
    path = keeping.weights_file(program.folder, phase - 1, program.recipe.phase[phase - 1].kind, best=best)
    checkpoint.load(path, arena, program)
    return arena


def _before(program: Program, phase: int) -> Arena:
    """The weights of the last dense phase before *phase*, or the model's own."""
    earlier = program.recipe.phase[: phase - 1]
    dense = [number for number, before in enumerate(earlier, 1) if before.kind == "dense"]
    if dense:
        return weights_of(program, dense[-1])
    arena = Arena.of(program)
    arena.fill_from(program.source())
    return arena


def refuse_values(recipe: Recipe, where: str) -> None:
    """Raises RunError where the first loss is one of values: only labels can be believed or not."""
    name = recipe.losses[0].name
    if name not in WITH_LABELS:
        raise RunError(
            f"the run's loss is {name}: its targets are values, and only labels are believed or not",
            where=where,
            fix=f"look for suspects in a run with one of {', '.join(WITH_LABELS)}",
        )


def write(path: Path, suspects: list[Suspect], data: Counted) -> None:
    """The list as CSV, made for *data*; complete or not at all.

    Raises:
        RunError: it cannot be written.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*Suspect.__struct_fields__, DATA])
    for suspect in suspects:
        values = (_cell(value) for value in msgspec.structs.astuple(suspect))
        rows.writerow([*values, data.digest])
    keep(path, text.getvalue().encode())


def keep(path: Path, content: bytes, what: str = "the list of examples") -> None:
    """Writes *what*, a file that outlasts a power failure, complete or not at all.

    Raises:
        RunError: it cannot be written.
    """
    try:
        path.parent.stat()  # a folder that is not there is not made
        writing.write({path: lambda file: file.write(content)})
    except OSError as error:
        raise RunError(
            f"{what} cannot be written: {error.strerror}",
            where=str(path),
            fix="make room or permissions, or choose another place",
        ) from error


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
