"""Metrics side by side."""

from __future__ import annotations

import math

import pytest

from dsd_ort.api.numbers import format_column, format_metrics, heading


@pytest.mark.parametrize(
    ("metric", "values", "texts"),
    [
        ("loss", [0.00943, 0.00962], ["0.00943 *", "0.00962"]),
        ("loss", [1.2853, 1.5, None], ["1.2853 *", "1.5000", ""]),
        ("loss", [0.5], ["0.5000"]),
        ("loss", [0.5, 0.5], ["0.5000 *", "0.5000 *"]),
        ("loss", [0.5, 0.50000002], ["0.5000000 *", "0.5000000 *"]),
        ("top-5", [0.98, 0.98 + 1e-15, 0.97], ["98.00 % *", "98.00 % *", "97.00 %"]),
        ("loss", [math.inf, 0.5], ["inf", "0.5000 *"]),
        ("top-1", [0.98, 0.9812, 0.7], ["98.00 %", "98.12 % *", "70.00 %"]),
        ("top-1", [0.98125, 0.98126], ["98.125 %", "98.126 % *"]),
        ("cer", [0.2847, 0.286], ["28.47 % *", "28.60 %"]),
        ("perplexity", [2.9, 2.905], ["2.9000 *", "2.9050"]),
        ("top-1", [], []),
        ("top-1", [None, None], ["", ""]),
    ],
)
def test_a_column_has_as_many_digits_as_tell_its_rows_apart_and_marks_the_best(
    metric: str, values: list[float | None], texts: list[str]
) -> None:
    assert format_column(metric, values) == texts


def test_units_and_the_direction_of_better() -> None:
    assert format_metrics({"loss": 0.12345, "top-1": 0.98123, "perplexity": 2.916}, "eval ") == (
        "eval loss 0.1235  eval top-1 98.12 %  eval perplexity 2.92"
    )
    assert (heading("top-1"), heading("wer")) == ("top-1 ↑", "wer ↓")
