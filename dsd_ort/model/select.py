"""Selectors: how a recipe names parameters.

``"layer4.*"``: a glob over names (``*``, ``?``, ``[…]``, as in a shell, case-sensitive);  ``"role:bias"``: all of a
role;  ``"first-conv"``: the convolutions that read the model's input.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Container, Iterable, Sequence

from dsd_ort.errors import RecipeError, nearest
from dsd_ort.model.constants import EXCLUDED
from dsd_ort.model.parameters import Constant, Parameter
from dsd_ort.model.roles import ROLES
from dsd_ort.recipe import Parameters

FIRST_CONV = "first-conv"


def matches(selector: str, parameter: Parameter) -> bool:
    """Whether *selector* names *parameter*, by any of its names."""
    if selector == FIRST_CONV:
        return parameter.first_conv
    if selector.startswith("role:"):
        return parameter.role == selector.removeprefix("role:")
    return any(fnmatch.fnmatchcase(name, selector) for name in (parameter.name, *parameter.aliases))


def select(
    selectors: Iterable[str], parameters: Sequence[Parameter], *, key: str, constants: Sequence[Constant] = ()
) -> set[str]:
    """The names of all parameters that one of the selectors names.

    Args:
        selectors: from the recipe.
        parameters: what they can name.
        key: the recipe's key that they stand under, for the message.
        constants: what they cannot name, and why, for the message too.

    Raises:
        RecipeError: a selector that names nothing (``first-conv`` may: it is a default).
    """
    chosen: set[str] = set()
    for selector in selectors:
        found = {p.name for p in parameters if matches(selector, p)}
        if not found and selector != FIRST_CONV:
            _refuse_constants(selector, constants, key)
            names = [p.name for p in parameters]
            if selector.startswith("role:"):
                hint = "the roles are " + ", ".join(ROLES)
            else:
                hint = nearest(selector, names) or "dsd-ort inspect lists the names"
            raise RecipeError(f"the pattern {selector!r} matches no parameter", where=f"recipe, {key}", fix=hint)
        chosen |= found
    return chosen


def _refuse_constants(selector: str, constants: Iterable[Constant], key: str) -> None:
    """Raises RecipeError if *selector* names a constant, which stays as it is anyway."""
    for name, why in ((c.parameter.name, c.why) for c in constants if matches(selector, c.parameter)):
        raise RecipeError(
            f"the pattern {selector!r} matches no parameter: {name!r} is a constant, not trained: {why}",
            where=f"recipe, {key}",
            fix=f'leave it out; to train it: parameters.include = ["{name}"]',
        )


def chosen(
    tensors: Sequence[Parameter | Constant], wanted: Parameters, stored: Iterable[str]
) -> tuple[Parameter | Constant, ...]:
    """*tensors* as a recipe wants them: constants that it includes are parameters, and what it excludes is a constant.

    Args:
        tensors: what was found by the rules.
        wanted: from the recipe.
        stored: the names of all that the file stores, for the message.

    Raises:
        RecipeError: a selector that names none of them.
    """
    all_of_them = [t.parameter if isinstance(t, Constant) else t for t in tensors]
    gradients = [p for p in all_of_them if p.role != "statistic"]
    for selector in wanted.include:
        unreached = [name for name in stored if fnmatch.fnmatchcase(name, selector)]
        if unreached and not any(matches(selector, p) for p in gradients):
            raise RecipeError(
                f"no gradient arrives at {unreached[0]!r}, so it cannot be trained",
                where="recipe, parameters.include",
                fix="leave it out; dsd-ort inspect -v lists what can be trained",
            )
    included = select(wanted.include, gradients, key="parameters.include")
    excluded = select(wanted.exclude, gradients, key="parameters.exclude")
    return tuple(_as_wanted(tensor, included, excluded) for tensor in tensors)


def _as_wanted(
    tensor: Parameter | Constant, included: Container[str], excluded: Container[str]
) -> Parameter | Constant:
    if isinstance(tensor, Constant):
        return tensor.parameter if tensor.parameter.name in included else tensor
    return Constant(tensor, EXCLUDED) if tensor.name in excluded else tensor
