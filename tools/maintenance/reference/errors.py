"""The page of the errors: exit statuses, and the tree of exceptions."""

from __future__ import annotations

import inspect
import re

from dsd_ort import cli, errors
from tools.maintenance.reference.docstrings import markdown
from tools.maintenance.reference.python import LINKS


def statuses() -> dict[int, str]:
    """Exit status → what it means, from the command line's own docstring."""
    [sentence] = re.findall(r"^Exit status: (.*?)\.\n\n", inspect.cleandoc(cli.__doc__ or ""), re.DOTALL | re.MULTILINE)
    found = (part.split(" ", 1) for part in sentence.replace("\n", " ").split("; "))
    return {int(number): meaning for number, meaning in found}


def page() -> str:
    """Markdown."""
    parts = ["# Errors", "", markdown(errors.__doc__ or "")]
    parts += ["[What cannot be trained](../refusals.md) has every refusal of a model, with its message.", ""]
    parts += ["## Exit statuses", "", "| | |", "|---:|---|"]
    parts += [f"| {number} | {meaning} |" for number, meaning in statuses().items()]
    parts += ["", "## Exceptions", "", *_tree(errors.DsdError)]
    return "\n".join(parts)


def _tree(kind: type[Exception], depth: int = 0) -> list[str]:
    said = markdown((kind.__doc__ or "").partition("\n\n")[0], LINKS).replace("\n", " ").strip()
    lines = ["    " * depth + f"- `{kind.__name__}`: {said}"]
    for inner in kind.__subclasses__():
        if inner.__module__ == errors.__name__:
            lines += _tree(inner, depth + 1)
    return lines
