"""The folder of a comparison: one call at a time, and both run folders, new or as an earlier call left them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from dsd_ort.api.comparison.report import DENSE_ONLY, DSD, REPORT
from dsd_ort.api.rates import fit_rates
from dsd_ort.errors import DsdError, RunError
from dsd_ort.graph.new_program import write_again
from dsd_ort.graph.prepare import listed, prepare
from dsd_ort.graph.program import MANIFEST, Program, open_program
from dsd_ort.model import artifacts, usage
from dsd_ort.model import source as source_files
from dsd_ort.recipe import Recipe, to_toml
from dsd_ort.run.journal import Event
from dsd_ort.run.lock import locked
from dsd_ort.run.range_test import UntestableError
from dsd_ort.run.suspects import keep

FOLDERS = {DSD: "dsd", DENSE_ONLY: "dense-only"}
"""Training → its run folder, in the order in which they are trained."""
FINAL, RECIPE = "final.onnx", "recipe.toml"


class Runs(NamedTuple):
    """Both trainings, as :data:`FOLDERS` has them."""

    dsd: Program
    dense_only: Program


@contextmanager
def held(folder: Path, names: Collection[str], begun: Callable[[], bool]) -> Iterator[None]:
    """Makes and locks the folder.

    What is refused before the first step leaves nothing in it, so that the next call may have another recipe.

    Args:
        folder: of a comparison or an experiment.
        names: what is made in it.
        begun: whether something is trained.

    Raises:
        RunError: the folder cannot be made, or another process holds it.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"the folder cannot be made: {error.strerror}", where=str(folder), fix="choose another folder"
        ) from error
    try:
        with locked(folder):
            made = [folder / name for name in names if not (folder / name).exists()]
            try:
                yield
            except DsdError:
                for path in made if not begun() else ():
                    path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
                raise
    except DsdError:
        if new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


def prepared(folder: Path, model: str | Path, recipe: Recipe) -> Runs:
    """Both run folders, new or as an earlier call left them.

    Raises:
        RunError: *folder* holds a comparison of another model or recipe, or files of others under its names.
        RecipeError, ModelError: see :func:`prepare`.
    """
    dsd, dense_only = (folder / name for name in FOLDERS.values())
    for file in (folder / FINAL, usage.beside(folder / FINAL), folder / REPORT):
        if file.exists() and not dsd.exists():
            raise RunError(
                "a file is there that the comparison would replace", where=str(file), fix="choose another folder"
            )
    return Runs(program_of(dsd, model, recipe), program_of(dense_only, model, recipe.dense_only()))


def fitted(
    folder: Path, model: str | Path, recipe: Recipe, data: Any, listener: Callable[[Event], None], **options: Any
) -> Recipe:
    """*recipe* at learning rates that fit model and data, as an earlier call found them or found now.

    Data of which nothing can be held back leave the rates as they are.

    Raises:
        RunError: ``recipe.toml``, which keeps them, cannot be written; and what :func:`fit_rates` raises.
    """
    kept = folder / RECIPE
    if kept.exists():
        return msgspec.structs.replace(recipe, phase=Recipe.load(kept).phase)
    try:
        found = fit_rates(model, recipe, data, **options)
    except UntestableError as error:
        listener({"event": "note", "text": f"the rates are those of the default recipe, not fitted: {error.what}"})
        return recipe
    listener({"event": "note", "text": f"without a recipe, the rates are fitted: {found.why} ({kept})"})
    keep(kept, to_toml(found.recipe).encode())
    return found.recipe


def program_of(run: Path, model: str | Path, recipe: Recipe, like: Program | None = None) -> Program:
    """The run folder, which is made where it is not there.

    Args:
        run: the folder.
        model: that is prepared.
        recipe: for this.
        like: is the same model prepared, whose graphs are taken where the recipe allows it.

    Raises:
        RunError: it is there, with another model or recipe.
    """
    if not (run / MANIFEST).exists():
        if like is not None and _same_graphs(like.recipe, recipe):
            return write_again(like, run, recipe, without=listed(recipe))
        return prepare(model, run, recipe)
    program = open_program(run)
    if program.artifacts.exists():  # a training graph brings its own
        recipe = msgspec.structs.replace(recipe, loss=program.recipe.loss, metrics=program.recipe.metrics)
    wanted, there = recipe.to_dict(), program.recipe.to_dict()
    wanted["data"]["without"] = there["data"]["without"]  # what counts is in the list, not where it was
    differing = [f"the recipe's {key}" for key in wanted if wanted[key] != there[key]]
    if listed(recipe) != (None if program.without is None else program.without.read_bytes()):
        differing.append("the list of examples that are left out")
    if _digest(model) != program.manifest.source_digest:
        differing.insert(0, "the model")
    if differing:
        raise RunError(
            f"the folder holds another comparison: {', '.join(differing)} differ{'s' * (len(differing) == 1)}",
            where=str(run),
            fix="give what it was begun with, or choose another folder",
        )
    return program


def _same_graphs(recipe: Recipe, other: Recipe) -> bool:
    """Whether the recipes differ in nothing that a prepared graph depends on."""
    prune = msgspec.structs.replace(recipe.prune, alive=other.prune.alive)
    same = {"seed": other.seed, "phase": other.phase, "monitor": other.monitor, "prune": prune}
    return msgspec.structs.replace(recipe, **same) == other


def _digest(model: str | Path) -> str:
    files = artifacts.find(model)
    if files is None:
        return source_files.load(model).digest
    with artifacts.shipped_source(files) as source:
        return source.digest
