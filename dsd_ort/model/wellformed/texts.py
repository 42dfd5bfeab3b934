"""Texts are texts: protobuf promises UTF-8, and hands out bytes where it is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

from dsd_ort.file.limits import malformed


def refuse_bad_texts(model: onnx.ModelProto, where: str) -> None:
    """Raises ModelError: a text somewhere in *model* that is no UTF-8."""
    if bad := next(_bad(model, ""), None):
        raise malformed(f"a text is not in UTF-8: {bad}", where)


def _bad(message: Any, at: str) -> Iterator[str]:
    """The fields of *message* and what is in it that hold bytes where they promise text."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        repeated = not (isinstance(value, (str, bytes)) or hasattr(value, "ListFields"))
        for index, one in enumerate(value if repeated else [value]):
            place = f"{at}.{field.name}[{index}]" if repeated else f"{at}.{field.name}"
            if field.type == field.TYPE_MESSAGE:
                yield from _bad(one, place)
            elif isinstance(one, bytes):
                yield place.lstrip(".")
