"""What a form is: one way to compute an operator on one device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import onnx_ir as ir

from dsd_ort.device.lower.blocked import Layout
from dsd_ort.rewrite.autograd import OPSET, Operator
from dsd_ort.rewrite.site import Site


@dataclass
class Choices:
    """What forms of one graph share and go by."""

    layout: Layout
    deterministic: bool = False
    """Only forms that give the same bits in every run, where there is one."""
    opset: int = OPSET
    """Of exported training graphs it may be an older one; they keep nodes whose form it cannot say."""
    operators: dict[str, Operator] = field(default_factory=dict)
    """Functions that the new nodes call."""
    dropouts: int = 0
    """So far; each draws numbers of its own."""

    @property
    def recent(self) -> bool:
        """Are axes and sizes inputs?  Those of other reductions than sums became so later: :attr:`reduces`."""
        return self.opset >= 13

    @property
    def reduces(self) -> bool:
        """Are the axes of every reduction an input?"""
        return self.opset >= 18


Rule: TypeAlias = "Callable[[Site, Choices], ir.Value | Sequence[ir.Value | None] | None]"
"""From a node to the value that takes the place of its first output, or the values of all; None where one stays."""


class Form(NamedTuple):
    """How an operator is computed instead, and a line that says so."""

    rule: Rule
    note: str
    everywhere: bool = False
    """In bodies too, and when all others are there, whose patterns may have the operator."""


def by_formula(rule: Callable[[Site], ir.Value]) -> Rule:
    """A training operator by standard ones, which take less than its kernel."""

    def formula(site: Site, choices: Choices) -> ir.Value | None:
        return rule(site) if choices.recent else None

    return formula
