"""Where operators stand in tables: what is known of one is said in ``dsd_ort/rewrite/operators``, and nowhere else.

A table is a set, tuple, list, dict or ``"…".split()`` that names three operators or more.  One whose entries are
functions (a *dispatch*: operator → rule) says what becomes of an operator, and belongs to those functions; any other
says what an operator is::

    python -m tools.maintenance.operator_tables                  # of this revision
    python -m tools.maintenance.operator_tables --root OTHER     # of the package in another checkout
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import onnx.defs

HOME = "dsd_ort/rewrite/operators/"
_KNOWN = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
_KNOWN |= {"BiasGelu", "FastGelu", "FusedMatMul", "QuickGelu", "MatMulNBits", "QAttention", "QGemm"}


class Table(NamedTuple):
    file: str
    line: int
    operators: tuple[str, ...]
    dispatch: bool
    """Whether its entries are functions."""


def tables(root: Path) -> list[Table]:
    """All tables of the package in the checkout *root*, in order."""
    found = []
    for path in sorted((root / "dsd_ort").rglob("*.py")):
        inside: set[int] = set()  # a table in a table is no other
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            operators = tuple(name for name in _names(node) if _is_operator(name))
            if len(operators) >= 3 and id(node) not in inside:
                inside |= {id(inner) for inner in ast.walk(node)}
                functions = isinstance(node, ast.Dict) and any(map(_is_function, node.values))
                found.append(Table(path.relative_to(root).as_posix(), node.lineno, operators, functions))
    return found


def _names(node: ast.AST) -> Iterator[str]:
    """The texts that a literal consists of, those of tuples that are spread into it included."""
    if isinstance(node, ast.Set | ast.Tuple | ast.List):
        for element in node.elts:
            yield from _names(element.value if isinstance(element, ast.Starred) else element)
    elif isinstance(node, ast.Dict):
        for key in node.keys:
            parts = key.elts if isinstance(key, ast.Tuple) else [key]  # ("com.microsoft", "FusedConv")
            texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            yield ".".join(filter(None, texts))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        words = node.value.split()
        yield from words if sum(map(_is_operator, words)) > 0.8 * len(words) else []


def _is_operator(name: str) -> bool:
    return name.removeprefix("com.microsoft.") in _KNOWN or name.startswith("com.microsoft.")


def _is_function(value: ast.expr) -> bool:
    """Whether an entry is a function, or made with one: ``shape.concat``, ``_rule``, ``Form(cpu.conv, "…")``."""
    parts = value.args if isinstance(value, ast.Call) else value.elts if isinstance(value, ast.Tuple) else [value]
    return any(
        isinstance(part, ast.Lambda)
        or (isinstance(part, ast.Name | ast.Attribute) and ast.unparse(part).rpartition(".")[2].islower())
        for part in parts
    )


@click.command(help=__doc__)
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path())
def main(root: Path) -> None:
    everything = tables(root)
    for table in everything:
        kind = "dispatch" if table.dispatch else "facts"
        click.echo(f"{table.file}:{table.line}: {kind}, {len(table.operators)}: {' '.join(table.operators[:6])} …")
    facts = [table for table in everything if not table.dispatch]
    outside = [table for table in facts if not table.file.startswith(HOME)]
    click.echo(f"{len(facts)} tables of facts, {len(outside)} of them outside {HOME}; {len(everything)} tables in all")


if __name__ == "__main__":
    main()
