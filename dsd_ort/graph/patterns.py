"""Patterns of pruning: a weight as groups of units, of which each group loses the same share.

A weight is seen as ``[s, o, r, i, c, w]``: side by side (directions of a recurrent layer, matrices of a stack), outputs
in blocks of r, inputs in blocks of c, and the window of a kernel.  A pattern says which of these axes are groups, which
are units, and which are the entries of a unit::

    view:  weight  →  [groups, units, entries]

of a group of U units round(U · sparsity) are pruned, whole.  ``unstructured`` is one group of all entries in the
weight's own order.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from dsd_ort.errors import RecipeError
from dsd_ort.model import select
from dsd_ort.model.parameters import Parameter
from dsd_ort.notes import listing
from dsd_ort.recipe import Prune, Recipe
from dsd_ort.recipe.patterns import Pattern, parse

Scalar = TypeVar("Scalar", bound=np.generic)


class _Axes(NamedTuple):
    groups: str
    units: str
    entries: str = ""


_NAMES = "soricw"
PATTERNS = {
    "unstructured": _Axes("", "soricw"),
    "rows": _Axes("so", "iw", "rc"),
    "N:M": _Axes("sowi", "c", "r"),
    "RxC": _Axes("", "soiw", "rc"),
    "channels": _Axes("", "so", "iwrc"),
}
"""Pattern → the axes of ``[s, o, r, i, c, w]`` that are groups, units, and entries of a unit."""


class View:
    """How a weight is seen by a pattern.

    Args:
        pattern: of a recipe.
        shape: of the weight.
        axes: those of its outputs and inputs; only ``unstructured`` does without.
        window: whether its other axes are a window, as a kernel's; otherwise they are side by side.
    """

    def __init__(self, pattern: Pattern, shape: Sequence[int], axes: tuple[int, int] | None, *, window: bool) -> None:
        self.shape, self.kind = tuple(shape), PATTERNS[pattern.kind]
        if pattern.kind == "unstructured":
            self.order, self.split = tuple(range(len(shape))), (1, 1, 1, math.prod(shape), 1, 1)
        else:
            assert axes is not None, "refuse_misfits was not asked"
            others = tuple(axis for axis in range(len(shape)) if axis not in axes)
            self.order = (*axes, *others) if window else (*others, *axes)
            rest, (outputs, inputs) = math.prod(shape[axis] for axis in others), (shape[axis] for axis in axes)
            r, c = {"RxC": (pattern.first, pattern.second), "N:M": (1, pattern.second)}.get(pattern.kind, (1, 1))
            side, inside = (1, rest) if window else (rest, 1)
            self.split = (side, outputs // r, r, inputs // c, c, inside)
        self.places = [_NAMES.index(name) for part in self.kind for name in part]
        self.sizes = [math.prod(self.split[_NAMES.index(name)] for name in part) for part in self.kind]

    @property
    def units(self) -> int:
        """How many units a group has."""
        return self.sizes[1]

    def of(self, weight: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """*weight* as ``[groups, units, entries]``."""
        split = weight.transpose(self.order).reshape(self.split)
        seen: npt.NDArray[Scalar] = split.transpose(self.places).reshape(self.sizes)
        return seen

    def spread(self, units: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """What is said of units, ``[groups, units]``, of each entry of the weight, in its shape."""
        whole = np.broadcast_to(units.reshape(*self.sizes[:2], 1), self.sizes)
        split = whole.reshape([self.split[place] for place in self.places]).transpose(np.argsort(self.places))
        found: npt.NDArray[Scalar] = split.reshape([self.shape[i] for i in self.order]).transpose(
            np.argsort(self.order)
        )
        return found


def pattern_of(rules: Prune) -> Pattern:
    """The pattern of a recipe, which was checked when it was read."""
    found = parse(rules.pattern)
    assert found is not None
    return found


def wants_axes(rules: Prune) -> bool:
    """Whether *rules* need to know which axes of a weight are its outputs and inputs."""
    return pattern_of(rules).kind != "unstructured" or rules.criterion == "wanda"


def refuse_misfits(parameters: Sequence[Parameter], pruned: Collection[str], recipe: Recipe) -> None:
    """Raises RecipeError where a weight that is *pruned* does not fit the pattern; all of them in one message."""
    rules, pattern = recipe.prune, pattern_of(recipe.prune)
    if not wants_axes(rules):
        return
    misfits = {p.name: why for p in parameters if p.name in pruned and (why := _misfit(p, pattern, rules))}
    if misfits:
        named = f"prune.pattern = {rules.pattern!r}" if pattern.kind != "unstructured" else "prune.criterion = 'wanda'"
        first, *others = misfits
        more = f", and likewise {listing(others)}" if others else ""
        names = ", ".join(f'"{name}"' for name in misfits)
        raise RecipeError(
            f"{named} does not fit {first!r}: {misfits[first]}{more}",
            where="recipe, prune",
            fix=f"exclude what does not fit, as prune.exclude = [{names}]; or choose another",
        )


def _misfit(p: Parameter, pattern: Pattern, rules: Prune) -> str:
    if own_sparsity(p, rules) == 0:
        return ""
    if p.axes is None:
        return f"which of the axes of its shape {list(p.shape)} are outputs and inputs, {p.layer} does not say"
    outputs, inputs = (p.shape[axis] for axis in p.axes)
    if pattern.kind == "N:M" and inputs % pattern.second:
        return f"its {inputs} inputs are no multiple of {pattern.second}"
    if pattern.kind == "RxC" and (outputs % pattern.first or inputs % pattern.second):
        return f"its {outputs} outputs times {inputs} inputs are not whole blocks"
    return ""


def own_sparsity(parameter: Parameter, rules: Prune) -> float | None:
    """What ``prune.layers`` says of *parameter*; None where it says nothing."""
    return next((value for selector, value in rules.layers.items() if select.matches(selector, parameter)), None)
