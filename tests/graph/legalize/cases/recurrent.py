"""Recurrent layers.  ``y`` is all outputs of the layer in one row, so that a gradient arrives at each, but where
``outputs`` leaves some out.  Weights are small: a layer with large ones amplifies roundings from step to step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph.legalize.cases.case import Case

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
OUTPUTS = {"LSTM": "a, b, e", "GRU": "a, b", "RNN": "a, b"}
FULL = {"LSTM": "x, W, R, B, n, h, c, P", "GRU": "x, W, R, B, n, h", "RNN": "x, W, R, B, n, h"}
BOTH = 'direction = "bidirectional"'
REVERSE = 'direction = "reverse"'


def layer(
    kind: str,
    attributes: str = "",
    inputs: str = "x, W, R, B",
    *,
    outputs: str = "",
    lengths: tuple[int, ...] = (2, 4, 1),
    hidden: int = 3,
    steps: int = 4,
    fixed: bool = False,
    **more: Any,
) -> Case:
    """A layer with the *inputs* named: weights W, R, B, P, lengths n, first states h and c.

    The number of steps and sequences is symbolic, but where *fixed*.
    """
    rows, d, batch = GATES[kind] * hidden, 2 if BOTH in attributes else 1, len(lengths)
    first = "layout = 1" in attributes
    sizes = {
        "x": (batch, steps, 2) if first else (steps, batch, 2),
        "W": (d, rows, 2),
        "R": (d, rows, hidden),
        "B": (d, 2 * rows),
        "h": (batch, d, hidden) if first else (d, batch, hidden),
        "c": (batch, d, hidden) if first else (d, batch, hidden),
        "P": (d, 3 * hidden),
    }
    symbols = {} if fixed else {0: "N", 1: "T"} if first else {0: "T", 1: "N"}
    names = inputs.replace(" ", "").split(",")
    random = np.random.default_rng(0)
    given: dict[str, Any] = {name: 0.5 * random.standard_normal(sizes[name]) for name in sizes if name in names}
    given["x"] *= 2
    declared = [f"int32[{batch if fixed else 'N'}] n"] if "n" in names else []
    for name, size in sizes.items():
        if name in names:
            axes = symbols if name == "x" else {1 - first: "N"} if name in "hc" and not fixed else {}
            declared.append(f"float[{', '.join(str(axes.get(i, s)) for i, s in enumerate(size))}] {name}")
    if "n" in names:
        given["n"] = lengths
    outputs = outputs or OUTPUTS[kind]
    used = [name for name in outputs.replace(" ", "").split(",") if name]
    flat = " ".join(f"{name}_1 = Reshape ({name}, row)" for name in used)
    joined = f"y = Concat <axis = 0> ({', '.join(f'{name}_1' for name in used)})"
    node = f"{outputs} = {kind} <hidden_size = {hidden}{attributes and ', ' + attributes}> ({inputs})"
    text = f"({', '.join(declared)}) => (float[] y) <int64[1] row = {{-1}}> {{ {node} {flat} {joined} }}"
    trained = [name for name in names if name in sizes]
    return Case(text, given=given, path=_path(kind, trained, len(used), attributes), **more)


def _path(kind: str, trained: list[str], outputs: int, attributes: str) -> str:
    """What the layer becomes: parts of each input for each direction; X·Wᵀ, the recurrence; the outputs joined."""
    both, first = BOTH in attributes, "layout = 1" in attributes
    part = "Split Squeeze Squeeze" if both else "Squeeze"
    bias = ["Split" if "linear_before_reset = 1" in attributes else "Reshape ReduceSum"] if "B" in trained else []
    joined = ["Unsqueeze Unsqueeze Concat" if both else "Unsqueeze", *(["Transpose"] if first else [])]
    steps = [
        *(["Transpose"] if first else []),
        "Flatten",
        *[part] * (len(trained) - 1),
        *[*bias, "Gemm Reshape", kind] * (2 if both else 1),
        *joined * outputs,
        *["Reshape"] * outputs,
        "Concat",
    ]
    return " ".join(steps)


def functions(*names: str, alpha: str = "", beta: str = "") -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    parameters = [f"activation_{k} = [{v}]" for k, v in (("alpha", alpha), ("beta", beta)) if v]
    return ", ".join([f"activations = [{listed}]", *parameters])


CASES = [
    layer("LSTM"),
    layer("LSTM", "", "x, W, R", fixed=True),
    layer("LSTM", REVERSE, "x, W, R, B, , h, c"),
    layer("LSTM", BOTH, "x, W, R, B, , h, c"),
    layer("LSTM", "", FULL["LSTM"]),
    layer("LSTM", REVERSE, FULL["LSTM"], lengths=(3, 0, 4)),
    layer("LSTM", f"{BOTH}, clip = 0.4, input_forget = 1", FULL["LSTM"]),
    layer("LSTM", "clip = 0.4"),
    layer("LSTM", "input_forget = 1", "x, W, R, B, , h, c, P"),
    layer("LSTM", f"{BOTH}, layout = 1", FULL["LSTM"], runs=False),
    layer("LSTM", outputs="a"),
    layer("LSTM", outputs=", b"),
    layer("LSTM", "", FULL["LSTM"], outputs=", , e"),
    layer("LSTM", outputs="a, , e"),
    layer("LSTM", BOTH, outputs=", b, e", steps=1, hidden=1, lengths=(1,)),
    layer("LSTM", functions("HardSigmoid", "Softsign", "Elu", alpha="0.3, 0.8", beta="0.4"), FULL["LSTM"]),
    layer("LSTM", functions("LeakyRelu", "ScaledTanh", "Affine", alpha="0.1, 0.6, 0.5", beta="1.3, 0.1")),
    layer("LSTM", functions("Softplus", "Relu", "ThresholdedRelu", alpha="0.2"), tolerance=1e-6),
    layer("LSTM", f"{BOTH}, clip = 0.5, " + functions("HardSigmoid", "Tanh", "tanh", "Sigmoid", "Elu", "Softplus")),
    layer("GRU"),
    layer("GRU", "linear_before_reset = 1"),
    layer("GRU", "linear_before_reset = 1", "x, W, R", fixed=True),
    layer("GRU", REVERSE, "x, W, R, , , h"),
    layer("GRU", f"{BOTH}, linear_before_reset = 1, clip = 0.4", FULL["GRU"]),
    layer("GRU", f"{BOTH}, clip = 0.4", FULL["GRU"], lengths=(3, 0, 4)),
    layer("GRU", "linear_before_reset = 1, layout = 1", FULL["GRU"], runs=False),
    layer("GRU", "linear_before_reset = 1", outputs=", b"),
    layer("GRU", "", FULL["GRU"], outputs="a", steps=1, hidden=1, lengths=(1,)),
    layer("GRU", functions("HardSigmoid", "Softsign", alpha="0.3", beta="0.4")),
    layer("GRU", functions("LeakyRelu", "ScaledTanh", alpha="0.1, 0.6", beta="1.3") + ", linear_before_reset = 1"),
    layer("GRU", functions("Affine", "Elu", alpha="0.5, 0.7", beta="0.1")),
    layer("GRU", functions("Softplus", "ThresholdedRelu", alpha="0.2") + ", linear_before_reset = 1", tolerance=1e-6),
    layer("RNN"),
    layer("RNN", "", "x, W, R", fixed=True),
    layer("RNN", REVERSE, FULL["RNN"]),
    layer("RNN", f"{BOTH}, clip = 0.4", FULL["RNN"]),
    layer("RNN", "layout = 1", FULL["RNN"], runs=False, lengths=(3, 0, 4)),
    layer("RNN", functions("Relu"), outputs=", b"),
    layer("RNN", f"{BOTH}, " + functions("Affine", "ScaledTanh", alpha="0.5, 0.6", beta="0.1, 1.3")),
    layer("RNN", f"{BOTH}, " + functions("Elu", "LeakyRelu", alpha="0.7, 0.1")),
    layer("RNN", f"{BOTH}, " + functions("Softsign", "Softplus"), outputs="a"),
    layer("RNN", f"{BOTH}, " + functions("HardSigmoid", "HardSigmoid", alpha="0.3, 0.2", beta="0.4, 0.6")),
    layer("RNN", functions("ThresholdedRelu", alpha="0.2"), steps=1, lengths=(1,), hidden=1),
]
