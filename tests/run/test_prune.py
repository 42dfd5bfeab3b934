from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dsd_ort.graph.manifest import Slice
from dsd_ort.recipe import Prune
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.prune import lowest, write_masks

# Few distinct values, so that ties are the rule.
WEIGHTS = arrays.arrays(
    np.float32, arrays.array_shapes(max_dims=4, max_side=6), elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0])
)


def magnitude_mask(weights: np.ndarray, sparsity: float) -> np.ndarray:
    pruned = lowest(np.abs(weights).reshape(1, -1), sparsity)
    return 1 - pruned.astype(np.float32).reshape(weights.shape)


@given(WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_law_4_a_mask_prunes_exactly_the_rounded_share(weights: np.ndarray, sparsity: float) -> None:
    mask = magnitude_mask(weights, sparsity)
    assert np.count_nonzero(mask == 0) == round(weights.size * sparsity)
    assert set(np.unique(mask)) <= {0.0, 1.0}


@given(WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_law_4_no_pruned_weight_is_larger_than_a_kept_one(weights: np.ndarray, sparsity: float) -> None:
    mask = magnitude_mask(weights, sparsity)
    pruned, kept = np.abs(weights[mask == 0]), np.abs(weights[mask == 1])
    assert not pruned.size or not kept.size or pruned.max() <= kept.min()


@given(WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_law_4_among_equals_the_first_are_pruned(weights: np.ndarray, sparsity: float) -> None:
    order = np.lexsort((np.arange(weights.size), np.abs(weights).reshape(-1)))
    expected = np.ones(weights.size, np.float32)
    expected[order[: round(weights.size * sparsity)]] = 0
    np.testing.assert_array_equal(magnitude_mask(weights, sparsity).reshape(-1), expected)


def _arena(*layers: np.ndarray) -> Arena:
    pieces, offset = [], 0
    for i, layer in enumerate(layers):
        pieces.append(
            Slice(
                name=f"layer{i}.weight",
                shape=layer.shape,
                offset=offset,
                size=layer.size,
                role="matrix",
                layer=f"MatMul {i}",
                prunable=True,
                trained=True,
            )
        )
        offset += -(-layer.size // 16) * 16
    arena = Arena(pieces, [], ["momentum"])
    arena.fill({piece.name: layer for piece, layer in zip(pieces, layers, strict=True)})
    return arena


def _zeros(arena: Arena) -> list[int]:
    return [int(np.count_nonzero(view(arena.masks, p) == 0)) for p in arena.prunable]


SMALL, LARGE = np.linspace(0.01, 0.1, 10, dtype=np.float32), np.linspace(1, 2, 30, dtype=np.float32)


def test_by_default_every_layer_loses_the_same_share() -> None:
    arena = _arena(SMALL, LARGE)
    write_masks(arena, 0.5, Prune())
    assert _zeros(arena) == [5, 15]


def test_global_pruning_takes_the_smallest_of_all_layers_together() -> None:
    arena = _arena(SMALL, LARGE)
    write_masks(arena, 0.5, Prune(scope="global"))
    assert _zeros(arena) == [10, 10]


def test_a_layer_with_a_sparsity_of_its_own_keeps_it_in_both_scopes() -> None:
    for scope, others in (("layer", 15), ("global", 15)):
        arena = _arena(SMALL, LARGE)
        write_masks(arena, 0.5, Prune(scope=scope, layers={"layer0.*": 0.2}))  # type: ignore[arg-type]
        assert _zeros(arena) == [2, others]


def test_applying_masks_zeroes_weights_and_slots_to_positive_or_negative_zero_only() -> None:
    arena = _arena(SMALL - 0.05, LARGE)
    arena.slots["momentum"][:] = 3
    write_masks(arena, 0.3, Prune())
    arena.apply_masks()
    for buffer in (arena.weights, arena.slots["momentum"]):
        for piece in arena.prunable:
            assert np.all(view(buffer, piece)[view(arena.masks, piece) == 0] == 0.0)
    assert arena.density() == pytest.approx(1 - 12 / 40)


@pytest.mark.parametrize(
    ("role", "shape", "least"),
    [
        ("matrix", (7, 3), 7),
        ("matrix", (3, 7), 7),
        ("matrix", (5,), 5),
        ("matrix", (4, 3, 7), 28),  # four side by side
        ("recurrent", (2, 24, 6), 48),  # of both directions
        ("kernel", (8, 4, 3, 3), 8),
        ("kernel", (4, 8, 5), 8),
        ("kernel", (6, 1, 3, 3), 6),  # depthwise
        ("kernel", (3, 2, 1, 1), 3),
    ],
)
@given(sparsity=st.floats(0, 1, exclude_max=True))
def test_alive_leaves_a_weight_for_each_input_and_output(
    role: str, shape: tuple[int, ...], least: int, sparsity: float
) -> None:
    size = int(np.prod(shape))
    piece = Slice(name="w", shape=shape, offset=0, size=size, role=role, layer="w", prunable=True, trained=True)
    arena = Arena([piece], [], ["momentum"])
    arena.weights[:size] = np.random.default_rng(0).standard_normal(size)
    write_masks(arena, sparsity, Prune(alive=True))
    assert np.count_nonzero(view(arena.masks, piece)) == max(size - round(size * sparsity), least)
