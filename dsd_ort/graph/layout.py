"""The layout of the flat buffers: which slice of them each parameter and statistic is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from dsd_ort.graph.manifest import Slice
from dsd_ort.graph.patterns import wants_axes
from dsd_ort.model import select
from dsd_ort.model.parameters import Parameter
from dsd_ort.recipe import Group, Recipe

ALIGNMENT = 16
"""Elements: a slice begins on a cache line of 64 bytes."""


def parameter_slices(
    parameters: Sequence[Parameter],
    gradients: Mapping[str, str],
    prunable: Collection[str],
    masked: Collection[str],
    recipe: Recipe,
) -> list[Slice]:
    """Slices in the order masked, other trained, frozen; within these by group, then as in the graph.

    *masked* are all that have a mask: those that are *prunable*, and those that keep the zeros of the file.
    """
    groups = recipe.optimizer.groups
    for group in groups:
        select.select(group.match, parameters, key="optimizer.groups")
    settings, with_axes = [*groups, Group(match=())], wants_axes(recipe.prune)

    def group_of(parameter: Parameter) -> int:
        hits = (i for i, g in enumerate(groups) if any(select.matches(s, parameter) for s in g.match))
        return next(hits, len(groups))

    def rank(parameter: Parameter) -> tuple[bool, bool, int]:
        return parameter.name not in gradients, parameter.name not in masked, group_of(parameter)

    def describe(parameter: Parameter) -> dict[str, Any]:
        group = settings[group_of(parameter)]
        # What sits in no slot may be anything, as an exponent or a position: 0 is no better a value than others.
        decay = 0.0 if parameter.role == "other" else recipe.optimizer.weight_decay
        return {
            "prunable": parameter.name in masked,
            "spared": (parameter.name in masked and parameter.name not in prunable) or msgspec.UNSET,
            "axes": parameter.axes if with_axes and parameter.name in prunable and parameter.axes else msgspec.UNSET,
            "trained": parameter.name in gradients,
            "weight_decay": decay if group.weight_decay is None else group.weight_decay,
            "learning_rate_factor": group.learning_rate_factor,
            "successor": gradients.get(parameter.name, ""),
        }

    return _lay_out(sorted(parameters, key=rank), describe)


def statistic_slices(statistics: Iterable[Parameter], successors: Mapping[str, str]) -> list[Slice]:
    """Slices in the order in which the graph uses them; *successors*: statistic → the output of its new value."""
    return _lay_out(statistics, lambda s: {"successor": successors.get(s.name, "")})


def _lay_out(parameters: Iterable[Parameter], describe: Callable[[Parameter], dict[str, Any]]) -> list[Slice]:
    """Slices one behind the other, each on a cache line; *describe* gives what else is known of them."""
    slices, offset = [], 0
    for parameter in parameters:
        where: dict[str, Any] = {
            "name": parameter.name,
            "shape": parameter.shape,
            "offset": offset,
            "size": parameter.size,
        }
        slices.append(Slice(**where, role=parameter.role, layer=parameter.layer, **describe(parameter)))
        offset += -(-parameter.size // ALIGNMENT) * ALIGNMENT
    return slices
