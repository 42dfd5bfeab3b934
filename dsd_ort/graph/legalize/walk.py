"""Each node once, by its rule: along the graph, and through the bodies of If and Scan.

Running statistics that follow inside of a branch leave the If as further outputs; what they were leaves the other one.
In a Scan they would follow once a step, so batch norm is refused there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize.expand import note
from dsd_ort.graph.legalize.rules.batch_norm import FROZEN
from dsd_ort.graph.legalize.table import MODES
from dsd_ort.notes import Note
from dsd_ort.rewrite import autograd
from dsd_ort.rewrite.autograd import Operator
from dsd_ort.rewrite.bodies import links
from dsd_ort.rewrite.branches import put_out
from dsd_ort.rewrite.nodes import Nodes
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.parts import bodies
from dsd_ort.rewrite.path import Path
from dsd_ort.rewrite.site import Rule, Site, apply

Statistics = dict[ir.Value, ir.Value]
"""Running statistic → its value after this step, as far as rules have come."""


@dataclass
class Walk:
    """What is done to a graph, and what was."""

    rules: Mapping[str, Rule]
    batch_norm: str = ""
    """A key of :data:`~dsd_ort.graph.legalize.table.MODES`, or nothing: then no operator behaves otherwise."""
    frozen: Collection[str] = ()
    """Running statistics whose batch norm is frozen whatever :attr:`batch_norm` says."""
    notes: list[Note] = field(default_factory=list)
    operators: dict[str, Operator] = field(default_factory=dict)
    """Key → an operator with a backward of its own that the model now calls."""
    refusals: list[UnsupportedError] = field(default_factory=list)

    def through(self, path: Path) -> Statistics:
        """Rewrites the nodes of the path's graph, in place."""
        statistics: Statistics = {}
        self._through(path, statistics)
        return statistics

    def _through(self, path: Path, statistics: Statistics) -> None:
        on_path = {*path.nodes(), *path.steps()}
        for node in list(path.graph):
            if links(node) is not None:
                self._inside(node, path, statistics)
            rule = MODES.get(self._mode(node), {}).get(key(node)) or (
                self.rules.get(key(node)) if node in on_path else None
            )
            if rule is not None:
                self._apply(rule, Site(node, path, statistics))

    def _apply(self, rule: Rule, site: Site) -> None:
        try:
            if apply(rule, site):
                self.notes.append(note(site.node, rule))
                self.operators |= {f"{autograd.DOMAIN}.{name}": made for name, made in site.operators.items()}
        except UnsupportedError as error:
            self.refusals.append(error)

    def _mode(self, node: ir.Node) -> str:
        statistics = node.inputs[3:5] if key(node) == "BatchNormalization" else ()
        kept = any(value is not None and value.name in self.frozen for value in statistics)
        return "frozen" if kept else self.batch_norm

    def _inside(self, node: ir.Node, path: Path, statistics: Statistics) -> None:
        """Rewrites the bodies of *node*, and hands out the statistics that follow there."""
        found = []
        for inside in path.inside(node):
            found.append(dict(statistics))
            self._through(inside, found[-1])
        for old in dict.fromkeys(old for after in found for old in after):
            values = [after.get(old, old) for after in found]
            if all(value is statistics.get(old) for value in values):
                continue
            if key(node) == "If":
                leaving = [_of(body, value) for body, value in zip(bodies(node), values, strict=True)]
                statistics[old] = put_out(node, leaving, f"{old.name}/after")
            else:
                why = "has a batch norm inside, whose running statistics would follow at every step"
                self.refusals.append(Site(node, path).refusal(why, FROZEN))


def _of(body: ir.Graph, value: ir.Value) -> ir.Value:
    """*value* as one of *body*."""
    if value.graph is body:
        return value
    new = Nodes(str(value.name))
    copy = new.Identity(value)
    new.append_to(body)
    return copy
