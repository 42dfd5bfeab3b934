"""docs/coverage.md says what is so."""

from __future__ import annotations

import pytest

from tools.coverage import __main__ as coverage
from tools.coverage import operators
from tools.coverage.runtime import onnx_runtime

STORED = coverage.Coverage.load(coverage.DOCS / "coverage.json")
STALE = f"docs/coverage.md is out of date; this renews it: {coverage.RENEW}"


def test_the_coverage_has_the_cases_that_there_are() -> None:
    assert {row.id for row in STORED.operators} == {*operators.cases()}, STALE


@pytest.mark.skipif(
    onnx_runtime() not in (STORED.runtime, STORED.stock), reason="not an ONNX Runtime that was measured"
)
@pytest.mark.timeout(600)
def test_the_operators_are_covered_as_the_table_says() -> None:
    fresh = coverage.with_operators(STORED)
    changed = [(new, old) for new, old in zip(fresh.operators, STORED.operators, strict=False) if new != old]
    assert not changed, f"{STALE}\n{changed[:5]}"
    assert fresh == STORED, STALE


def test_the_page_is_what_the_tool_writes() -> None:
    assert (coverage.DOCS / "coverage.md").read_text() == coverage.page(STORED), STALE


def test_no_gradient_of_an_operator_is_wrong() -> None:
    assert {(row.ours, row.stock) for row in STORED.operators} == {("right", "right")}
