"""``prune.keep_zeros``: what is zero in the file stays zero, in every phase and to the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import safetensors.numpy

import dsd_ort
from dsd_ort.graph.program import open_program
from dsd_ort.recipe import Recipe
from dsd_ort.run.fork import shared_phases
from tests import cases

TEXT = (
    "(float[N, 3, 6, 6] x) => (float[N, 5] y) { c = Conv <pads = [1, 1, 1, 1]> (x, K) r = Relu (c) "
    "a = GlobalAveragePool (r) f = Flatten (a) h = MatMul (f, W) s = Relu (h) y = MatMul (s, V) }"
)
SHAPES = {"K": (8, 3, 3, 3), "W": (8, 20), "V": (20, 5)}
ORDERS = {
    "dense first": ["dense", "sparse", "dense"],
    "sparse first": ["sparse", "dense", "sparse"],
}
OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"name": "adam", "weight_decay": 0.1},
]


def pruned(path: Path, share: float = 0.5) -> Path:
    """A network of which somebody pruned all but V."""
    weights = {name: cases.drawn(*shape) for name, shape in SHAPES.items()}
    for name in ("K", "W"):
        weights[name][np.abs(weights[name]) < np.quantile(np.abs(weights[name]), share)] = 0
    return cases.write(path, TEXT, weights)


def recipe(kinds: list[str], sparsity: float = 0.3, **changes: Any) -> Recipe:
    """The first convolution is excluded, as by default."""
    each: Iterator[dict[str, Any]] = (
        {"kind": kind, "epochs": 1, "learning_rate": 0.05} | ({"sparsity": sparsity} if kind == "sparse" else {})
        for kind in kinds
    )
    prune = {"keep_zeros": True, **changes.pop("prune", {})}
    return Recipe.from_dict({"phase": list(each), "batch_size": 8, "prune": prune, **changes})


def stored(path: Path) -> dict[str, cases.Array]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def of_phases(run: Path) -> list[dict[str, cases.Array]]:
    files = sorted(file for file in (run / "phases").glob("*.safetensors") if ".best." not in file.name)
    found = [safetensors.numpy.load_file(file) for file in files]
    return [{name.removeprefix("weights/"): value for name, value in each.items()} for each in found]


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer["name"])
@pytest.mark.parametrize("kinds", ORDERS.values(), ids=ORDERS)
def test_zeros_of_the_file_stay_zero_in_all_phases_and_the_others_train(
    tmp_path: Path, kinds: list[str], optimizer: dict[str, Any], scope: str
) -> None:
    model = pruned(tmp_path / "m.onnx")
    data = cases.data(tmp_path / "d.npz", x=(3, 6, 6))
    dsd_ort.prepare(model, tmp_path / "run", recipe(kinds, optimizer=optimizer, prune={"scope": scope}))
    dsd_ort.train(tmp_path / "run", data, eval_data=data)
    before = stored(model)
    for kind, weights in zip(kinds, of_phases(tmp_path / "run"), strict=True):
        for name, old in before.items():
            assert not weights[name][old == 0].any()
            assert (weights[name] != old).any()
        alive = np.count_nonzero(weights["W"]), np.count_nonzero(before["W"])
        assert alive[0] == alive[1] if kind == "dense" or scope == "layer" else alive[0] <= alive[1]
    dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")
    assert all(not new[before[name] == 0].any() for name, new in stored(tmp_path / "final.onnx").items())


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.8])
def test_a_sparse_phase_prunes_what_the_recipe_says_and_the_zeros(tmp_path: Path, sparsity: float) -> None:
    model = pruned(tmp_path / "m.onnx")
    dsd_ort.prepare(model, tmp_path / "run", recipe(["sparse"], sparsity))
    dsd_ort.train(tmp_path / "run", cases.data(tmp_path / "d.npz", x=(3, 6, 6)))
    (weights,) = of_phases(tmp_path / "run")
    zeros = {name: np.count_nonzero(value == 0) for name, value in stored(model).items()}
    assert np.count_nonzero(weights["W"] == 0) == max(round(160 * sparsity), zeros["W"])
    assert np.count_nonzero(weights["V"] == 0) == round(100 * sparsity)
    assert np.count_nonzero(weights["K"] == 0) == zeros["K"]  # the first convolution is not pruned, but keeps its own


def test_a_stopped_run_goes_on_with_them(tmp_path: Path) -> None:
    model, data = pruned(tmp_path / "m.onnx"), cases.data(tmp_path / "d.npz", x=(3, 6, 6))
    for name in ("whole", "parts"):
        dsd_ort.prepare(model, tmp_path / name, recipe(["dense", "sparse", "dense"]))
    dsd_ort.train(tmp_path / "whole", data)
    dsd_ort.train(tmp_path / "parts", data, until=1)
    dsd_ort.train(tmp_path / "parts", data, resume=True, until=2)
    dsd_ort.train(tmp_path / "parts", data, resume=True)
    for one, other in zip(of_phases(tmp_path / "whole"), of_phases(tmp_path / "parts"), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_without_it_nothing_is_written_down_and_zeros_come_alive(tmp_path: Path) -> None:
    model = pruned(tmp_path / "m.onnx")
    without = recipe(["dense"], prune={"keep_zeros": False})
    dsd_ort.prepare(model, tmp_path / "run", without)
    assert "spared" not in (tmp_path / "run" / "manifest.json").read_text()
    assert [p.name for p in open_program(tmp_path / "run").manifest.prunable] == ["W", "V"]
    dsd_ort.train(tmp_path / "run", cases.data(tmp_path / "d.npz", x=(3, 6, 6)))
    (weights,) = of_phases(tmp_path / "run")
    assert all((weights[name][old == 0] != 0).any() for name, old in stored(model).items() if (old == 0).any())


def test_notes_say_which_of_the_two_it_is(tmp_path: Path) -> None:
    model = pruned(tmp_path / "m.onnx")
    for keep, text in ((True, "These stay zero in all phases"), (False, "prune.keep_zeros = true keeps them zero")):
        run = dsd_ort.prepare(model, tmp_path / f"run-{keep}", recipe(["dense"], prune={"keep_zeros": keep}))
        (note,) = [note.words for note in run.notes if "pruned already" in note.words]
        assert text in note and "'K'" in note and "'W'" in note and "'V'" not in note


def test_phases_that_keep_zeros_are_not_those_that_do_not() -> None:
    keep = recipe(["dense", "sparse"])
    free = recipe(["dense", "sparse"], prune={"keep_zeros": False})
    assert shared_phases(keep, keep.dense_only()) == 1
    assert shared_phases(keep, free) == 0


def test_rates_are_tested_with_them(tmp_path: Path) -> None:
    model, data = pruned(tmp_path / "m.onnx", share=0.9), cases.data(tmp_path / "d.npz", x=(3, 6, 6), examples=64)
    kept = dsd_ort.fit_rates(model, recipe(["dense"]), data)
    free = dsd_ort.fit_rates(model, recipe(["dense"], prune={"keep_zeros": False}), data)
    assert kept.curve.came == free.curve.came and kept.curve.points != free.curve.points
