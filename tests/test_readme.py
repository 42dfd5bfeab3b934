"""The README says what is true: its recipe, its commands, its Python."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import dsd_ort
from tests.cli.test_commands import commands
from tests.models import cnn_data, write_cnn
from tools.evidence import page
from tools.evidence.rows import EXPORTED, IN_PYTORCH, WRONG_LABELS
from tools.evidence.summary import groups

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_recipe_is_one(tmp_path: Path) -> None:
    (block,) = blocks("toml")
    (tmp_path / "recipe.toml").write_text(block)
    recipe = dsd_ort.Recipe.load(tmp_path / "recipe.toml")
    assert [p.kind for p in recipe.phase] == ["dense", "sparse", "dense"]


def test_every_command_exists_with_the_options_that_are_shown() -> None:
    lines = [line.partition("#")[0] for line in re.findall(r"^ {4}(dsd-ort .*)$", README, re.MULTILINE)]
    assert len(lines) >= 6 and len(README.splitlines()) < 200, "what goes further is in the guides"
    for line in lines:
        name, *rest = line.split()[1:]
        options = {option for parameter in commands()[name].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options, line


def test_the_python_runs_and_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_cnn(tmp_path / "model.onnx")
    data = cnn_data(16)
    np.save("images.npy", data["image"])
    np.save("labels.npy", data["label"])
    np.savez("test.npz", **cnn_data(8, seed=2))
    recipe = (ROOT / "dsd_ort" / "recipe" / "builtin" / "default.toml").read_text("utf-8")
    (tmp_path / "recipe.toml").write_text(re.sub(r"epochs = \d+", "epochs = 1", recipe))
    (block,) = blocks("python")
    exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "better.onnx").exists()


def test_the_files_that_it_links_to_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_its_errors_are_those_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert page.short() in README
    rows = [row for row in EXPORTED.read() if row["task"] == "mlp" and row["share"] == 0.3]
    (came, shipped) = (np.mean([row[name] for row in rows]) for name in ("as it came", "error"))
    told = re.search(r"came with ([\d.]+) % test errors and left with ([\d.]+) %", README)
    assert told is not None and (float(told[1]), float(told[2])) == (round(came, 1), round(shipped, 1))
    seeds = min(len(g.rows) for g in page.of_short())
    assert f"means over {seeds} seeds and more" in README


def test_pytorch_ends_at_the_same_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert "ends at [the same errors](docs/evidence.md#the-same-in-pytorch)" in README
    beside = [*page.in_pytorch(IN_PYTORCH.read(), groups(WRONG_LABELS.read()))][2:]
    assert sum("no difference seen" in line for line in beside) > 10
    assert not [line for line in beside if "better" in line or "worse" in line]


def test_no_other_error_is_told_than_those() -> None:
    """Figures of accuracy are in docs/evidence.md, which is written from the rows."""
    rest = README.replace(page.short(), "")
    kinds = r"% of characters|% wrong|% test errors|% after DSD|top-1 \d|perplexity \d|error \d"
    assert re.findall(kinds, rest) == ["% wrong", "% test errors"], "of the first paragraph"
