"""Which axis the batch is, as far as the names in a signature say it."""

from __future__ import annotations

import pytest

from dsd_ort.fields import Shape, batch_axes

SIGNATURES: dict[str, tuple[dict[str, Shape], list[Shape], dict[str, int], bool]] = {
    "the only symbol": ({"x": (7, "s0", 4)}, [(7, "s0", 5)], {"x": 1}, False),
    "the only symbol, behind two axes": ({"x": (7, 4, "s0")}, [(7, "s0")], {"x": 2}, False),
    "called a batch": ({"x": (7, "batch_size", 4)}, [(7, "batch_size", 5)], {"x": 1}, True),
    "called a batch beside another": ({"x": ("time", "batch", 4)}, [("time", "batch", 5)], {"x": 1}, True),
    "called n beside another": ({"x": ("time", "n", 4)}, [("time", "n", 5)], {"x": 1}, False),
    "first in one, second in a state": ({"x": ("s0", 7, 4), "h": (2, "s0", 6)}, [("s0", 5)], {"h": 1}, True),
    "second in both": ({"x": (7, "n", 4), "h": (2, "n", 6)}, [(7, "n", 5), (2, "n", 6)], {"x": 1, "h": 1}, False),
    "outputs with names of their own": ({"x": (7, "s0", 4)}, [(7, "out_1", 5)], {"x": 1}, False),
    "one example of any length": ({"x": (1, "s0", 4)}, [(1, "s0", 5)], {}, True),
    "one example of n points": ({"x": (1, "n", 3)}, [(1, "n", 9)], {}, True),
    "one step of any batch": ({"x": (1, "batch", 4)}, [(1, "batch", 5)], {"x": 1}, True),
    "first": ({"x": ("n", 4)}, [("n", 5)], {}, True),
    "first, beside a length": ({"x": ("s0", "s1", 4)}, [("s0", "s1", 5)], {}, True),
    "two lengths": ({"x": (4, "s0", "s1")}, [(4, "s0", "s1")], {}, True),
    "not in the output": ({"x": (7, "n", 4)}, [(7, 5)], {"x": 1}, False),
    "in one input only": ({"x": (7, "s0", 4), "y": (7, "s1", 4)}, [(7, "s0", 5)], {}, True),
    "twice in one input": ({"x": ("v", 4), "adjacency": ("v", "v")}, [("v", 5)], {}, True),
    "no symbol": ({"x": (7, 3, 4)}, [(7, 3, 5)], {}, True),
    "no name": ({"x": (None, 4)}, [(None, 5)], {}, True),
    "a number for all": ({"x": (7, "batch", 4), "rate": ()}, [(7, "batch", 5)], {"x": 1}, True),
}


@pytest.mark.parametrize("case", SIGNATURES)
def test_a_signature_says_which_axis_the_batch_is(case: str) -> None:
    inputs, outputs, axes, certain = SIGNATURES[case]
    found = batch_axes(inputs, outputs)
    assert (found.axes, found.certain) == (axes, certain)
