"""The picture of the imports: what it counts, where it puts what, and that the one in docs/ has today's arrows."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.maintenance.imports.__main__ import ROOT, main
from tools.maintenance.imports.graph import Imports, read
from tools.maintenance.imports.picture import draw, placed

FILES = {
    "pyproject.toml": """
[tool.importlinter]
root_package = "house"
[[tool.importlinter.contracts]]
name = "no circles"
type = "independence"
[[tool.importlinter.contracts]]
name = "imports go downwards"
type = "layers"
layers = ["house.top", "house.left | house.right", "house.ground"]
""",
    "house/__init__.py": "import house.top",
    "house/version.py": '"""Which one this is."""',
    "house/top/__init__.py": '"""What people ``call`` of\n:mod:`house.right`, and < that.  More.\n\nAnd more."""',
    "house/top/one.py": "from house import ground, left\nfrom house.left import two\nimport numpy",
    "house/top/two.py": "def later():\n    from ..left.two import deep",
    "house/left/__init__.py": "",
    "house/left/two.py": "import house.ground as base",
    "house/right/__init__.py": "from . import here",
    "house/right/here.py": "",
    "house/ground.py": "",
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def test_an_arrow_counts_the_files_that_import(house: Path) -> None:
    found = read(house).arrows
    assert found == {("__init__", "top"): 1, ("top", "ground"): 1, ("top", "left"): 2, ("left", "ground"): 1}


def test_boxes_stand_as_the_contract_has_them_and_what_it_does_not_name_above_or_beneath(house: Path) -> None:
    boxes = read(house).boxes
    assert [(box.label, box.layer) for box in boxes] == [
        ("__init__.py", 0),
        ("top/", 1),
        ("left/", 2),
        ("right/", 2),
        ("ground.py", 3),
        ("version.py", 4),
    ]
    assert boxes[1][3:] == (3, 9, "What people call of house.right, and < that.")


def test_arrows_that_go_downwards_are_fine(house: Path, tmp_path: Path) -> None:
    assert main(["--root", str(house), "-o", str(tmp_path / "imports.svg")]) == 0
    assert 'class="wrong"' not in (tmp_path / "imports.svg").read_text("utf-8")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("ground.py", "from house.left import two", "ground imports left"),
        ("left/two.py", "import house.right.here", "left imports right"),
        ("top/two.py", "from house import __version__", "top imports __init__"),
    ],
)
def test_others_are_red_and_told(
    house: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, said: str
) -> None:
    (house / "house" / file).write_text(text)
    assert main(["--root", str(house), "-o", str(tmp_path / "imports.svg")]) == 1
    assert said in capsys.readouterr().out
    assert (tmp_path / "imports.svg").read_text("utf-8").count('class="wrong"') == 2, "the arrow and its number"


def texts(picture: str) -> list[str]:
    return [text for element in ElementTree.fromstring(picture).iter() if (text := element.text or "").strip()]


def test_the_picture_is_xml_with_all_that_there_is_to_say(house: Path) -> None:
    imports = read(house)
    said = texts(draw(imports))
    assert {"top → left: 2", "left/", "3 files, 9 lines", "What people call of house.right, and < that."} <= {*said}
    assert draw(imports) == draw(imports)


def test_no_box_is_over_another() -> None:
    imports = read(ROOT)
    places = placed(imports.boxes)
    ordered = [places[box.name] for box in imports.boxes]
    assert all(a.top + a.height < b.top for a, b in itertools.pairwise(ordered))
    assert all(place.enters < place.leaves for place in ordered)


def arrows(imports: Imports) -> set[str]:
    return {f"{importer} → {imported}" for importer, imported in imports.arrows}


def test_nothing_imports_upwards_nor_the_packages_own_face() -> None:
    assert not read(ROOT).wrong


def test_the_picture_in_the_documentation_has_the_arrows_that_there_are() -> None:
    said = texts((ROOT / "docs" / "imports.svg").read_text("utf-8"))
    drawn = {match[1] for text in said if (match := re.fullmatch(r"(\w+ → \w+): \d+", text))}
    assert drawn == arrows(read(ROOT)), "python -m tools.maintenance.imports -o docs/imports.svg draws it anew"
