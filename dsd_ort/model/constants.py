"""Constants: stored tensors where a gradient arrives that nobody learned, and the rule that each is one by.

A rule looks at a tensor's numbers, and where it sits.  Those of what sits in a slot for weights are few: there, one
number or whole ones may be what a network begins with.  The recipe's ``parameters.include`` makes a parameter of a
constant, ``parameters.exclude`` the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dsd_ort.file.payload import Floats
from dsd_ort.file.tensors import Place, leading
from dsd_ort.model import curves
from dsd_ort.model.appearance import HIDDEN
from dsd_ort.model.roles import Use

_LOOKED_AT = 1 << 14
"""Entries that a large tensor is judged by: its first."""


@dataclass(frozen=True)
class Seen:
    """A stored tensor, and where it sits."""

    path: Path
    place: Place
    role: str
    uses: Sequence[Use] = field(compare=False)
    others_differ: Callable[[], bool] = field(compare=False)
    """Whether other norms of the file have many numbers, or its weights are stored in another way than this is."""

    @cached_property
    def first(self) -> Floats:
        """Its first numbers, as :func:`leading` gives them."""
        return leading(self.path, self.place, _LOOKED_AT)

    @cached_property
    def values(self) -> Floats:
        """The same, once where they are repeated along the first axes."""
        values = self.first
        while values.ndim > 1 and (values == values[0]).all():
            values = values[0]
        return values

    @property
    def half(self) -> bool:
        """Whether it is stored in 16 bit."""
        return ir.DataType(self.place.dtype).bitwidth == 16

    @property
    def line(self) -> Floats:
        """Its numbers where they stand along one axis; otherwise none."""
        return self.values.reshape(-1) if self.values.ndim == 1 else np.empty(0, np.float32)

    def is_shared(self) -> bool:
        """Whether each of the output channels of a kernel has the same numbers."""
        rows = self.first if self.first.ndim == sum(dim != 1 for dim in self.place.dims) else self.first[None]
        return self.place.dims[0] > 1 and len(rows) > 1 and bool((rows == rows[0]).all())

    def is_whole_input(self) -> bool:
        """Whether it has the size of one example of an input that it is subtracted from: a mean picture."""
        for use in self.uses:
            others = [x.shape for x in use.node.inputs if x is not None and x.is_graph_input() and x.shape is not None]
            own = [dim for dim in self.place.dims if dim != 1]
            if use.node.op_type == "Sub" and any(
                [dim for dim in list(shape)[1:] if dim != 1] == own for shape in others
            ):
                return True
        return False


class Rule(NamedTuple):
    """What makes a constant of a tensor."""

    name: str
    words: str
    """What people are told that it is."""
    holds: Callable[[Seen], bool]
    roles: Collection[str] = ("other",)
    """Whose tensors it is asked of."""


def is_same(values: Floats) -> bool:
    """Whether all are the same number."""
    return bool((values == values.flat[0]).all())


MASK = Rule("mask", "a mask: entries of -100 or less hide scores", lambda t: bool((t.values <= HIDDEN).any()))
_TABLES = ("other", "matrix", "embedding", "kernel")

RULES = (
    Rule("number", "one number", lambda t: t.place.size == 1),
    MASK,
    Rule("even", "the same number everywhere", lambda t: is_same(t.values)),
    Rule("whole", "whole numbers", lambda t: bool((t.values == np.round(t.values)).all())),
    Rule("grid", "numbers at even distances", lambda t: curves.is_grid(t.values), ("other", "embedding")),
    Rule(
        "frequencies",
        "frequencies of positions: each is the one before times the same factor",
        lambda t: curves.are_frequencies(t.line),
        ("other", "matrix", "embedding", "norm"),
    ),
    Rule("window", "a window: it rises, and falls as it rose", lambda t: curves.is_window(t.line)),
    Rule(
        "waves",
        "sampled waves: a cosine or Fourier transform, or sinusoidal positions",
        lambda t: t.values.ndim < 4 and curves.are_waves(t.values, half=t.half),
        _TABLES,
    ),
    Rule("bank", "a filter bank: bands one behind the other", lambda t: curves.is_bank(t.values), _TABLES),
    Rule("blur", "a blur: the product of two windows", lambda t: curves.is_blur(t.values), ("other", "kernel")),
    Rule("filter", "one filter for every channel", lambda t: t.is_shared() and not is_same(t.values), ("kernel",)),
    Rule(
        "filled",
        "filled in by an exporter: 0 or 1 everywhere, as in no other norm",
        lambda t: t.place.size > 1 and t.values.flat[0] in (0, 1) and is_same(t.values) and t.others_differ(),
        ("norm",),
    ),
    Rule("repeated", "few numbers again and again", lambda t: curves.is_repeated(t.values, half=t.half)),
    Rule(
        "normalisation",
        "between an input of the model and all layers: its mean, or its deviation",
        lambda t: all(use.normalises for use in t.uses) and (t.values.ndim == 1 or t.is_whole_input()),
    ),
    Rule("round", "round numbers, such as powers of two", lambda t: curves.are_round(t.values)),
)
"""The first that holds counts."""

EXCLUDED = "excluded by the recipe"


def constant(seen: Seen) -> str | None:
    """Why a tensor is a constant, in words for people; None where it is a parameter."""
    rules = [rule for rule in RULES if seen.role in rule.roles]
    if rules and not np.isfinite(seen.values).all():
        rules = [rule for rule in rules if rule is MASK]
    return next((rule.words for rule in rules if rule.holds(seen)), None)
