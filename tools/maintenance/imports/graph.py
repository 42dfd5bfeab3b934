"""Who imports whom, by the sources alone: nothing of the package is run."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FACE = "__init__"
"""The member that the package's own name stands for."""

Arrow = tuple[str, str]
"""Who imports, and what."""


class Box(NamedTuple):
    """A member of the package, a folder or a file: its layer from the top, its size, and what it says of itself."""

    name: str
    layer: int
    label: str
    files: int
    lines: int
    sentence: str


class Imports(NamedTuple):
    """Boxes from top to bottom, and in how many files of a box something of another one is imported."""

    package: str
    boxes: list[Box]
    arrows: Mapping[Arrow, int]

    @property
    def wrong(self) -> set[Arrow]:
        """The arrows that do not go to a lower layer."""
        layer = {box.name: box.layer for box in self.boxes}
        return {(a, b) for a, b in self.arrows if layer[a] >= layer[b]}


def read(root: Path) -> Imports:
    """The imports of the package whose layers ``root/pyproject.toml`` has."""
    settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    contract = next(contract for contract in settings["contracts"] if contract["type"] == "layers")
    package = root / settings["root_package"]
    members = {path.stem: path for path in sorted(package.iterdir()) if files(path)}
    arrows = Counter(
        (name, other)
        for name, path in members.items()
        for file in files(path)
        for other in members_of(imported(file, root), package.name, members) - {name}
    )
    named = [[module.strip().rpartition(".")[2] for module in layer.split("|")] for layer in contract["layers"]]
    layers = with_others(named, members, arrows)
    boxes = [box(name, number, members[name]) for number, layer in enumerate(layers) for name in layer]
    return Imports(package.name, boxes, arrows)


def files(member: Path) -> list[Path]:
    """The Python files of a member: itself, or those in the folder."""
    return sorted(member.rglob("*.py")) if member.is_dir() else [member] * (member.suffix == ".py")


def imported(file: Path, root: Path) -> Iterator[str]:
    """The absolute names that a file imports, wherever in it: modules, and what is imported from them."""
    here = ".".join(file.relative_to(root).parent.parts)
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), here)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def members_of(names: Iterable[str], package: str, members: Iterable[str]) -> set[str]:
    """The members that have these names; what no member is called is of the package's face."""
    parts = [name.split(".") for name in names if f"{name}.".startswith(f"{package}.")]
    return {second if second in members else FACE for _, second, *_ in ([*part, FACE] for part in parts)}


def with_others(layers: list[list[str]], members: Iterable[str], arrows: Iterable[Arrow]) -> list[list[str]]:
    """*layers*, and the members that they do not name: above if they import one that is named, or else beneath."""
    named = {name for layer in layers for name in layer}
    importing = {importer for importer, other in arrows if other in named}
    others = [name for name in members if name not in named]
    above, beneath = ([n for n in others if (n in importing) == there] for there in (True, False))
    return [layer for layer in (above, *layers, beneath) if layer]


def box(name: str, layer: int, member: Path) -> Box:
    label, first = (f"{name}/", member / "__init__.py") if member.is_dir() else (member.name, member)
    texts = [file.read_text("utf-8") for file in files(member)]
    return Box(name, layer, label, len(texts), sum(len(text.splitlines()) for text in texts), sentence(first))


def sentence(file: Path) -> str:
    """The first sentence of a file's docstring, without marks for code and references."""
    paragraph = (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").partition("\n\n")[0]
    plain = re.sub(r":\w+:`~?([^`]*)`", r"\1", paragraph).replace("``", "")
    return " ".join(re.split(r"(?<=\.)\s", plain, maxsplit=1)[0].split())
