"""CONTRIBUTING names what there is: files, what stands in them, and the modules of its commands."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
FOLDERS = "dsd_ort|docs|requirements|tests|tools"
PATHS = sorted({*re.findall(rf"(?:{FOLDERS})/[\w./]*", TEXT), *re.findall(r"`([\w.-]+\.(?:md|toml))`", TEXT)})
PLACES = sorted(set(re.findall(r"`(\w+)` in `([\w./]+)`", TEXT)))
MODULES = sorted(set(re.findall(r"-m (tools[\w.]+)", TEXT)))


@pytest.mark.parametrize("path", PATHS)
def test_every_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("name", "file"), PLACES)
def test_what_stands_in_a_file_is_defined_there(name: str, file: str) -> None:
    assert re.search(rf"^(?:class |def )?{name}\b", (ROOT / file).read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("module", MODULES)
def test_every_command_under_tools_exists(module: str) -> None:
    found = find_spec(module)
    assert found and (found.submodule_search_locations is None or find_spec(f"{module}.__main__"))


def test_the_way_of_each_kind_of_change_is_shown() -> None:
    kinds = re.findall(r"^\*\*(A new .*)\*\*$", TEXT, re.MULTILINE)
    assert kinds == [
        "A new operator",
        "A new loss",
        "A new optimizer",
        "A new data source",
        "A new pattern, criterion or rise of sparsity",
        "A new command",
    ]
    assert len(PATHS) > 40 and len(PLACES) > 10 and len(MODULES) == 4
