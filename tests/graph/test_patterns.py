"""Patterns: how a weight is seen as groups of units, beside plain loops over its entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dsd_ort
from dsd_ort.errors import RecipeError
from dsd_ort.graph.patterns import View
from dsd_ort.graph.program import open_program
from dsd_ort.recipe import Recipe
from dsd_ort.recipe.patterns import parse
from tests import cases
from tests.graph import twin


@pytest.mark.parametrize("name", twin.NAMES)
@pytest.mark.parametrize("case", twin.CASES)
def test_a_view_has_the_units_that_the_twin_has_and_spreads_what_is_said_of_them(case: str, name: str) -> None:
    shape, axes, window = twin.CASES[case]
    pattern = parse(name)
    assert pattern is not None
    seen = View(pattern, shape, axes, window=window)
    numbers = seen.of(np.arange(np.prod(shape)).reshape(shape))
    expected = twin.groups(pattern, shape, axes, window)
    places = {np.ravel_multi_index(i, shape): i for i in np.ndindex(*shape)}
    assert numbers.shape[0] == len(expected)
    assert {frozenset(frozenset(places[entry] for entry in unit) for unit in group) for group in numbers} == {
        frozenset(frozenset(entries) for entries in units.values()) for units in expected.values()
    }
    back = seen.spread(np.arange(numbers.shape[0] * seen.units).reshape(numbers.shape[:2]))
    assert back.shape == shape
    np.testing.assert_array_equal(seen.of(back), np.repeat(seen.of(back)[..., :1], numbers.shape[2], axis=2))
    assert len(np.unique(back)) == numbers.shape[0] * seen.units


CONVS = (
    "(float[N, 4, 6, 6] x) => (float[N, 6] y) { c = Conv <pads = [1, 1, 1, 1]> (x, K) r = Relu (c) "
    "d = Conv <pads = [1, 1, 1, 1], group = 8> (r, D) a = GlobalAveragePool (d) f = Flatten (a) h = MatMul (f, W) "
    "s = Relu (h) y = Gemm <transB = 1> (s, V) }"
)
SHAPES = {"K": (8, 4, 3, 3), "D": (8, 1, 3, 3), "W": (8, 20), "V": (6, 20)}


def prepared(tmp_path: Path, **prune: Any) -> Recipe:
    model = cases.write(tmp_path / "m.onnx", CONVS, {name: cases.drawn(*shape) for name, shape in SHAPES.items()})
    sparse = {"kind": "sparse", "epochs": 1, "learning_rate": 0.1}
    sparse |= {} if ":" in prune.get("pattern", "") else {"sparsity": 0.5}
    recipe = Recipe.from_dict({"phase": [sparse], "batch_size": 8, "prune": {"exclude": [], **prune}})
    dsd_ort.prepare(model, tmp_path / "run", recipe)
    return recipe


@pytest.mark.parametrize(
    ("prune", "message"),
    [
        ({"pattern": "2:4"}, "'2:4' does not fit 'D': its 1 inputs are no multiple of 4"),
        ({"pattern": "2:8", "exclude": ["D", "K"]}, "'2:8' does not fit 'V': its 20 inputs are no multiple of 8"),
        (
            {"pattern": "8x1"},
            "'8x1' does not fit 'W': its 20 outputs times 8 inputs are not whole blocks, and likewise",
        ),
    ],
)
def test_what_does_not_fit_is_told_when_it_is_prepared(tmp_path: Path, prune: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=r"prune\.exclude = ") as caught:
        prepared(tmp_path, **prune)
    assert message in caught.value.what


def test_a_layer_that_is_not_pruned_needs_not_fit(tmp_path: Path) -> None:
    prepared(tmp_path, pattern="2:4", layers={"D": 0.0})


def test_axes_that_nobody_says_are_refused_by_name(tmp_path: Path) -> None:
    text = '(float[N, 4] x) => (float[N, 8] y) { y = Einsum <equation = "ni,io->no"> (x, W) }'
    model = cases.write(tmp_path / "m.onnx", text, {"W": cases.drawn(4, 8)})
    sparse = {"kind": "sparse", "epochs": 1, "learning_rate": 0.1, "sparsity": 0.5}
    recipe = Recipe.from_dict({"phase": [sparse], "prune": {"pattern": "channels"}})
    with pytest.raises(RecipeError, match=r"which of the axes of its shape \[4, 8\] are outputs and inputs, Einsum y"):
        dsd_ort.prepare(model, tmp_path / "run", recipe)


def test_the_manifest_says_axes_only_where_they_are_wanted(tmp_path: Path) -> None:
    for name, prune in (("without", {}), ("with", {"pattern": "channels"})):
        (tmp_path / name).mkdir()
        prepared(tmp_path / name, **prune)
    assert '"axes"' not in (tmp_path / "without" / "run" / "manifest.json").read_text()
    found = {piece.name: piece.axes for piece in open_program(tmp_path / "with" / "run").manifest.prunable}
    assert found == {"K": (0, 1), "D": (0, 1), "W": (1, 0), "V": (0, 1)}


def test_a_dense_recipe_needs_no_pattern_that_fits(tmp_path: Path) -> None:
    recipe = Recipe.from_dict(
        {"phase": [{"kind": "dense", "epochs": 1, "learning_rate": 0.1}], "prune": {"pattern": "2:8"}}
    )
    model = cases.write(tmp_path / "m.onnx", CONVS, {name: cases.drawn(*shape) for name, shape in SHAPES.items()})
    dsd_ort.prepare(model, tmp_path / "run", recipe)
