"""Small siblings of the eight networks, prepared, with data: the same numbers wherever they are made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

import dsd_ort
from dsd_ort.graph.program import open_program
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.run.prune import write_masks
from graphs import NETWORKS

Arrays = dict[str, np.ndarray]

CLASSES, WORDS, BANDS = 10, 20, 13
SPEECH = {"classes": 5, "bands": BANDS, "width": 8}
SIBLINGS: dict[str, dict[str, int]] = {
    "lenet": {},
    "vgg16": {"classes": CLASSES, "width": 8, "size": 32},
    "googlenet": {"classes": CLASSES, "width": 8, "size": 64},
    "resnet18": {"classes": CLASSES, "width": 8, "size": 64, "depth": 1},
    "resnet50": {"classes": CLASSES, "width": 8, "size": 96, "depth": 1},
    "neuraltalk": {"vocabulary": WORDS, "features": 12, "width": 8},
    "deepspeech": {**SPEECH, "context": 2},
    "deepspeech2": {**SPEECH, "maps": 3, "depth": 2},
}
EXAMPLES, BATCH, SPARSITY = 8, 4, 0.5


class Numbers(NamedTuple):
    """Of one step: the loss, and the gradient of every parameter."""

    loss: float
    gradients: Arrays


def write(name: str, path: Path, *, dropout: bool = True) -> None:
    """The network, its batch norms and biases with values as of one in training, with *dropout* or without."""
    model = NETWORKS[name](**SIBLINGS[name])
    for node in () if dropout else [node for node in model.graph if node.op_type == "Dropout"]:
        node.outputs[0].replace_all_uses_with(node.inputs[0])
        model.graph.remove(node, safe=True)
    rng = np.random.default_rng(5)
    for value in model.graph.initializers.values():
        if len(value.shape) == 1 and not value.name.endswith("running_var"):
            value.const_value = ir.tensor(
                value.const_value.numpy() + rng.uniform(-1, 0.2, value.shape.numpy()).astype("f")
            )
    ir.save(model, path)


def data(name: str) -> Arrays:
    rng = np.random.default_rng(2)
    if name == "neuraltalk":
        words = rng.integers(0, WORDS, (EXAMPLES, 6))
        label = np.where(rng.random((EXAMPLES, 6)) < 0.2, -1, rng.integers(0, WORDS, (EXAMPLES, 6)))
        return {"feature": rng.standard_normal((EXAMPLES, 12), np.float32), "words": words, "label": label}
    if name.startswith("deepspeech"):
        lengths, label = np.array([12, 9] * (EXAMPLES // 2)), rng.integers(1, 5, (EXAMPLES, 3))
        label[1::2, 2] = -1
        features = rng.standard_normal((EXAMPLES, 12, BANDS), np.float32)
        return {"features": features, "lengths": lengths, "label": label}
    size, channels = SIBLINGS[name].get("size", 28), 1 if name == "lenet" else 3
    image = rng.standard_normal((EXAMPLES, channels, size, size), np.float32)
    return {"image": image, "label": rng.integers(0, CLASSES, EXAMPLES)}


def recipe(name: str) -> dsd_ort.Recipe:
    """Dense, sparse, dense, two steps each; the network's own kind of loss."""
    loss: Any = {"output": "logits"}
    if name == "neuraltalk":
        loss |= {"ignore_index": -1, "class_axis": -1}
    if name.startswith("deepspeech"):
        loss |= {"name": "ctc", "lengths": "lengths" if name == "deepspeech" else "frames"}
    phases: list[dict[str, Any]] = [{"kind": "dense"}, {"kind": "sparse", "sparsity": SPARSITY}, {"kind": "dense"}]
    common = {"steps": 2, "learning_rate": 0.02}
    table = {"batch_size": BATCH, "metrics": ["loss"], "loss": loss, "phase": [phase | common for phase in phases]}
    return dsd_ort.Recipe.from_dict(table)


def prepare(name: str, folder: Path, *, dropout: bool = True) -> Path:
    """The run folder *folder*/*name*, beside the model it is made of."""
    write(name, folder / f"{name}.onnx", dropout=dropout)
    dsd_ort.prepare(folder / f"{name}.onnx", folder / name, recipe(name))
    return folder / name


def one_step(run: Path, batch: Mapping[str, np.ndarray], *, sparse: bool) -> Numbers:
    """What the engine computes from the source's weights, with the masks of a sparse phase or without."""
    program = open_program(run)
    arena, source = Arena.of(program), program.source()
    arena.fill_from(source)
    if sparse:
        write_masks(arena, SPARSITY, program.recipe.prune)
        arena.apply_masks()
    loss = Engine(program, arena, Execution(threads=1)).step(batch, sparse=sparse, seed=3)
    return Numbers(loss, {piece.name: view(arena.gradients, piece).copy() for piece in arena.trained})


def disagreement(got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    """The greatest ‖got - expected‖ / ‖expected‖ of all arrays."""
    assert set(got) == set(expected)
    return max(
        float(np.linalg.norm(got[name] - value)) / (float(np.linalg.norm(value)) or 1.0)
        for name, value in expected.items()
    )
