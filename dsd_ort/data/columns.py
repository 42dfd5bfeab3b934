"""Which array feeds which input or label.

One rule: an array goes to the field of its name.  If no name matches, arrays and fields are paired by position, the
model's inputs first and the labels last.  If exactly one field and one array are left over, they are a pair too.

Where a source named its arrays itself (``features``, ``lengths``, ``label``), their names mean little: what names leave
over is paired by position, inputs from the first array on and labels from the last one back.
"""

from __future__ import annotations

from collections.abc import Sequence

from dsd_ort.errors import DataError, nearest
from dsd_ort.fields import Field


def match(names: Sequence[str], fields: Sequence[Field], where: str, *, own_names: bool = False) -> dict[str, str]:
    """Field's name → array's name, for every field; arrays that no field wants are left out.

    *own_names* says that the source named the arrays.

    Raises:
        DataError: a field gets no array; both sides are listed.
    """
    wanted = sorted(fields, key=lambda field: field.label)  # stable: inputs keep the model's order
    pairs = {field.name: field.name for field in wanted if field.name in names}
    open_fields = [field for field in wanted if field.name not in pairs]
    open_names = [name for name in names if name not in pairs]
    if len(open_fields) == len(open_names) and (not pairs or len(open_fields) == 1):
        pairs.update((field.name, name) for field, name in zip(open_fields, open_names, strict=True))
        open_fields = []
    elif own_names and len(open_fields) <= len(open_names):
        inputs, labels = ([field.name for field in open_fields if field.label is label] for label in (False, True))
        pairs.update(zip(inputs, open_names, strict=False))
        pairs.update(zip(reversed(labels), reversed(open_names), strict=False))
        open_fields = []
    if open_fields:
        hints = [(field, nearest(field.name, open_names)) for field in open_fields]
        near = [f"for {describe(field)}, {hint}" for field, hint in hints if hint]
        near += [
            f"for {describe(field)}, a number that a batch shares, or one for good in the recipe: "
            f"[input.{field.name}] value = 16000"
            for field in open_fields
            if not (field.shape or field.label)
        ]
        raise DataError(
            f"no array for {_listed(open_fields)}: the data has {', '.join(map(repr, names)) or 'no arrays'}, "
            f"the model takes {_listed(wanted)}",
            where=where,
            fix="; ".join(near) or "give each array the name of its input or label",
        )
    return pairs


def describe(field: Field) -> str:
    """``input 'x'`` or ``label 'y'``."""
    return f"{'label' if field.label else 'input'} {field.name!r}"


def _listed(fields: Sequence[Field]) -> str:
    return ", ".join(describe(field) for field in fields)
