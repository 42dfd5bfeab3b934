"""Two runs that begin alike are trained once up to where they part (law 6 makes that the same to the bit).

Their recipes differ in nothing but later phases, as a recipe and its ``dense_only()``; then the graphs, the slices of
the arena and all that is random are the same, and the state of one run at the end of the phases that both have is that
of the other: checkpoint, weights of those phases, journal.  Only the digest in the files' records is the other's.
"""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import msgspec

from dsd_ort.graph.program import Program
from dsd_ort.recipe import Recipe
from dsd_ort.run import checkpoint, journal, keeping
from dsd_ort.run.lock import locked
from dsd_ort.run.position import Position


def shared_phases(recipe: Recipe, other: Recipe) -> int:
    """How many phases both recipes begin with; 0 where they differ in more than phases and what those prune."""
    if msgspec.structs.replace(recipe, phase=other.phase, prune=other.prune) != other:
        return 0
    if recipe.prune.keep_zeros != other.prune.keep_zeros:
        return 0
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(recipe.phase, other.phase, strict=False))
    if recipe.prune != other.prune:  # of no account until something is pruned
        pairs = takewhile(lambda pair: pair[0].kind == "dense", pairs)
    return len(list(pairs))


def fork(run: Program, other: Program) -> bool:
    """Lets *other*, which was never trained, go on from *run*, which is at the end of the phases that both have.

    Killed anywhere, it is as if it had not begun, as the checkpoint comes last.

    Returns:
        Whether it did; False where they have no phase in common, or *run* is not where they part, or *other* has begun.

    Raises:
        RunError: a file cannot be read or written, or one of the runs is being trained.
    """
    shared = shared_phases(run.recipe, other.recipe)
    own = {"recipe": other.manifest.recipe, "digest": other.manifest.digest}
    if not shared or msgspec.structs.replace(run.manifest, **own) != other.manifest:
        return False
    with locked(run.folder), locked(other.folder):
        record = checkpoint.read_record(run.folder / keeping.CHECKPOINT, run, state=True)
        position = Position(**record["position"])
        if (other.folder / keeping.CHECKPOINT).exists() or not (position.phase == shared and position.begins_phase):
            return False
        for path in _weights(run, shared):
            checkpoint.copy(path, other.folder / path.relative_to(run.folder), run, other)
        journal.copy(run.folder, other.folder, record["events"])
        checkpoint.copy(run.folder / keeping.CHECKPOINT, other.folder / keeping.CHECKPOINT, run, other)
    return True


def _weights(run: Program, phases: int) -> list[Path]:
    """What is kept of the first *phases* phases; one without an epoch has no best one."""
    kinds = [phase.kind for phase in run.recipe.phase[:phases]]
    each = [(i, kind, best) for i, kind in enumerate(kinds) for best in (False, True)]
    paths = [keeping.weights_file(run.folder, i, kind, best=best) for i, kind, best in each]
    return [path for path in paths if path.exists()]
