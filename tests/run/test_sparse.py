"""Masks of every pattern and criterion, counted and chosen by a twin in plain NumPy; law 4."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dsd_ort.graph.manifest import Slice
from dsd_ort.recipe import CriterionName, Prune
from dsd_ort.recipe.patterns import parse
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.criteria import CRITERIA, Known
from dsd_ort.run.prune import FEW, lowest, write_masks
from tests.graph import twin

CRITERIA_NAMES = get_args(CriterionName)


def arena_of(**weights: tuple[np.ndarray, tuple[int, int], bool]) -> Arena:
    pieces, offset = [], 0
    for name, (weight, axes, window) in weights.items():
        role = "kernel" if window else "matrix"
        where: dict[str, Any] = {"name": name, "shape": weight.shape, "offset": offset, "size": weight.size}
        pieces.append(Slice(**where, role=role, layer=name, prunable=True, trained=True, axes=axes))
        offset += -(-weight.size // 16) * 16
    arena = Arena(pieces, [], ["momentum"])
    arena.fill({name: weight for name, (weight, _, _) in weights.items()})
    return arena


def drawn(shape: tuple[int, ...], seed: int = 0, *, distinct: bool = True) -> np.ndarray:
    """Few distinct values, so that ties are the rule, or all of them."""
    rng = np.random.default_rng(seed)
    if distinct:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.choice(np.float32([-2, -1, -0.5, 0, 0.5, 1]), shape)


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 9), st.integers(1, 2 * FEW)), elements=st.sampled_from([0, 1, 2])
    ),
    st.floats(0, 1, exclude_max=True),
)
def test_of_each_group_exactly_so_many_units_are_pruned_the_lowest_and_of_equal_ones_the_first(
    scores: np.ndarray, sparsity: float
) -> None:
    expected = np.zeros(scores.shape, bool)
    for row, group in zip(expected, scores, strict=True):
        row[np.argsort(group, kind="stable")[: round(len(group) * sparsity)]] = True
    np.testing.assert_array_equal(lowest(scores, sparsity), expected)


@pytest.mark.parametrize("criterion", CRITERIA_NAMES)
@pytest.mark.parametrize("name", twin.NAMES)
@pytest.mark.parametrize("case", twin.CASES)
@settings(max_examples=4, deadline=None)
@given(sparsity=st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75, 0.9, 0.99]), distinct=st.booleans())
def test_law_4_of_each_group_exactly_the_rounded_share_of_units_is_pruned_whole_and_by_its_score(
    case: str, name: str, criterion: CriterionName, sparsity: float, distinct: bool
) -> None:
    shape, axes, window = twin.CASES[case]
    weight, pattern = drawn(shape, distinct=distinct), parse(name)
    assert pattern is not None
    norms = {"w": np.linspace(0.1, 3, shape[axes[1]], dtype=np.float32)}
    arena = arena_of(w=(weight, axes, window))
    write_masks(arena, sparsity, Prune(pattern=name, criterion=criterion), seed=3, norms=norms)
    mask = view(arena.masks, arena.prunable[0])
    scores = CRITERIA[criterion](weight, Known("w", axes, norms, 3))
    assert set(np.unique(mask)) <= {0.0, 1.0}
    for units in twin.groups(pattern, shape, axes, window).values():
        kept = [{float(mask[entry]) for entry in entries} for entries in units.values()]
        worth = [
            float(np.float32(np.mean([scores[e] for e in entries], dtype=np.float64))) for entries in units.values()
        ]
        assert all(len(each) == 1 for each in kept), "a unit is pruned whole"
        assert sum(each == {0.0} for each in kept) == round(len(units) * sparsity)
        pruned = [worth[i] for i, each in enumerate(kept) if each == {0.0}]
        left = [worth[i] for i, each in enumerate(kept) if each == {1.0}]
        assert not pruned or not left or max(pruned) <= min(left) * (1 + 1e-6)


@pytest.mark.parametrize("criterion", CRITERIA_NAMES)
@pytest.mark.parametrize("name", ["unstructured", "4x1", "2x2", "channels"])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.8])
def test_over_all_layers_together_the_share_is_one_of_all_their_units(
    name: str, criterion: CriterionName, sparsity: float
) -> None:
    a, b = drawn((8, 16, 3, 3)), 3 * drawn((12, 8), 1)
    arena = arena_of(a=(a, (0, 1), True), b=(b, (1, 0), False))
    norms = {"a": np.ones(16, np.float32), "b": np.ones(12, np.float32)}
    write_masks(arena, sparsity, Prune(pattern=name, criterion=criterion, scope="global"), norms=norms)
    pattern, total, pruned = parse(name), 0, 0
    assert pattern is not None
    for piece, window in zip(arena.prunable, (True, False), strict=True):
        assert not isinstance(piece.axes, msgspec.UnsetType)
        mask = view(arena.masks, piece)
        (units,) = twin.groups(pattern, piece.shape, piece.axes, window).values()
        total += len(units)
        pruned += sum(all(mask[entry] == 0 for entry in entries) for entries in units.values())
        assert all(len({float(mask[entry]) for entry in entries}) == 1 for entries in units.values())
    assert pruned == round(total * sparsity)
    if criterion == "magnitude" and 0 < sparsity < 0.5:
        small, large = (np.mean(view(arena.masks, piece) == 0) for piece in arena.prunable)
        assert small > large


@pytest.mark.parametrize("criterion", CRITERIA_NAMES)
@pytest.mark.parametrize("name", twin.NAMES)
def test_what_is_pruned_stays_so_while_the_sparsity_rises(name: str, criterion: CriterionName) -> None:
    weight = drawn((16, 8, 3, 3))
    arena = arena_of(w=(weight, (0, 1), True))
    rules, norms = Prune(pattern=name, criterion=criterion), {"w": np.linspace(1, 2, 8, dtype=np.float32)}
    before = np.zeros(weight.shape, bool)
    for sparsity in (0.1, 0.25, 0.5, 0.5, 0.75, 0.9):
        write_masks(arena, sparsity, rules, norms=norms)
        arena.apply_masks()
        pruned = view(arena.weights, arena.prunable[0]) == 0
        assert (pruned | ~before).all()
        before = pruned


def test_masks_by_chance_are_a_function_of_seed_and_name() -> None:
    weight, rules = drawn((30, 30)), Prune(criterion="random")

    def mask(name: str, seed: int) -> bytes:
        arena = arena_of(**{name: (weight, (1, 0), False)})
        write_masks(arena, 0.5, rules, seed=seed)
        return arena.masks.tobytes()

    assert mask("w", 1) == mask("w", 1)
    assert len({mask("w", 1), mask("w", 2), mask("v", 1)}) == 3


def test_wanda_knows_the_inputs_of_each_group_of_a_kernel() -> None:
    weight, norms = np.ones((4, 2, 1, 1), np.float32), np.float32([1, 2, 3, 4])
    scores = CRITERIA["wanda"](weight, Known("w", (0, 1), {"w": norms}))
    np.testing.assert_array_equal(scores[:, :, 0, 0], [[1, 2], [1, 2], [3, 4], [3, 4]])


def test_a_layer_s_own_sparsity_rises_with_the_others() -> None:
    weight = drawn((100,))
    arena = Arena(
        [Slice(name="w", shape=(100,), offset=0, size=100, role="matrix", layer="w", prunable=True, trained=True)],
        [],
        [],
    )
    arena.fill({"w": weight})
    for share, pruned in ((0.0, 0), (0.5, 30), (1.0, 60)):
        write_masks(arena, 0.9 * share, Prune(layers={"w": 0.6}), share=share)
        assert np.count_nonzero(arena.masks[:100] == 0) == pruned
