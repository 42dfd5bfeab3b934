"""A sparse step and its update: pruned weights stay 0.0, and the gradient is the dense one behind the masks."""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dsd_ort.graph.program import Program
from dsd_ort.proof.compared import norm
from dsd_ort.proof.points import step
from dsd_ort.proof.report import Line
from dsd_ort.proof.slopes import TOLERANCE
from dsd_ort.recipe import Prune
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.run.prune import write_masks

SPARSITY = 0.5

Arrays = Mapping[str, npt.NDArray[Any]]


def line(
    program: Program,
    arena: Arena,
    batch: dict[str, npt.NDArray[Any]],
    weights: Arrays,
    *,
    prune: Prune,
    execution: Execution,
) -> Line:
    """Prunes *arena*, which has the *weights* of the file, and takes a step of *program* there."""
    write_masks(arena, SPARSITY, msgspec.structs.replace(prune, criterion="magnitude"))
    arena.weights[: arena.masks.size] *= arena.masks  # slots are zeros, which take no memory yet
    engine = Engine(program, arena, execution)
    step(engine, batch)
    dense = arena.gradients.copy()
    dense[: arena.masks.size] *= arena.masks
    del engine
    gc.collect()  # two sessions need not have their memory at one time
    engine = Engine(program, arena, execution)
    loss = step(engine, batch, sparse=True)
    pairs = [(view(arena.gradients, p), view(dense, p)) for p in arena.trained]
    change = math.hypot(*(norm(gradient - other) for gradient, other in pairs))
    error = change / (math.hypot(*(norm(other) for _, other in pairs)) or 1.0)
    del dense, pairs
    engine.update(1e-6, 1)
    masks = {p.name: view(arena.masks, p) for p in arena.prunable}
    pruned = sum(np.count_nonzero(mask == 0) for mask in masks.values())
    stays = not any(view(arena.weights, p)[masks[p.name] == 0].any() for p in arena.prunable)
    before = ((p, weights[p.name] * masks.get(p.name, np.float32(1))) for p in arena.trained)
    moved = sum(np.count_nonzero(view(arena.weights, p) != value) for p, value in before)
    masked = "equals" if error <= TOLERANCE[True] else f"differs by {error:.1e} from"
    text = (
        f"{pruned:,} pruned weights {'are exactly 0.0' if stays else 'MOVED'} after the update, {moved:,} "
        f"others moved; the gradient {masked} the masked dense one; loss {loss:.6g}"
    )
    return Line(what="sparse step", passed=stays and error <= TOLERANCE[True] and math.isfinite(loss), text=text)
