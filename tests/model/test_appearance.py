"""What tells a tensor that was learned from one that somebody wrote down: its numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from dsd_ort.file.tensors import Place
from dsd_ort.model import source
from dsd_ort.model.appearance import axes, is_even, is_mask, is_pattern, is_token, is_zero

LEARNED = np.random.default_rng(0).standard_normal((1, 8, 1, 4)).astype(np.float32)
MASK = np.where(np.tri(4, dtype=np.bool_), 0, -1e4).astype(np.float32)


def stored(folder: Path, array: np.ndarray) -> tuple[Path, Place]:
    """A file that holds *array*, and where."""
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]> g (float x) => (float y) { y = Neg (x) }')
    model.graph.initializer.append(onnx.numpy_helper.from_array(array, "w"))
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path, source.load(path).places["w"]


def test_axes_of_one_entry_do_not_count(tmp_path: Path) -> None:
    assert axes(stored(tmp_path, LEARNED)[1]) == 2
    assert axes(stored(tmp_path, np.zeros((1, 1), np.float32))[1]) == 0


@pytest.mark.parametrize(
    ("array", "even", "zero"),
    [
        (np.zeros(3), True, True),
        (np.ones(3), True, False),
        (np.arange(3), False, False),
        (np.array([1, np.nan]), False, False),
    ],
)
def test_equal_entries(tmp_path: Path, array: np.ndarray, even: bool, zero: bool) -> None:
    place = stored(tmp_path, array.astype(np.float32))
    assert (is_even(*place), is_zero(*place)) == (even, zero)


@pytest.mark.parametrize(
    ("array", "pattern"),
    [
        (LEARNED, False),
        (LEARNED.astype(np.float16), False),
        (np.ones((4, 4), np.float32), False),  # as many weights are before training
        (np.arange(12, dtype=np.float32), True),
        (np.tile(np.float32([0.25, 0.75]), 8), True),
        (np.linspace(0, 1, 8, dtype=np.float32), False),
        (np.float32([3]), False),
        (MASK, True),
    ],
)
def test_a_pattern_repeats_itself_or_counts(tmp_path: Path, array: np.ndarray, pattern: bool) -> None:
    assert is_pattern(*stored(tmp_path, array)) == pattern


def test_a_mask_hides_positions(tmp_path: Path) -> None:
    assert is_mask(*stored(tmp_path, MASK))
    assert is_mask(*stored(tmp_path, np.float32([0, -np.inf])))
    assert not is_mask(*stored(tmp_path, LEARNED))


def test_a_token_is_a_vector_that_no_one_wrote_down(tmp_path: Path) -> None:
    for array, elsewhere, in_sequence in (
        (LEARNED, True, True),
        (np.zeros((1, 1, 4), np.float32), False, True),  # as it is before any training, or padding
        (np.zeros((2, 4), np.float32), False, False),
        (np.arange(4, dtype=np.float32), False, False),
        (LEARNED.reshape(-1)[:1], False, False),
    ):
        place = stored(tmp_path, array)
        assert is_token(*place, in_sequence=False) == elsewhere
        assert is_token(*place, in_sequence=True) == in_sequence
