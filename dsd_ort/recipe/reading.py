"""From TOML to tables: the file, single values, and unknown keys."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from dsd_ort.errors import RecipeError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 1 << 20
"""Bytes of a recipe."""
DEEPEST = 1000
"""Parts of one key: reading takes time by their square."""
BUILTIN = Path(__file__).parent / "builtin"


def builtin_names() -> list[str]:
    """The recipes that ship with the package: ``default``, ``paper/resnet50``, …"""
    return sorted(str(path.relative_to(BUILTIN).with_suffix("").as_posix()) for path in BUILTIN.rglob("*.toml"))


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file, or of the built-in recipe of that name where there is no such file.

    Raises:
        RecipeError: no such file or name, or not TOML.
    """
    names = builtin_names()
    found = BUILTIN / f"{path}.toml" if not Path(path).exists() and str(path) in names else Path(path)
    try:
        with found.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST or _deepest(content) > DEEPEST:
            what = f"the recipe has more than {LARGEST:,} bytes, or tables {DEEPEST} deep in each other"
            raise RecipeError(what, where=str(path), fix="give a recipe: dsd-ort recipes shows some")
        table: dict[str, Any] = tomllib.loads(content.decode("utf-8").replace("\r\n", "\n"))
    except OSError as error:
        fix = nearest(str(path), names) or "give the path of a TOML file, or one of " + ", ".join(names)
        raise RecipeError(f"the recipe cannot be read: {error.strerror}", where=str(path), fix=fix) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(
            f"the recipe is not TOML: {error}", where=str(path), fix="mend that line; see the README's recipe"
        ) from error
    return table


def _deepest(content: bytes) -> int:
    """The most parts that a key in *content* may have, by its dots; numbers in a list have commas between them."""
    return max(part.count(b".") for part in re.split(rb"[\n,=\[\]{}]", content))


def parse_value(text: str) -> Any:
    """A TOML value such as ``0.1``, ``true`` or ``["a", "b"]``; anything else is taken as text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def tables_in(annotation: Any) -> list[type[msgspec.Struct]]:
    """The table classes in a type such as ``Loss | tuple[Loss, ...]``."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, msgspec.Struct) else []
    return list(dict.fromkeys(t for a in get_args(annotation) for t in tables_in(a)))


def refuse_unknown_keys(cls: type[msgspec.Struct], table: dict[str, Any], where: str, path: str = "") -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(cls)}
    for key, value in table.items():
        if key not in fields:
            raise RecipeError(
                f"unknown key {path + key!r} in the recipe",
                where=where,
                fix=nearest(key, fields) or "the keys here are " + ", ".join(fields),
            )
        for inner in tables_in(fields[key]):
            by_name = get_origin(fields[key]) is dict and isinstance(value, dict)
            items = value if isinstance(value, list) else list(value.values()) if by_name else [value]
            for item in items:
                if isinstance(item, dict):
                    refuse_unknown_keys(inner, item, where, f"{path}{key}.")
