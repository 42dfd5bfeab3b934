"""Every operator of ONNX's default domain is in exactly one class: trained, without a derivative, or refused."""

from __future__ import annotations

import onnx.defs
import pytest

from dsd_ort.graph.differentiate.table import RULES as GRADIENTS
from dsd_ort.graph.legalize import native
from dsd_ort.graph.legalize.opset import NEWER, TARGET
from dsd_ort.graph.legalize.table import FUSED, MODES, RULES
from dsd_ort.rewrite.operators import OPERATORS, Does, those_that
from dsd_ort.rewrite.operators.stops import BITS, WITHOUT_DERIVATIVE

NEWEST = 21


def operators() -> list[str]:
    """Those of the default domain up to opset 21, the latest definition of each not being deprecated."""
    names = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    known = [name for name in names if onnx.defs.has(name, max_inclusive_version=NEWEST)]
    return sorted(name for name in known if not onnx.defs.get_schema(name, NEWEST).deprecated)


NATIVE = {name for name, known in OPERATORS.items() if known.native}
FLAT = those_that(Does.FLAT)
"""A gradient ends there, and is zero."""
STOPPED = {name: known.stops for name, known in OPERATORS.items() if known.stops is not None}
TRAINED = {*RULES, *FUSED, *GRADIENTS, *FLAT, *(name for mode in MODES.values() for name in mode)}
LOWERED = {name for name in NEWER if not onnx.defs.has(name, max_inclusive_version=TARGET)}
"""Operators newer than the rules' opset, which come to them as older ones."""


@pytest.mark.parametrize("name", operators())
def test_every_operator_is_in_exactly_one_class(name: str) -> None:
    classes = {
        "trained": name in TRAINED or name in LOWERED,
        "without derivative": STOPPED.get(name) in WITHOUT_DERIVATIVE,
        # or it says why where a rule has no form for it, or ONNX Runtime's builder no gradient
        "refused": STOPPED.get(name, BITS) not in WITHOUT_DERIVATIVE and name not in TRAINED,
    }
    assert sum(classes.values()) == 1, classes


def test_the_tables_name_no_operator_that_does_not_exist() -> None:
    """Upsample is of older opsets; SimplifiedLayerNormalization is ONNX Runtime's, in ONNX's domain."""
    known = {*operators(), *LOWERED, "Upsample", "SimplifiedLayerNormalization"}
    for table in (RULES, OPERATORS):
        assert {name for name in table if "." not in name} - known == set()


def test_every_reason_comes_with_what_to_do() -> None:
    assert all(stop.why and stop.fix for stop in STOPPED.values())


def test_what_stops_a_gradient_has_a_rule_that_cuts_it_off() -> None:
    """ONNX Runtime's builder stops at none of them: it fails."""
    assert FLAT - set(native.RULES) == set()


def test_what_either_builder_trains_the_other_does() -> None:
    assert {*RULES, *GRADIENTS} - {"If", "Scan"} == {*RULES, *native.RULES, *NATIVE} - FLAT
