"""What a prepared graph computes on the CPU, in whatever form it has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.graph import masks
from dsd_ort.graph.program import Program
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.prune import write_masks
from tests.session import opened
from tests.stock.siblings import SPARSITY, Arrays


def feeds(program: Program, batch: Mapping[str, np.ndarray], *, sparse: bool) -> Arrays:
    """The source's weights and statistics, with masks and the *batch*."""
    arena, source = Arena.of(program), program.source()
    arena.fill_from(source)
    if sparse:
        write_masks(arena, SPARSITY, program.recipe.prune)
        arena.apply_masks()
    mask = {masks.mask_name(piece.name): view(arena.masks, piece) for piece in arena.prunable}
    return {**arena.values(), **mask, **batch}


def outputs(model: ir.Model, given: Arrays) -> Arrays:
    """All outputs of *model*: loss, gradients and new statistics of a step graph."""
    session = opened(model)
    names = [value.name for value in session.get_outputs()]
    runtime.seed(3)
    return dict(zip(names, session.run(names, {v.name: given[v.name] for v in session.get_inputs()}), strict=True))
