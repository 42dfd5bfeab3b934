"""The recipe itself: its content read from a file or from plain tables, checked, and given back as such."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dsd_ort.errors import RecipeError
from dsd_ort.recipe.cycles import unrolled
from dsd_ort.recipe.patterns import Pattern, parse
from dsd_ort.recipe.ranges import refuse_bad_values
from dsd_ort.recipe.reading import read_toml, refuse_unknown_keys
from dsd_ort.recipe.tables import Content, Rise, Schedule


class Recipe(Content, frozen=True, kw_only=True):
    """How a model is trained; immutable, compared by value.

    :meth:`load` reads one from a file, :meth:`from_dict` from plain tables.  Its keys are tables of
    :mod:`dsd_ort.recipe.tables`, which says what each key in them means, or single values:

    ==============  ===================================================================================
    ``phase``       dense and sparse phases, one behind the other: length, sparsity, learning rate
    ``batch_size``  examples of a batch
    ``seed``        of shuffles, crops, mirrors, masks and dropout
    ``loss``        one loss, or several that are added, each at an output of the model
    ``optimizer``   ``sgd``, ``adam`` or ``adamw``, with clipping, accumulation and groups of parameters
    ``parameters``  which stored tensors are parameters, where dsd-ort's own rules are wrong
    ``prune``       which parameters a sparse phase prunes
    ``data``        how arrays, images and recordings become the model's inputs
    ``input``       what is fixed of the model's inputs, by their names
    ``batch_norm``  whether batch norms follow the batch, or are frozen
    ``builder``     what differentiates the model
    ``recompute``   what the backward pass computes again, instead of keeping it from the forward pass
    ``freeze``      parameters that are not trained
    ``experiment``  what ``dsd-ort compare`` puts beside what: sparsities, seeds, arms
    ``metrics``     what evaluation reports
    ``monitor``     the metric that decides which epoch is the best, and when a phase has converged
    ==============  ===================================================================================
    """

    @classmethod
    def from_dict(cls, table: dict[str, Any], *, where: str = "recipe") -> Recipe:
        """A checked recipe.

        Raises:
            RecipeError: an unknown key, a wrong type, or a value out of its range.
        """
        table = unrolled(table, where)
        refuse_unknown_keys(cls, table, where)
        try:
            recipe = msgspec.convert(table, cls)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at ")
            at = path.strip("`").removeprefix("$.")
            raise RecipeError(
                f"the recipe's {at or 'content'} is wrong: {message}", where=where, fix="see the README's recipe"
            ) from error
        recipe = recipe._with_pattern()
        refuse_bad_values(recipe, where)
        return recipe

    def _with_pattern(self) -> Recipe:
        """With the sparsity that N:M says, in sparse phases that do not say it."""
        implied = (parse(self.prune.pattern) or Pattern("")).sparsity
        phases = tuple(
            msgspec.structs.replace(phase, sparsity=implied)
            if phase.kind == "sparse" and phase.sparsity is None
            else phase
            for phase in self.phase
        )
        return self if implied is None else msgspec.structs.replace(self, phase=phases)

    @classmethod
    def load(cls, path: str | Path, *, rest: Mapping[str, Any] | None = None) -> Recipe:
        """Reads a TOML file, or a recipe that ships with the package, by its name: ``paper/resnet50``.

        *rest* has the keys and tables that the file leaves out.  The path in the file's ``data.without`` is taken as
        relative to it.

        Raises:
            RecipeError: no such file or name, not TOML, or not a recipe.
        """
        given = read_toml(path)
        recipe = cls.from_dict({**(rest or {}), **given}, where=str(path))
        if recipe.data.without is None or "data" not in given:
            return recipe
        listed = str(Path(path).parent / recipe.data.without)
        return msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, without=listed))

    def dense_only(self) -> Recipe:
        """The same budget and learning rates without pruning: what a sparse phase's gain is measured against.

        Nobody doubts a label there, so no phase drops suspects.
        """
        dense: dict[str, Any] = {"kind": "dense", "sparsity": None, "drop_suspects": False}
        phases = tuple(msgspec.structs.replace(phase, **dense) for phase in self.phase)
        return msgspec.structs.replace(self, phase=phases)

    def at_sparsity(self, sparsity: float) -> Recipe:
        """The same with this sparsity in its sparse phases; where it rises, that is what it rises to.

        Raises:
            RecipeError: it does not go with the recipe.
        """

        def given(now: float | Rise | None) -> float | Rise:
            return msgspec.structs.replace(now, final=sparsity) if isinstance(now, Rise) else sparsity

        phases = (
            msgspec.structs.replace(phase, sparsity=given(phase.sparsity)) if phase.kind == "sparse" else phase
            for phase in self.phase
        )
        recipe = msgspec.structs.replace(self, phase=tuple(phases))
        refuse_bad_values(recipe, f"recipe with sparsity {sparsity:g}")
        return recipe

    def at_rate(self, rate: float) -> Recipe:
        """The same with all learning rates times one factor, so that the highest that a phase begins with is *rate*.

        Raises:
            RecipeError: all learning rates are 0.
        """
        highest = max(phase.schedule.initial for phase in self.phase)
        if not highest:
            raise RecipeError("all learning rates are 0, so none can be scaled", fix="give each phase one, as 1e-3")

        def scaled(value: float) -> float:
            return float(f"{value * rate / highest:.3g}")

        phases = []
        for phase in self.phase:
            given = phase.learning_rate
            if isinstance(given, Schedule):
                new = {"initial": scaled(given.initial), "final": scaled(given.final)}
                phases.append(msgspec.structs.replace(phase, learning_rate=msgspec.structs.replace(given, **new)))
            else:
                phases.append(msgspec.structs.replace(phase, learning_rate=scaled(given)))
        return msgspec.structs.replace(self, phase=tuple(phases))

    def to_dict(self) -> dict[str, Any]:
        """Plain tables that :meth:`from_dict` takes back."""
        table: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return table
