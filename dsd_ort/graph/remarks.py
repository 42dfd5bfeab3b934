"""What people should know of a model's stored weights before they are trained."""

from __future__ import annotations

from collections.abc import Container, Iterator

import numpy as np

from dsd_ort.model.parameters import Parameter
from dsd_ort.model.source import Source
from dsd_ort.notes import Note, listing

_PRUNED = 0.05
"""Of a layer's weights, the share of zeros from which on somebody pruned it."""


def remarks(source: Source, trained: Container[str], *, keep_zeros: bool = False) -> tuple[Note, ...]:
    """Notes of *source*: entries that are not finite, tensors that serve several layers, weights pruned already."""
    words = [*_not_finite(source), *_shared(source, trained), *_pruned(source, trained, keep_zeros=keep_zeros)]
    words += _unprunable(source, trained)
    return (*(Note(kind="weights", words=text) for text in words), *_constants(source))


def _unprunable(source: Source, trained: Container[str]) -> Iterator[str]:
    if not any(p.prunable for p in source.parameters) and (
        names := [p.name for p in source.parameters if p.name in trained]
    ):
        yield (
            "no weight sits where a sparse phase prunes by itself: the default recipe is dense only, and prune.include "
            f'names what is to be pruned, as ["{names[0]}"]'
        )


def _constants(source: Source) -> Iterator[Note]:
    """What is not trained though a gradient arrives at it, by the rule; single numbers by how many digits they have."""
    found: dict[str, list[str]] = {}
    for constant in sorted(source.constants, key=lambda constant: -_digits(source, constant.parameter)):
        found.setdefault(constant.why, []).append(constant.parameter.name)
    for why, names in found.items():
        count = f"{len(names)} constants, not trained" if len(names) > 1 else "a constant, not trained"
        remedy = f'to train {"one" if len(names) > 1 else "it"}: parameters.include = ["{names[0]}"]'
        yield Note(kind="constants", words=f"{count}: {why}: {listing(names)} ({remedy})")


def _digits(source: Source, p: Parameter) -> int:
    """How many digits a single number is written with: a learned one has as many as there are."""
    return len(str(np.abs(source.value(p.name).reshape(())))) if p.size == 1 else 0


def _not_finite(source: Source) -> Iterator[str]:
    for name, numbers in source.numbers.items():
        kinds = {"NaN": numbers.nans, "infinite": numbers.not_finite.size - numbers.nans}
        if found := [f"{count:,} {kind}" for kind, count in kinds.items() if count]:
            entries, stay = (
                ("entry", "stays as it is") if numbers.not_finite.size == 1 else ("entries", "stay as they are")
            )
            yield f"{name!r} has {' and '.join(found)} {entries}: not trained, {stay}"


def _shared(source: Source, trained: Container[str]) -> Iterator[str]:
    for p in source.parameters:
        if p.others and p.name in trained:
            layers = listing((p.layer, *p.others))
            yield f"{p.name!r} is stored once and serves {1 + len(p.others)} layers, {layers}: trained as one"


def _pruned(source: Source, trained: Container[str], *, keep_zeros: bool) -> Iterator[str]:
    zeros = {p: source.numbers[p.name].zeros for p in source.parameters if p.prunable and p.name in trained}
    pruned = {p: count for p, count in zeros.items() if _PRUNED * p.size <= count < p.size}
    if pruned:
        layers = ", ".join(f"{p.name!r} {100 * count / p.size:.1f} %" for p, count in pruned.items())
        become = (
            "These stay zero in all phases, as prune.keep_zeros says"
            if keep_zeros
            else "These come alive in a dense phase; prune.keep_zeros = true keeps them zero in all phases"
        )
        yield f"pruned already, by zeros: {layers}. {become}"
