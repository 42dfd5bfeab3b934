"""The page of the Python API: what ``dsd_ort.__all__`` names, from signatures and docstrings."""

from __future__ import annotations

import inspect
from typing import Any

import dsd_ort
from tools.maintenance.reference.docstrings import attributes, markdown

THINGS: dict[str, Any] = {name: getattr(dsd_ort, name) for name in dsd_ort.__all__ if name != "__version__"}
_KINDS = ("function", "class")


def _anchor(name: str) -> str:
    """``suspects`` gives ``Suspects``, and anchors have no capitals."""
    return f"{name.lower()}-{_KINDS[isinstance(THINGS[name], type)]}"


LINKS = {name: f"python.md#{_anchor(name)}" for name in THINGS}


def page() -> str:
    """Markdown: the functions, then what they give back and raise."""
    parts = ["# The Python API", "", markdown(dsd_ort.__doc__ or "", LINKS).replace("```text", "```python")]
    for wanted, title in ((False, "Functions"), (True, "Classes")):
        parts += [f"## {title}", ""]
        for name, thing in THINGS.items():
            if isinstance(thing, type) is wanted:
                parts += [f"### {name} {{ #{_anchor(name)} }}", ""]
                parts += _class(name, thing) if wanted else _function(name, thing)
    return "\n".join(parts)


def _function(name: str, function: Any) -> list[str]:
    return ["```python", _signature(name, function), "```", "", markdown(function.__doc__ or "", LINKS)]


def _signature(name: str, function: Any) -> str:
    """An argument a line; a default that is a function is shown as ``…``, as nobody passes it."""
    lines, star = [], False
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            lines, star = [*lines, "*"], True
        said = f"{parameter.name}: {parameter.annotation}"
        if parameter.default is not parameter.empty:
            said += f" = {'…' if callable(parameter.default) else repr(parameter.default)}"
        lines.append(said)
    gives = inspect.signature(function).return_annotation
    return "\n".join([f"dsd_ort.{name}(", *(f"    {line}," for line in lines), f") -> {gives}"])


def _class(name: str, kind: type) -> list[str]:
    parts = [markdown(kind.__doc__ or "", LINKS)]
    said = attributes(kind)
    if said:
        parts += ["| | |", "|---|---|"]
        parts += [f"| `{key}` | {markdown(text, LINKS).replace(chr(10), ' ').strip()} |" for key, text in said.items()]
        parts.append("")
    for key, value in vars(kind).items():
        function = getattr(value, "__func__", value)
        if inspect.isfunction(function) and not key.startswith("_") and function.__doc__:
            first = markdown(function.__doc__, LINKS)
            parts += [f"**`{name}.{key}`**", "", first]
    return parts
