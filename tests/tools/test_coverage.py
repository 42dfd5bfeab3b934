"""docs/coverage.md says what is so."""

from __future__ import annotations

import msgspec
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
@pytest.mark.parametrize("quarter", [0, *(pytest.param(other, marks=pytest.mark.slow) for other in (1, 2, 3))])
def test_the_operators_are_covered_as_the_table_says(quarter: int, monkeypatch: pytest.MonkeyPatch) -> None:
    some = dict(sorted(operators.cases().items())[quarter::4])
    monkeypatch.setattr(operators, "cases", lambda: some)
    fresh, stored = coverage.with_operators(STORED), {row.id: row for row in STORED.operators}
    changed = [(row, stored[row.id]) for row in fresh.operators if row != stored[row.id]]
    assert len(fresh.operators) == len(some) and not changed, f"{STALE}\n{changed[:5]}"
    assert [*operators.refused(STORED.operators)] == STORED.refused, STALE
    assert msgspec.structs.replace(fresh, operators=STORED.operators, refused=STORED.refused) == STORED, STALE


def test_the_page_is_what_the_tool_writes() -> None:
    assert (coverage.DOCS / "coverage.md").read_text() == coverage.page(STORED), STALE


def test_no_gradient_of_an_operator_is_wrong() -> None:
    assert {(row.ours, row.stock) for row in STORED.operators} == {("right", "right")}
