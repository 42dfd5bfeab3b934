"""Mutated recipes: of the text, and of its tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from dsd_ort.recipe import BUILTIN
from dsd_ort.recipe.recipe import Recipe
from tools.fuzz import seeds
from tools.fuzz.mutations import BAD_NAMES, NUMBERS, broken

_TEXTS = [path.read_text("utf-8") for path in sorted(BUILTIN.rglob("*.toml"))]
_TABLE = Recipe.load(BUILTIN / "default.toml").to_dict()
_VALUES: tuple[Any, ...] = (
    *NUMBERS,
    *BAD_NAMES,
    0.5,
    -0.5,
    1e308,
    1e-320,
    float("inf"),
    float("nan"),
    True,
    [],
    {},
    "",
)
_VALUES += ([[]], [1, "a"], {"a": 1}, "os:system", "subprocess:run", "/etc/passwd", "../x", "*", "sgd", "dense", "mse")


def _places(table: Any) -> list[tuple[Any, Any]]:
    """Every table and list in *table*, with a key of it."""
    pairs = (
        list(table.items()) if isinstance(table, dict) else list(enumerate(table)) if isinstance(table, list) else []
    )
    return [(table, key) for key, _ in pairs] + [place for _, inner in pairs for place in _places(inner)]


def _tables(rng: Random) -> str:
    table = Recipe.from_dict(_TABLE).to_dict()
    for _ in range(rng.choice((1, 1, 2, 4))):
        inner, key = rng.choice(_places(table))
        what = rng.randrange(4)
        if what == 0 and isinstance(inner, dict):
            del inner[key]
        elif what == 1 and isinstance(inner, dict):
            inner[rng.choice((*BAD_NAMES, "epochs", "name", "without", "mean"))] = rng.choice(_VALUES)
        else:
            inner[key] = rng.choice(_VALUES)
    return _toml(table)


def _toml(table: dict[str, Any]) -> str:
    """As text; inline, as what it holds may be no recipe any more."""
    return "\n".join(f"{_text(key)} = {_text(value)}" for key, value in table.items() if value is not None)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(k)} = {_text(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(v) for v in value if v is not None) + "]"
    if isinstance(value, str):
        return '"' + "".join(c if c.isalnum() or c in " -_./*:" else f"\\u{ord(c) & 0xFFFF:04x}" for c in value) + '"'
    return str(value).lower() if isinstance(value, (bool, float)) else str(value)


def _nested(rng: Random) -> str:
    deep = rng.choice((10, 200, 5000, 100_000))
    return rng.choice(("a = " + "[" * deep, "a = " + "{a = " * deep, "[" + ".".join("a" * deep) + "]", "x" * deep))


_MAKERS: tuple[tuple[str, Callable[[Random], str | bytes]], ...] = (
    ("tables", _tables),
    ("bytes", lambda rng: broken(rng.choice(_TEXTS).encode(), rng)),
    ("nesting", _nested),
)


def make(folder: Path, rng: Random) -> tuple[str, list[tuple[str, ...]]]:
    """Writes a case; what was done, and the commands to run."""
    [(name, maker)] = rng.choices(_MAKERS, (10, 5, 1))
    content = maker(rng)
    (folder / "recipe.toml").write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    (folder / "model.onnx").write_bytes(seeds.MODELS["mlp"].SerializeToString())
    (folder / "os.py").write_text("raise SystemExit('imported')")
    np.savez(folder / "data.npz", **seeds.arrays("mlp"))
    usage = rng.random() < 0.2
    if usage:  # the file beside a model, of somebody else's
        (folder / "model.toml").write_bytes(b'usage = "1"\n' + (folder / "recipe.toml").read_bytes())
    recipe = () if usage else ("--recipe", "recipe.toml")
    return name + (" beside the model" if usage else ""), [
        ("prepare", "model.onnx", "-o", "run", *recipe),
        ("evaluate", "model.onnx", "--data", "data.npz", *recipe),
    ]
