"""Which parameters a recipe trains, leaves as they are, and prunes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.errors import RecipeError, UnsupportedError
from dsd_ort.graph.legalize import refuse_stored_forms
from dsd_ort.model import select
from dsd_ort.model.parameters import Constant, Parameter
from dsd_ort.model.source import Source
from dsd_ort.notes import Note, listing
from dsd_ort.recipe import Recipe
from dsd_ort.rewrite.flow import sources
from dsd_ort.rewrite.operators.stops import CLASSICAL_DOMAIN, classical


def trained(
    source: Source, model: ir.Model, outputs: Sequence[str], recipe: Recipe
) -> tuple[list[str], tuple[Note, ...]]:
    """The parameters that the loss depends on and that the recipe does not freeze; a note of those it does not on."""
    fixed = frozen(source, recipe)
    needed = {value.name for value in sources(v for v in model.graph.outputs if v.name in outputs)}
    free = [p.name for p in source.parameters if p.name not in fixed]
    reached = [name for name in free if name in needed]
    if not reached:
        refuse_stored_forms(model.graph)  # says why, if that is why
        if not source.parameters:
            _refuse_classical(source)
            raise UnsupportedError(
                "the model stores no floating-point weights, so there is nothing to train",
                where=str(source.path),
                fix="give a model whose weights are in the file, in floating point",
            )
        raise UnsupportedError(
            "there is nothing to train: no output that a loss reads depends on a parameter that is not frozen",
            where=f"{source.path}, output {', '.join(outputs)}",
            fix="name another output with --output, or freeze less; dsd-ort inspect lists the parameters",
        )
    others = [name for name in free if name not in needed]
    words = f"the loss does not depend on {listing(others)}: not trained"
    return reached, (Note(kind="weights", words=words),) if others else ()


def _refuse_classical(source: Source) -> None:
    """Says what a model without weights is, where it is a classical one."""
    found = [node.op_type for node in source.model.graph.all_nodes() if node.domain == CLASSICAL_DOMAIN]
    if found:
        why, fix = classical(found)
        raise UnsupportedError(f"the model {why}", where=str(source.path), fix=fix)


def frozen(source: Source, recipe: Recipe) -> set[str]:
    """The parameters and running statistics that stay as they are."""
    return select.select(recipe.freeze, source.changeable, key="freeze")


def pruned(parameters: Sequence[Parameter], recipe: Recipe, constants: Sequence[Constant] = ()) -> set[str]:
    """The names of those that a sparse phase prunes: by role, then as the recipe includes and excludes."""
    rules = recipe.prune
    chosen = {p.name for p in parameters if p.prunable}
    chosen -= select.select(rules.exclude, parameters, key="prune.exclude", constants=constants)
    return chosen | select.select(rules.include, parameters, key="prune.include", constants=constants)


def prunable(parameters: Sequence[Parameter], recipe: Recipe, constants: Sequence[Constant] = ()) -> set[str]:
    """:func:`pruned`, of a recipe that is to be trained.

    Raises:
        RecipeError: it has a sparse phase, and nothing is pruned.
    """
    chosen = pruned(parameters, recipe, constants)
    select.select(recipe.prune.layers, parameters, key="prune.layers", constants=constants)
    if not chosen and any(phase.kind == "sparse" for phase in recipe.phase):
        raise RecipeError(
            "the recipe has a sparse phase, but no parameter may be pruned",
            where="recipe, prune",
            fix="exclude less, or name parameters in prune.include; dsd-ort inspect lists them",
        )
    return chosen
