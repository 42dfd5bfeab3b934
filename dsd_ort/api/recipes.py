"""Which recipe a verb takes: one that is given, or a part of one, what is known of the model's use, and the default."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dsd_ort.errors import RecipeError
from dsd_ort.graph import default_loss
from dsd_ort.model import artifacts, usage
from dsd_ort.model import source as source_files
from dsd_ort.model.source import Source
from dsd_ort.notes import Note
from dsd_ort.recipe import BUILTIN, LossName, Recipe, read_toml
from dsd_ort.recipe.patterns import left_to


def default_recipe(
    model: str | Path | None = None, *, loss: LossName | None = None, output: str | None = None
) -> Recipe:
    """The recipe that is taken where none is given, by every verb alike.

    Of a *model* the loss fits its output, as :func:`inspect` says it.  Beside a file that dsd-ort exported is another
    that says how it is used (:mod:`dsd_ort.model.usage`): loss, data and metrics are those.  For an exported training
    graph, which has a loss of its own, the optimizer is its own too.

    Args:
        model: see :func:`inspect`; without one nothing is fitted.
        loss: the kind of loss, where it should be another than what fits.
        output: the output that the loss reads; by default the one that most weights lead to.

    Raises:
        ModelError: the file cannot be read, or the training graph lacks files.
        RecipeError: the model has no such output.
    """
    if model is None or artifacts.find(model) is not None:
        return unfitted(model)
    return fitting_recipe(source_files.load(model), loss=loss, output=output)


def fitting_recipe(source: Source, *, loss: LossName | None = None, output: str | None = None) -> Recipe:
    """The default recipe as it fits *source*, dense only where none of its weights would be pruned."""
    fitting = default_loss.fitting_loss(source, name=loss, output=output)
    recipe = default_loss.used_as_before(unfitted(), source)
    recipe = recipe if any(p.prunable for p in source.parameters) else recipe.dense_only()
    return msgspec.structs.replace(recipe, loss=fitting)


def completed(path: str | Path, model: str | Path, *, part: bool = False) -> Recipe:
    """The recipe in the file *path*, or the built-in one of that name; what it leaves out is known of *model*'s use.

    Args:
        path: see :meth:`dsd_ort.Recipe.load`.
        model: an ONNX file, or a training graph of ONNX Runtime's.
        part: whether it need not have phases, nor a loss: these are then those of the default recipe.

    Raises:
        RecipeError: it is no recipe.
    """
    given = read_toml(path)
    rest = {} if artifacts.find(model) is not None else usage.read(Path(model))
    if part and "phase" not in given:
        rest = {**(unfitted() if "loss" in {**rest, **given} else default_recipe(model)).to_dict(), **rest}
        rest["phase"] = left_to({**rest.get("prune", {}), **given.get("prune", {})}.get("pattern"), rest["phase"])
    return Recipe.load(path, rest=rest)


def usage_note(model: str | Path, path: str | Path | None = None, *, own_loss: bool = False) -> tuple[Note, ...]:
    """What the recipe in the file *path*, or the default one, takes from the file beside *model*."""
    if artifacts.find(model) is not None:
        return ()
    return usage.note(Path(model), given=() if path is None else read_toml(path), own_loss=own_loss)


def unfitted(model: str | Path | None = None) -> Recipe:
    """The default recipe; for an exported training graph, with its own optimizer."""
    recipe = Recipe.load(BUILTIN / "default.toml")
    exported = artifacts.find(model) if model is not None else None
    optimizer = artifacts.optimizer(exported) if exported is not None else None
    return recipe if optimizer is None else msgspec.structs.replace(recipe, optimizer=optimizer)


def refuse_beside_recipe(recipe: Recipe | None, loss: LossName | None, output: str | None) -> None:
    """Raises RecipeError where *loss* or *output* is given beside a recipe."""
    if recipe is not None and (loss or output):
        raise RecipeError(
            "loss and output are given beside a recipe that has its own", fix="set them in the recipe, or leave it out"
        )
