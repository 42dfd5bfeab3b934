"""What a graph wants to be fed: named arrays with a type and a shape."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """One of a model's inputs, or a label.

    ``shape[0]`` is the batch; an axis is a size, or a name or None where any size will do.  Class labels lie in
    [0, ``classes``) or equal ``ignore_index``.
    """

    name: str
    dtype: str
    """NumPy's name: ``"float32"``, ``"int64"``, …"""
    shape: tuple[int | str | None, ...]
    label: bool = False
    classes: int | None = None
    ignore_index: int | None = None
    blank: int | None = None
    """The class that is no label of ctc's."""
