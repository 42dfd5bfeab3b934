"""Docstrings as Markdown: what reST and Google's sections in them say, and what is said of attributes."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping

SECTIONS = {"Args:": "Arguments", "Returns:": "Returns", "Raises:": "Raises"}


def markdown(text: str, links: Mapping[str, str] | None = None) -> str:
    """A docstring as Markdown.  *links*: what a role names, without ``dsd_ort.`` → where it is described."""
    lines = inspect.cleandoc(text).splitlines()
    parts: list[str] = []
    while lines:
        line = lines.pop(0)
        if line in SECTIONS:
            parts += [f"**{SECTIONS[line]}**", "", *_section(_indented(lines)), ""]
        elif line.endswith("::"):
            said = [] if line == "::" else [line[:-1]]
            parts += [*said, "", "```text", *_indented(lines), "```", ""]
        elif line.startswith("===="):
            table = [line]
            while lines and lines[0]:
                table.append(lines.pop(0))
            parts += ["```text", *(row for row in table if not row.startswith("====")), "```"]
        else:
            parts.append(line)
    return _inline("\n".join(parts), links or {}).strip() + "\n"


def _indented(lines: list[str]) -> list[str]:
    """Takes the indented block at the front of *lines* away; blank lines inside belong to it."""
    block: list[str] = []
    while lines and (not lines[0] or lines[0].startswith(" ")):
        block.append(lines.pop(0))
    return textwrap.dedent("\n".join(block)).strip("\n").splitlines()


def _section(block: list[str]) -> list[str]:
    """``name: text`` with continuations as a list; prose as it is."""
    items: list[str] = []
    for line in block:
        found = re.match(r"([\w*, .]+): (.*)", line)
        if line.startswith(" ") and items:
            items[-1] += " " + line.strip()
        elif found and not found[1].count(". "):
            names = ", ".join(f"`{name}`" for name in found[1].split(", "))
            items.append(f"- {names}: {found[2]}")
        elif items and items[-1].startswith("- "):
            items[-1] += " " + line
        else:
            items.append(line)
    return items


def _inline(text: str, links: Mapping[str, str]) -> str:
    def role(found: re.Match[str]) -> str:
        name = found[1].removeprefix("~").removeprefix("dsd_ort.")
        return f"[`{name}`]({links[name]})" if name in links else f"`{found[1].removeprefix('~')}`"

    parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)  # what is fenced stays as it is
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"``([^`]+)``", r"`\1`", re.sub(r":\w+:`([^`]+)`", role, parts[i]))
    return "".join(parts)


def attributes(kind: type) -> dict[str, str]:
    """Name → what the text behind it says, of a class's fields and properties; '' where there is none."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for node, behind in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = behind.value if isinstance(behind, ast.Expr) else None
            said = text.value if isinstance(text, ast.Constant) else ""
            found[node.target.id] = inspect.cleandoc(str(said))
        elif isinstance(node, ast.FunctionDef) and "property" in map(ast.unparse, node.decorator_list):
            found[node.name] = ast.get_docstring(node) or ""
    return found
