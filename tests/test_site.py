"""The documentation: all pages are in the site, the reference is complete, and what the guides show is so."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

import dsd_ort as package
from dsd_ort.cli.commands import COMMANDS, cli
from dsd_ort.recipe.reading import read_toml
from tests.cli.test_commands import commands
from tests.models import cnn_data, write_cnn
from tools.maintenance.reference import PAGES, recipe
from tools.maintenance.reference.docstrings import markdown
from tools.maintenance.reference.errors import statuses

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
GUIDES = [DOCS / "index.md", *sorted((DOCS / "guides").glob("*.md"))]
EXPORTERS = DOCS / "guides" / "exporters.md"
TRACKERS = ("mlflow", "wandb")
"""Packages that show a training elsewhere, whose listeners are in tests/test_listeners.py."""
A_PHASE = '\n[[phase]]\nkind = "dense"\nepochs = 1\nlearning_rate = 0.1\n'


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of all that is fenced, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def shown(language: str, pages: list[Path] = GUIDES) -> list[tuple[str, str]]:
    """(Page, text) of each block of a language."""
    return [(page.stem, text) for page in pages for found, text in blocks(page) if found == language]


def lines() -> list[tuple[str, str]]:
    return [(page, line) for page, text in shown("console") for line in text.splitlines()]


def words(line: str) -> list[str]:
    """The words of a command, without where its output goes."""
    return shlex.split(line.partition(" > ")[0])


# --- the site


def test_the_site_lists_every_page_and_every_page_is_there() -> None:
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted([*(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")), *PAGES])


def test_links_between_pages_lead_somewhere() -> None:
    links = [
        (page, link)
        for page in DOCS.rglob("*.md")
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", page.read_text("utf-8"))
    ]
    made = {DOCS / name for name in PAGES}
    assert len(links) > 20
    assert [(p, k) for p, k in links if not (p.parent / k).exists() and (p.parent / k).resolve() not in made] == []


# --- the reference


def test_every_key_of_a_recipe_has_a_word_and_an_example_of_its_type() -> None:
    examples = recipe.examples()
    for table in recipe.all_tables():
        for key in recipe.keys(table.kind):
            assert key.about, f"{table.kind.__name__}.{key.name} has no docstring"
            line = examples.pop((table.header, key.name), None)
            if line is not None:
                value = parsed(line)[key.name]
                assert msgspec.convert(value, key.type) != key.default, f"{line} shows the default"
            else:
                assert "table" in recipe.described(key.type), f"no example of {table.header} {key.name}"
    assert examples == {}, "examples of keys that are not there"


def parsed(text: str) -> dict[str, object]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return dict(tomllib.loads(text))


def test_all_tables_of_a_recipe_are_shown_once_with_all_their_keys() -> None:
    page = PAGES["reference/recipe.md"]()
    headers = re.findall(r"^## `(.*?)`", page, re.MULTILINE)
    assert headers == [
        "[[phase]]",
        "[phase.learning_rate]",
        "[phase.sparsity]",
        "[[phase]] # a group",
        "[loss]",
        "[optimizer]",
        "[[optimizer.groups]]",
        "[parameters]",
        "[prune]",
        "[data]",
        "[data.image]",
        "[data.audio]",
        "[input.NAME]",
        "[experiment]",
    ]
    for line in (
        "| `momentum` | number | `0.9` |",
        "| `epochs` | number |",
        '| `kind` | `"dense"`, `"sparse"` | has to be',
    ):
        assert line in page


def test_every_command_is_shown_with_all_its_options() -> None:
    page = PAGES["reference/commands.md"]()
    parts = re.split(r"^## dsd-ort (\S+).*$", page, flags=re.MULTILINE)[1:]
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    assert list(found) == list(COMMANDS)
    for name, command in commands().items():
        for option in (p for p in command.params if isinstance(p, click.Option)):
            assert f"{option.opts[-1]}" in found[name], f"{name} {option.opts}"
        assert f"dsd-ort {name}" in found[name]


def test_all_of_the_package_is_shown() -> None:
    page = PAGES["reference/python.md"]()
    assert set(re.findall(r"^### (\w+)", page, re.MULTILINE)) == {*package.__all__} - {"__version__"}
    assert "- `eval_data`: likewise; evaluated before the first step and after each epoch." in page
    assert re.search(r":\w+:`|``\w", re.sub(r"```.*?```", "", page, flags=re.DOTALL)) is None, "reST was left over"


def test_the_errors_are_shown_with_the_exit_statuses() -> None:
    page = PAGES["reference/errors.md"]()
    assert set(statuses()) == {0, 1, 2, 3, 70, 130}
    assert "    - `ModelError`: The ONNX file cannot be read" in page and "        - `UnsupportedError`: " in page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Of ``x``, see :func:`dsd_ort.train`.", "Of `x`, see [`train`](page.md)."),
        ("Of :class:`dsd_ort.data.Other`.", "Of `dsd_ort.data.Other`."),
        ("So::\n\n    a = ``1``\n\nThen.", "So:\n\n```text\na = ``1``\n```\n\nThen."),
        (
            "Does.\n\nArgs:\n    a: one,\n        and more.\n    b: two.\n\nRaises:\n    A, B: bad.\n",
            "Does.\n\n**Arguments**\n\n- `a`: one, and more.\n- `b`: two.\n\n**Raises**\n\n- `A`, `B`: bad.",
        ),
        ("Does.\n\nReturns:\n    The report; ``.ok`` is it.", "Does.\n\n**Returns**\n\nThe report; `.ok` is it."),
    ],
)
def test_a_docstring_becomes_markdown(text: str, expected: str) -> None:
    assert markdown(text, {"train": "page.md"}).strip() == expected


# --- what the guides show


@pytest.mark.parametrize(("page", "line"), lines())
def test_every_command_line_is_one(page: str, line: str) -> None:
    name, *rest = words(line)
    if name == "dsd-ort":
        command = commands()[rest[0]]
        values, left, _ = command.make_parser(click.Context(command)).parse_args(rest[1:])
        assert left == []
        given = {name for name, value in values.items() if isinstance(value, (str, list, tuple))}
        assert [p.name for p in command.params if p.required and p.name not in given] == []
    elif name == "pip":
        assert rest[0] in ("install", "uninstall")
        wanted = {extra for word in rest for extra in re.findall(r"^\.\[(.*)\]$", word)}
        extras = parsed((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]  # type: ignore[index,call-overload]
        assert {name for names in wanted for name in names.split(",")} <= {*extras}
    else:
        raise AssertionError(f"a command that nobody knows: {line}")


def test_every_module_that_is_named_is_there() -> None:
    named = {
        name for page in GUIDES for name in re.findall(r"python -m ((?:examples|tools|graphs)[\w.]*)", page.read_text())
    }
    assert len(named) >= 5
    assert [name for name in named if find_spec(name) is None] == []


@pytest.mark.parametrize(("page", "text"), shown("toml"))
def test_every_recipe_is_one(tmp_path: Path, page: str, text: str) -> None:
    (tmp_path / "recipe.toml").write_text(text if "[[phase]]" in text else text + A_PHASE)
    assert read_toml(tmp_path / "recipe.toml")
    package.Recipe.load(tmp_path / "recipe.toml")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model and data as the guides name them."""
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


def lay_out(folder: Path) -> None:
    """What the guides begin with."""
    write_cnn(folder / "model.onnx")
    data = cnn_data(120)
    np.save(folder / "images.npy", data["image"])
    np.save(folder / "labels.npy", data["label"])
    np.savez(folder / "train.npz", **data)
    np.savez(folder / "test.npz", **cnn_data(40, seed=2))


def test_five_minutes_on_a_model_of_ones_own(here: Path) -> None:
    """All that the start page shows, in order: Python, and commands but for those that install and the demo."""
    for language, text in blocks(DOCS / "index.md"):
        if language == "python":
            run(text, "index")
        for line in text.splitlines() if language == "console" else []:
            name, *rest = words(line)
            if name == "dsd-ort" and rest[0] not in ("demo", "doctor"):
                answer = CliRunner().invoke(cli, rest, prog_name="dsd-ort", catch_exceptions=False)
                assert answer.exit_code == 0, (line, answer.output)
                _, _, goes = line.partition(" > ")
                if goes:
                    Path(goes).write_text(answer.stdout)
    assert Path("better.onnx").exists() and Path("comparison/final.onnx").exists()


@pytest.mark.parametrize(
    "page", [page for page in GUIDES if page not in (DOCS / "index.md", EXPORTERS)], ids=lambda p: p.stem
)
def test_the_python_of_a_guide_runs(here: Path, page: Path) -> None:
    for language, text in blocks(page):
        if language == "python" and not any(f"import {name}\n" in text for name in TRACKERS):
            run(text, page.stem)


@pytest.mark.parametrize("package_name", ["tensorflow", "skl2onnx"])
def test_what_an_exporter_writes_trains(here: Path, package_name: str) -> None:
    """Where it is installed: PyTorch's is in ``tests/oracle/test_guides.py``."""
    pytest.importorskip(package_name)
    [text] = [
        text
        for _, text in shown("python", [EXPORTERS])
        if f"import {package_name}" in text or f"from {package_name}" in text
    ]
    Path("model.onnx").unlink()
    run(text, "exporters")
    assert package.check("model.onnx", isolate=False).ok


def run(text: str, page: str) -> None:
    exec(compile(text, f"{page}.md", "exec"), {"__name__": page})


def test_the_number_of_files_that_exporters_wrote_is_that_of_the_coverage() -> None:
    coverage, exporters = (DOCS / "coverage.md").read_text("utf-8"), EXPORTERS.read_text("utf-8")
    [tried, right] = re.findall(r"^### torch.nn, (\d+) models: (\d+) right", coverage, re.MULTILINE)[0]
    assert tried == right and f"{tried} files of small networks" in exporters
