"""The structure of the package: no circle in its imports, its face is for others, and the page that shows its tree."""

from __future__ import annotations

import ast
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tools.maintenance.imports.graph import imported

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dsd_ort"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
FACES = ("__init__.py", "__main__.py")
"""What a folder is, when it is imported or run: the page says it beside the folder."""


def arrows(package: Path) -> set[tuple[Path, Path]]:
    """Which file imports which: on top, in functions, and for types only; by a folder's name, its ``__init__``."""
    files = {".".join(file.relative_to(package.parent).with_suffix("").parts): file for file in package.rglob("*.py")}
    known = {name.removesuffix(".__init__"): file for name, file in files.items()}
    names = [(file, name) for file in known.values() for name in imported(file, package.parent)]
    modules = [(file, name if name in known else name.rpartition(".")[0]) for file, name in names]
    return {(file, known[module]) for file, module in modules if module in known}


def circles(package: Path) -> dict[str, set[str]]:
    """Folder → its files and folders that import each other in a circle, the first that is found; ``__init__`` counts.

    A circle of modules is one in the innermost folder that has it all: where there is none of these, there is none.
    """
    found, pairs = {}, arrows(package)
    for folder in {path.parent for path in package.rglob("*.py")}:
        graph: dict[str, set[str]] = {}
        for pair in pairs:
            if all(end.is_relative_to(folder) for end in pair):
                here, there = (end.relative_to(folder).parts[0] for end in pair)
                graph.setdefault(here, set()).update({there} - {here})
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            found[folder.relative_to(package.parent).as_posix()] = set(error.args[1])
    return found


def test_no_imports_go_in_a_circle() -> None:
    assert circles(PACKAGE) == {}


CASES: dict[str, tuple[dict[str, str], dict[str, set[str]]]] = {
    "for types only": (
        {"a.py": "from p import b", "b.py": "if TYPE_CHECKING:\n    from p.a import A"},
        {"p": {"a.py", "b.py"}},
    ),
    "inside a function": (
        {"a.py": "import p.b", "b.py": "def f():\n    from p import a"},
        {"p": {"a.py", "b.py"}},
    ),
    "by the name of its own folder": (
        {"q/__init__.py": "from p.q.a import A", "q/a.py": "from p.q import B"},
        {"p/q": {"__init__.py", "a.py"}},
    ),
    "of a folder and a file": (
        {"q/a.py": "import p.b", "q/c.py": "", "b.py": "from p.q.c import C"},
        {"p": {"q", "b.py"}},
    ),
    "none": (
        {"q/__init__.py": "from p.q.a import A", "q/a.py": "from p.q.b import B", "q/b.py": "import json"},
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_circle_is_found(tmp_path: Path, case: str) -> None:
    files, expected = CASES[case]
    for name, content in files.items():
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert circles(tmp_path / "p") == expected


def test_nothing_inside_imports_the_face_of_the_package() -> None:
    assert [importer for importer, file in arrows(PACKAGE) if file == PACKAGE / "__init__.py"] == []


def test_every_file_says_what_it_is() -> None:
    assert [file for file in PACKAGE.rglob("*.py") if not ast.get_docstring(ast.parse(file.read_text("utf-8")))] == []


# --- the page


def tree() -> list[Path]:
    """The files and folders that the page's tree has a line for, relative to the package.

    A line is a folder, a file or several, two spaces deeper than the folder that it is in; then what it says of them.
    """
    lines = PAGE.partition("\n    dsd_ort/\n")[2].partition("\n    examples/")[0].splitlines()
    listed: list[Path] = []
    folders = [Path()]
    for line in lines:
        found = re.fullmatch(r"( {6,})((?:[\w-]+(?:\.py|/)(?:, )?)+) +\S.*", line)
        assert found, f"no file, or no word on it: {line}"
        depth = (len(found[1]) - 6) // 2
        assert depth < len(folders), f"stands in no folder: {line}"
        names = found[2].split(", ")
        listed += [folders[depth] / name for name in names]
        folders = [*folders[: depth + 1], folders[depth] / names[0]] if names[0].endswith("/") else folders[: depth + 1]
    return listed


def test_every_file_has_a_line_in_the_tree_and_every_line_its_file() -> None:
    files = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    wanted = {file for file in files if file.name not in FACES} | {file.parent for file in files} - {Path()}
    listed = tree()
    assert sorted(wanted - {*listed}) == [], "add a line to the tree of docs/architecture.md, in the right folder"
    assert [path for path in listed if not (PACKAGE / path).exists()] == [], "is not there: take its line away"
    assert len(listed) == len({*listed}), "something has two lines"


def test_every_path_that_the_page_names_is_there() -> None:
    named = re.findall(r"`([\w./-]+(?:\.py|\.json|/))`", PAGE)
    assert len(named) > 10
    assert [path for path in named if not any((folder / path).exists() for folder in (ROOT, PACKAGE))] == []


def test_the_layers_of_the_page_are_those_of_the_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    layers = PAGE.partition("\nImports go downwards only")[2].split("\n\n")[1]
    assert [line.strip() for line in layers.splitlines()] == [x.replace("dsd_ort.", "") for x in contract["layers"]]
