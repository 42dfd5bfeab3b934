"""The paper's tables, and the recipes that repeat them: Han et al. 2017, arXiv 1607.04381."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from dsd_ort.graph.prepare import build
from dsd_ort.model import source as source_files
from dsd_ort.recipe import Recipe, builtin_names
from graphs import NETWORKS

Row = tuple[tuple[float | None, ...], tuple[float, ...], tuple[float, ...]]

THREE: tuple[float | None, ...] = (None, 0.3, None)
FIVE: tuple[float | None, ...] = (None, 0.5, None, 0.25, None)
TABLE: dict[str, Row] = {
    "googlenet": (THREE, (60, 11, 22), (1e-2, 1e-3, 1e-4)),
    "vgg16": (THREE, (74, 1.25, 18), (1e-2, 1e-4, 1e-5)),
    "resnet18": (THREE, (90, 45, 45), (1e-1, 1e-2, 1e-3)),
    "resnet50": (THREE, (90, 45, 45), (1e-1, 1e-2, 1e-3)),
    "neuraltalk": ((None, 0.8, None), (19, 10, 6), (1e-2, 1e-3, 1e-4)),
    "deepspeech": (FIVE, (50,) * 5, (8e-4, 5e-4, 3e-4, 1e-4, 3e-5)),
    "deepspeech2": (FIVE, (20,) * 5, (3e-4, 3e-4, 3e-5, 3e-5, 6e-6)),
}
"""Sparsity, epochs and learning rate of each phase."""
SPEECH = {"classes": 29, "width": 8, "depth": 2}
SMALL = {
    "googlenet": {"width": 8, "size": 224},
    "vgg16": {"width": 2, "size": 224},
    "resnet18": {"width": 4, "depth": 1, "size": 224},
    "resnet50": {"width": 4, "depth": 1, "size": 224},
    "neuraltalk": {"vocabulary": 30, "features": 12, "width": 8},
    "deepspeech": {**SPEECH, "context": 2},
    "deepspeech2": {**SPEECH, "maps": 3},
}
UNPRUNED = {
    "googlenet": {"conv1.weight"},
    "vgg16": {"features.0.weight"},
    "resnet18": {"conv1.weight"},
    "resnet50": {"conv1.weight"},
    "neuraltalk": {"word_encoder.weight"},
    "deepspeech": set(),
    "deepspeech2": {"conv1.weight", "conv2.weight"},
}
"""The matrices and kernels that the paper leaves alone: a CNN's first convolution, the word embedding, and in the
speech networks all but fully connected and recurrent layers."""


def test_there_is_a_recipe_for_each_network_of_the_paper() -> None:
    assert {name for name in builtin_names() if name.startswith("paper/")} == {f"paper/{name}" for name in TABLE}


@pytest.mark.parametrize("name", TABLE)
def test_a_recipe_is_the_papers_row_to_the_digit(name: str) -> None:
    recipe = Recipe.load(f"paper/{name}")
    sparsities, epochs, rates = TABLE[name]
    assert tuple(phase.kind for phase in recipe.phase) == tuple("sparse" if s else "dense" for s in sparsities)
    assert tuple(phase.sparsity for phase in recipe.phase) == sparsities
    assert tuple(phase.epochs for phase in recipe.phase) == epochs
    assert tuple(phase.learning_rate for phase in recipe.phase) == rates
    assert recipe.optimizer.name == "sgd" and recipe.optimizer.momentum == 0.9
    assert recipe.optimizer.nesterov == name.startswith("deepspeech")


@pytest.mark.parametrize("name", TABLE)
def test_a_recipe_prunes_what_the_paper_prunes_of_its_network(name: str, tmp_path: Path) -> None:
    ir.save(NETWORKS[name](**SMALL[name]), tmp_path / "model.onnx")
    manifest, _ = build(source_files.load(tmp_path / "model.onnx"), Recipe.load(f"paper/{name}"))
    heavy = {p.name for p in manifest.parameters if p.role in ("kernel", "matrix", "recurrent", "embedding")}
    assert {p.name for p in manifest.prunable} == heavy - UNPRUNED[name]
    assert UNPRUNED[name] <= heavy


@pytest.mark.parametrize("name", TABLE)
def test_the_networks_of_the_recipes_fit_their_data(name: str) -> None:
    """The crop is the image's size, and the bands and characters are the speech networks'."""
    recipe, model = Recipe.load(f"paper/{name}"), NETWORKS[name]()
    inputs = {value.name: value.shape for value in model.graph.inputs}
    if "image" in inputs:
        assert recipe.data.image.crop == inputs["image"][2] == inputs["image"][3]
    if "features" in inputs:
        audio = recipe.data.audio
        bands = audio.mels if audio.features == "log-mel" else round(audio.window * audio.sample_rate) // 2 + 1
        assert inputs["features"][2] == bands
        assert model.graph.outputs[0].shape[2] == len(recipe.data.alphabet)
