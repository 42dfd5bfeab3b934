"""From a recipe to TOML that :mod:`~dsd_ort.recipe.reading` takes back: only keys that are not their defaults.

Tables that stand in an array are inline but for the array's own entries: ``learning_rate = { initial = 1e-3 }``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

import msgspec


def to_toml(recipe: msgspec.Struct, *, only: Collection[str] = (), also: Collection[str] = ()) -> str:
    """The text, which ends in a newline: of the *only* keys at its top, if any; keys called *also* by default too."""
    values: list[str] = []
    tables: list[str] = []
    for key, value in _given(recipe, also).items():
        if only and key not in only:
            continue
        if isinstance(value, dict):
            tables += _table(key, value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for entry in value:
                tables += ["", f"[[{key}]]", *(f"{_key(name)} = {_value(inner)}" for name, inner in entry.items())]
        else:
            values.append(f"{_key(key)} = {_value(value)}")
    return "\n".join([*values, *tables]).lstrip("\n") + "\n"


def _given(table: msgspec.Struct, also: Collection[str]) -> dict[str, Any]:
    """Plain values of the keys that are not their defaults or are called *also*, in the format's order."""
    found = {}
    for field in msgspec.structs.fields(table):
        value = getattr(table, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if value != default or (field.name in also and value is not None):
            found[field.name] = _plain(value, also)
    return found


def _plain(value: Any, also: Collection[str]) -> Any:
    if isinstance(value, msgspec.Struct):
        return _given(value, also)
    if isinstance(value, dict):
        return {key: _plain(inner, also) for key, inner in value.items()}
    return [_plain(inner, also) for inner in value] if isinstance(value, (tuple, list)) else value


def _table(name: str, content: dict[str, Any]) -> list[str]:
    """Its own keys, then the tables in it."""
    inner = {key: value for key, value in content.items() if isinstance(value, dict)}
    own = [f"{_key(key)} = {_value(value)}" for key, value in content.items() if key not in inner]
    lines = ["", f"[{name}]", *own] if own or not inner else []
    return lines + [line for key, value in inner.items() for line in _table(f"{name}.{_key(key)}", value)]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
