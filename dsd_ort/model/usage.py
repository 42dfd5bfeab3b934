"""How a model is used, in a file beside it: ``final.toml`` beside ``final.onnx``, which says nothing of it itself.

::

    # How final.onnx is used: its data are prepared so, and measured by this loss.
    usage = "5d41402a"

    [loss]
    name = "cross-entropy"
    output = "logits"
    label = "label"

    [data]
    scale = 0.00392156862745098
    mean = [0.286]
    std = [0.353]

It is the part of a recipe that does not end with training (:data:`KEYS`).  ``usage`` marks the file as one of these,
and is the digest of what was written: what somebody else wrote, or changed, is never replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container
from pathlib import Path
from typing import Any

import msgspec

from dsd_ort.errors import RecipeError, RunError, nearest
from dsd_ort.notes import Note
from dsd_ort.recipe import Recipe, read_toml, to_toml

KEYS = ("loss", "data", "input", "metrics", "monitor")
"""What of a recipe says how a model is used."""
_SAID = ("loss", "data", "name", "label", "scale", "mean", "std")
"""Keys that are written by default too: whoever reads the file need not know defaults."""
_MARK = "usage"


def beside(model: Path) -> Path:
    """Where the file of *model* is, or would be; a model's inference form shares its."""
    if model.name.endswith(".inference.onnx"):
        model = model.with_suffix("").with_suffix(model.suffix)
    return model.with_suffix(".toml") if model.suffix == ".onnx" else model.with_name(f"{model.name}.toml")


def text(recipe: Recipe, model: Path) -> str:
    """The file of *model*, as *recipe* used it."""
    data = recipe.data
    data = msgspec.structs.replace(data, without=None, mean=data.shift, std=data.spread)
    said = to_toml(msgspec.structs.replace(recipe, data=data), only=KEYS, also=_SAID)
    return (
        f"# How {model.name} is used: its data are prepared so, and measured by this loss.\n"
        f'{_MARK} = "{_digest(said)}"\n\n{said}'
    )


def read(model: Path) -> dict[str, Any]:
    """The keys and tables of a recipe that the file beside *model* has; none where there is no such file.

    Raises:
        RecipeError: the file is one of these, but holds what none holds.
    """
    path = beside(model)
    table = _marked(path)
    if table is None:
        return {}
    del table[_MARK]
    for key in table:
        if key not in KEYS:
            fix = nearest(key, KEYS) or f"remove it: the keys here are {', '.join(KEYS)}"
            raise RecipeError(f"{key!r} says nothing of how a model is used", where=str(path), fix=fix)
    if isinstance(data := table.get("data"), dict) and "without" in data:  # a path, to whatever it likes
        fix = "remove it, and give the list with --without"
        raise RecipeError("data.without says nothing of how a model is used", where=str(path), fix=fix)
    phase = {"kind": "dense", "steps": 0, "learning_rate": 0.0}  # any, as a recipe has one
    Recipe.from_dict({**table, "phase": [phase]}, where=str(path))
    return table


def note(model: Path, *, given: Container[str] = (), own_loss: bool = False) -> tuple[Note, ...]:
    """That there is such a file, and what is taken from it: not what is *given*, nor the loss beside an *own_loss*."""
    taken = [key for key in read(model) if key not in given and not (own_loss and key == "loss")]
    words = f"{beside(model).name} beside the model says how it is used: {', '.join(taken)}"
    return (Note(kind="recipe", words=words),) if taken else ()


def refuse_others(model: Path, content: str) -> None:
    """Raises RunError where the file of *model* is there, is not *content*, and is not as dsd-ort wrote it."""
    path = beside(model)
    if not path.exists() or (path.is_file() and path.read_bytes() == content.encode()):
        return
    table = _marked(path) if path.is_file() else None
    if table is None or table[_MARK] != _digest(_below_mark(path.read_text("utf-8"))):
        raise RunError(
            f"{path.name} is there, and would be replaced by how {model.name} is used",
            where=str(path),
            fix=f"choose another name than {model.name}, or move {path.name} away",
        )


def _marked(path: Path) -> dict[str, Any] | None:
    """The content of a file that has the mark."""
    try:
        table = read_toml(path) if path.is_file() else {}
    except RecipeError:  # it is something else
        return None
    return table if isinstance(table.get(_MARK), str) else None


def _below_mark(content: str) -> str:
    return content.partition(f"{_MARK} = ")[2].partition("\n\n")[2]


def _digest(said: str) -> str:
    return hashlib.sha256(said.encode()).hexdigest()[:8]
