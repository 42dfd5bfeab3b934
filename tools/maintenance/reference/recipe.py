"""The page of the recipe's format: every key of every table, from :mod:`dsd_ort.recipe.tables`."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from dsd_ort.recipe import tables
from dsd_ort.recipe.writing import to_toml
from tools.maintenance.reference.docstrings import attributes, markdown

EXAMPLES = Path(__file__).with_name("examples.toml")
_NAMES: dict[Any, str] = {float: "number", int: "whole number", str: "text", bool: "true or false", Any: "anything"}


class Table(NamedTuple):
    """A table of the format, as it is written in a recipe: ``[optimizer]``, ``[[phase]]``."""

    header: str
    kind: type[msgspec.Struct]


class Key(NamedTuple):
    name: str
    type: Any
    default: Any
    """``msgspec.NODEFAULT`` where the key has to be given."""
    about: str


RECIPE = Table("", tables.Content)


def all_tables(table: Table = RECIPE) -> list[Table]:
    """*table*, and those inside of it, in the order of the format; the recipe itself has an empty header."""
    found = [table]
    for key in keys(table.kind):
        for kind in dict.fromkeys(part for part in _parts(key.type) if _is_table(part)):
            found += all_tables(Table(_header(table, key), kind))
            found += [Table(f"{_header(table, key)} # a group", tables.Cycle)] if kind is tables.Phase else []
    return found


def _header(table: Table, key: Key) -> str:
    path = ".".join(filter(None, (table.header.strip("[]"), key.name)))
    if get_origin(key.type) is dict:
        return f"[{path}.NAME]"
    return f"[[{path}]]" if get_origin(key.type) is tuple else f"[{path}]"


def keys(kind: type[msgspec.Struct]) -> Iterator[Key]:
    """The keys of a table, in the order of the format."""
    types_of, said = get_type_hints(kind), attributes(kind)
    for field in msgspec.structs.fields(kind):
        made = field.default_factory is not msgspec.NODEFAULT
        default = field.default_factory() if made else field.default
        yield Key(field.name, types_of[field.name], default, said[field.name])


def examples() -> dict[tuple[str, str], str]:
    """(Header of a table, key) → the line that shows the key."""
    found, header = {}, ""
    for line in EXAMPLES.read_text("utf-8").splitlines():
        if line.startswith("["):
            header = line
        elif line and not line.startswith("#"):
            found[header, line.partition(" = ")[0]] = line
    return found


def _parts(kind: Any) -> tuple[Any, ...]:
    """The types that a key may have: of a union each, of a list its entries', of a table of names its values'."""
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(part for choice in get_args(kind) for part in _parts(choice))
    if get_origin(kind) is tuple:
        return _parts(get_args(kind)[0])
    if get_origin(kind) is dict:
        return _parts(get_args(kind)[1])
    return (kind,)


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def described(kind: Any) -> str:
    """A type in words."""
    if get_origin(kind) in (Union, types.UnionType):
        left_out = {type(None), int} if float in get_args(kind) else {type(None)}
        return " or ".join(described(part) for part in get_args(kind) if part not in left_out)
    if get_origin(kind) is tuple:
        return f"list of {described(get_args(kind)[0])}".replace("list of table", "tables")
    if get_origin(kind) is dict:
        return f"{described(get_args(kind)[1])} by name"
    if get_origin(kind) is Literal:
        return ", ".join(f'`"{value}"`' for value in get_args(kind))
    return "table" if _is_table(kind) else _NAMES[kind]


def _default(key: Key) -> str:
    if key.default is msgspec.NODEFAULT:
        return "has to be given"
    if key.default is None or isinstance(key.default, msgspec.Struct):
        return ""
    if key.default == {}:
        return "`{}`"
    holder = msgspec.defstruct("_", [(key.name, Any, None)])
    return f"`{to_toml(holder(**{key.name: key.default})).partition(' = ')[2].strip()}`"


def _anchor(table: Table) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", table.header.lower()).strip("-")


def page() -> str:
    """Markdown."""
    shown, known, parts = examples(), all_tables(), [_TOP]
    for table in known:
        parts += [f"## `{table.header}` {{ #{_anchor(table)} }}" if table.header else "## At the top", ""]
        if table.header:
            parts += [markdown(table.kind.__doc__ or "")]
        parts += ["| key | type | default | | example |", "|---|---|---|---|---|"]
        for key in keys(table.kind):
            about = markdown(key.about).replace("\n", " ").strip()
            example = shown.get((table.header, key.name), "")
            inside = next((t for t in known if t.header and t.kind in _parts(key.type)), None)
            name = f"[`{key.name}`](#{_anchor(inside)})" if inside else f"`{key.name}`"
            cells = [name, described(key.type), _default(key), about, f"`{example}`" if example else ""]
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("")
    return "\n".join(parts)


_TOP = f"""# The recipe

A recipe says how a model is retrained, as a TOML file. Every key has a default but the phases, and a wrong key is an
error that names the right one. `dsd-ort recipes` lists those that ship with the package; `--set KEY=VALUE` overrides
a key. Written from `dsd_ort/recipe/tables.py`.

{markdown((tables.__doc__ or "").partition(chr(10) * 2)[2])}"""
