"""Selectors: how a recipe names parameters.

``"layer4.*"``: a glob over names (``*``, ``?``, ``[…]``, as in a shell, case-sensitive);  ``"role:bias"``: all of a
role;  ``"first-conv"``: the convolutions that read the model's input.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from dsd_ort.errors import RecipeError, nearest
from dsd_ort.model.parameters import Parameter
from dsd_ort.model.roles import ROLES

FIRST_CONV = "first-conv"


def matches(selector: str, parameter: Parameter) -> bool:
    """Whether *selector* names *parameter*, by any of its names."""
    if selector == FIRST_CONV:
        return parameter.first_conv
    if selector.startswith("role:"):
        return parameter.role == selector.removeprefix("role:")
    return any(fnmatch.fnmatchcase(name, selector) for name in (parameter.name, *parameter.aliases))


def select(selectors: Iterable[str], parameters: Sequence[Parameter], *, key: str) -> set[str]:
    """The names of all parameters that one of the selectors names.

    Args:
        selectors: from the recipe.
        parameters: what they can name.
        key: the recipe's key that they stand under, for the message.

    Raises:
        RecipeError: a selector that names nothing (``first-conv`` may: it is a default).
    """
    chosen: set[str] = set()
    for selector in selectors:
        found = {p.name for p in parameters if matches(selector, p)}
        if not found and selector != FIRST_CONV:
            names = [p.name for p in parameters]
            if selector.startswith("role:"):
                hint = "the roles are " + ", ".join(ROLES)
            else:
                hint = nearest(selector, names) or "dsd-ort inspect lists the names"
            raise RecipeError(f"the pattern {selector!r} matches no parameter", where=f"recipe, {key}", fix=hint)
        chosen |= found
    return chosen
