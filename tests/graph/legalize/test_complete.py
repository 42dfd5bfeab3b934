"""Every operator of ONNX's default domain is in exactly one class: trained, without a derivative, or refused."""

from __future__ import annotations

import onnx.defs
import pytest

from dsd_ort.graph.legalize.opset import NEWER, TARGET
from dsd_ort.graph.legalize.table import FIXES, FUSED, MODES, NATIVE, REASONS, RULES
from dsd_ort.graph.legalize.without_derivative import WITHOUT_DERIVATIVE
from dsd_ort.rewrite.path import STOPS

NEWEST = 21


def operators() -> list[str]:
    """Those of the default domain up to opset 21, the latest definition of each not being deprecated."""
    names = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    known = [name for name in names if onnx.defs.has(name, max_inclusive_version=NEWEST)]
    return sorted(name for name in known if not onnx.defs.get_schema(name, NEWEST).deprecated)


TRAINED = {*RULES, *FUSED, *NATIVE, *(name for mode in MODES.values() for name in mode)}
LOWERED = {name for name in NEWER if not onnx.defs.has(name, max_inclusive_version=TARGET)}
"""Operators newer than the rules' opset, which come to them as older ones."""


@pytest.mark.parametrize("name", operators())
def test_every_operator_is_in_exactly_one_class(name: str) -> None:
    classes = {
        "trained": name in TRAINED or name in LOWERED,
        "without derivative": name in WITHOUT_DERIVATIVE,
        "refused": name in REASONS and name not in FUSED,  # or it says why where FUSED has no form for it
    }
    assert sum(classes.values()) == 1, classes


def test_the_tables_name_no_operator_that_does_not_exist() -> None:
    for table in (RULES, NATIVE, WITHOUT_DERIVATIVE, REASONS, dict.fromkeys(STOPS)):
        assert {name for name in table if "." not in name} - set(operators()) == set()


def test_every_reason_comes_with_what_to_do() -> None:
    assert {*REASONS.values(), *WITHOUT_DERIVATIVE.values()} - set(FIXES) <= {
        reason for reason in REASONS.values() if "cannot train" in reason
    }


def test_what_stops_a_gradient_has_a_rule_that_cuts_it_off() -> None:
    """ONNX Runtime's builder stops at none of them: it fails."""
    assert STOPS - set(RULES) == set()
