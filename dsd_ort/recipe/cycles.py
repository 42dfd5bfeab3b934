"""``repeat = 4``: a ``[[phase]]`` that is a group of phases, unrolled when a recipe is read.

::

    [[phase]]                      →   sparse, dense, sparse, dense, …
    repeat = 4
    [[phase.phase]]
    kind = "sparse"
    …
    [[phase.phase]]
    kind = "dense"
    …
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dsd_ort.errors import RecipeError
from dsd_ort.recipe.tables import Cycle


def unrolled(table: dict[str, Any], where: str) -> dict[str, Any]:
    """*table*, a recipe as plain tables, with each group's phases as often as it repeats them.

    Raises:
        RecipeError: a group without phases, with other keys, in another group, or repeated less than once.
    """
    phases = table.get("phase")
    if not isinstance(phases, (list, tuple)) or not any(map(_is_cycle, phases)):
        return table
    return {**table, "phase": [phase for i, entry in enumerate(phases) for phase in _phases(entry, i, where)]}


def _is_cycle(entry: Any) -> bool:
    return isinstance(entry, dict) and ("repeat" in entry or "phase" in entry)


def _phases(entry: Any, number: int, where: str) -> Iterator[Any]:
    if not _is_cycle(entry):
        yield entry
        return
    at = f"phase[{number}]"
    repeat, inner = entry.get("repeat", 1), entry.get("phase")
    if not isinstance(repeat, int) or isinstance(repeat, bool) or repeat < 1:
        raise RecipeError(
            f"{at}.repeat = {repeat!r} is no number of times", where=where, fix="give a whole number, as 4"
        )
    if not isinstance(inner, (list, tuple)) or not inner:
        fix = "give what is repeated as [[phase.phase]], one or more"
        raise RecipeError(f"{at} is repeated but has no phases of its own", where=where, fix=fix)
    if any(map(_is_cycle, inner)):
        raise RecipeError(f"{at} repeats phases that are repeated", where=where, fix="write one of the two out")
    if others := [key for key in entry if key not in Cycle.__struct_fields__]:
        fix = "give it to the phases in it, the [[phase.phase]]"
        raise RecipeError(f"{at} is repeated, and has a key {others[0]!r} besides", where=where, fix=fix)
    for _ in range(repeat):
        yield from inner
