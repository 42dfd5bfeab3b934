"""What is known of each operator, once: a row an operator, and everything else asks it.

:mod:`.facts` says what a row can hold, :mod:`.standard` has the rows of ONNX's operators, :mod:`.microsoft` those of
ONNX Runtime's, :mod:`.stops` why no gradient passes one, and :mod:`.cuda` what its kernels want of the host.

What becomes of an operator stands in other tables, each with the functions that do it: ``graph/legalize/table.py``
(training), ``device/lower`` and ``device/portable`` (a session), ``rewrite/shapes.py`` (shapes behind it).
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.operators.facts import ALL, Does, Facts, Half
from dsd_ort.rewrite.operators.microsoft import MICROSOFT
from dsd_ort.rewrite.operators.standard import STANDARD

__all__ = ["ALL", "OPERATORS", "Does", "Facts", "Half", "facts", "key", "those_that"]

OPERATORS: dict[str, Facts] = STANDARD | MICROSOFT
"""By :func:`key`; of what is not here, nothing is known."""

_UNKNOWN = Facts()


def key(node: ir.Node) -> str:
    """How tables call the operator of *node*: its name, with the domain in front if that is not ONNX's own."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def facts(node: ir.Node) -> Facts:
    """What is known of the operator of *node*."""
    return OPERATORS.get(key(node), _UNKNOWN)


def those_that(does: Does) -> frozenset[str]:
    """The operators that do *does*, by their keys."""
    return frozenset(name for name, known in OPERATORS.items() if does in known.does)
