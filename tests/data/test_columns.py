from __future__ import annotations

import pytest

from dsd_ort.data.columns import match
from dsd_ort.errors import DataError
from dsd_ort.fields import Field

A, B = Field("a", "float32", ("N",)), Field("b", "float32", ("N",))
Y = Field("y", "int64", ("N",), label=True)


@pytest.mark.parametrize(
    ("names", "fields", "expected"),
    [
        (["y", "b", "a"], [A, B, Y], {"a": "a", "b": "b", "y": "y"}),  # by name, whatever the order
        (["y", "extra", "a"], [A, Y], {"a": "a", "y": "y"}),  # what no field wants is left out
        (["p", "q", "r"], [A, B, Y], {"a": "p", "b": "q", "y": "r"}),  # by position
        (["p", "q"], [Y, A], {"a": "p", "y": "q"}),  # the label is last, wherever it stands among the fields
        (["y", "image"], [A, Y], {"a": "image", "y": "y"}),  # one of each left over
        (["p"], [A], {"a": "p"}),
    ],
)
def test_arrays_match_by_name_else_by_position_with_the_label_last(names, fields, expected):
    assert match(names, fields, "d") == expected


@pytest.mark.parametrize(
    ("names", "fields", "expected"),
    [
        (["features", "lengths", "label"], [A, B, Y], {"a": "features", "b": "lengths", "y": "label"}),
        (["features", "lengths", "label"], [A, Y], {"a": "features", "y": "label"}),  # lengths are not asked for
        (["features", "lengths", "y"], [A, B, Y], {"a": "features", "b": "lengths", "y": "y"}),
        (["features", "b", "label"], [B, A, Y], {"b": "b", "a": "features", "y": "label"}),
        (["image", "label"], [A], {"a": "image"}),
    ],
)
def test_names_that_a_source_made_up_match_by_position_from_both_ends(names, fields, expected):
    assert match(names, fields, "d", own_names=True) == expected


def test_made_up_names_that_are_too_few_are_refused():
    with pytest.raises(DataError, match="no array for"):
        match(["image", "label"], [A, B, Y], "d", own_names=True)


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (["p"], [A, Y]),
        (["p", "q", "r"], [A, Y]),  # which one is too many?
        (["a", "q", "r"], [A, B, Y]),  # some by name and several by position would be a guess
        ([], [A]),
    ],
)
def test_what_the_rule_does_not_pair_is_refused(names, fields):
    with pytest.raises(DataError, match="no array for"):
        match(names, fields, "d")
