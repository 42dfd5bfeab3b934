"""Which stored tensors are constants, and by which rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dsd_ort.model import source
from dsd_ort.model.constants import RULES
from tests import cases
from tests.cases import Array, bank, drawn, transform, waves

WORDS = {rule.words: rule.name for rule in RULES}
SPECTRUM = np.fft.fft(np.eye(32))[:, :17]


def found(path: Path, value: Array, text: str) -> str:
    """The rule that *value*, stored as t in the graph *text*, is a constant by; else its role as a parameter."""
    weights = {"t": value.astype(np.float32), "W": drawn(*value.shape[-1:], 3), "V": drawn(6, 6)}
    model = source.load(cases.write(path, text, weights))
    for constant in model.constants:
        if constant.parameter.name == "t":
            return f"constant: {WORDS[constant.why]}"
    return next(p.role for p in model.parameters if p.name == "t")


def behind(shape: tuple[int, ...], node: str) -> str:
    """A graph in which *node* computes h of x: f32[N, …], and a layer follows."""
    return (
        f"(float[N, {', '.join(map(str, shape))}] x) => (float[N, 3] y) {{ {node} s = MatMul (h, W) y = Flatten (s) }}"
    )


def met(value: Array, first: str = "Relu (x)") -> str:
    """A graph in which t meets a value by Max, where no weights sit."""
    return behind(value.shape, f"r = {first} h = Max (r, t)")


CONSTANTS: dict[str, tuple[str, Array]] = {
    "one number": ("number", np.array([0.37])),
    "one number, of many axes": ("number", np.array([[[0.37]]])),
    "ones": ("even", np.ones(6)),
    "whole numbers": ("whole", np.array([3.0, 1, 4, 1, 5])),
    "slopes of two heads": ("round", np.array([2.0**-4, 2.0**-8])),
    "a mask": ("mask", np.array([[0.0, -1e4, 0.0], [0.0, 0.0, -1e4]])),
    "a mask of infinities": ("mask", np.array([[0.1, -np.inf], [0.3, 0.2]])),
    "a grid": ("grid", np.linspace(-1, 1, 9)),
    "biases that fall with the distance": ("grid", np.outer([0.37, 0.021], np.arange(9.0) - 8)[:, None]),
    "lines that are the same": ("grid", np.repeat(np.linspace(0.1, 0.73, 7)[:, None], 2, axis=1)),
    "a grid of two axes": (
        "repeated",
        np.stack(np.meshgrid(*[np.linspace(0, 1, 5)] * 2), -1).reshape(-1, 2),
    ),
    "rotary frequencies": ("frequencies", 1 / 10000 ** (np.arange(8) / 8)),
    "rotary frequencies that are stretched": (
        "frequencies",
        np.where(np.arange(8) > 3, 0.125, 1) / 10000 ** (np.arange(8) / 8),
    ),
    "rotary frequencies, once an example": ("frequencies", np.tile(10000 ** (-np.arange(4) / 4), (2, 1))[..., None]),
    "a Hann window": ("window", np.hanning(16)),
    "a periodic Hann window": ("window", np.hanning(17)[:-1]),
    "a Gaussian blur": ("window", np.exp(-(np.linspace(-2, 2, 7) ** 2))),
    "a cosine transform": ("waves", transform(16, 16)),
    "positions": ("waves", waves(30, 16, base=10000)),
    "positions of four steps": ("waves", waves(4, 10)),
    "positions behind a padding row": ("waves", np.concatenate([np.zeros((1, 16)), waves(30, 16)])),
    "positions as a batch": ("waves", waves(30, 16)[None]),
    "positions of a square": (
        "waves",
        np.concatenate([np.repeat(waves(6, 8), 6, axis=0), np.tile(waves(6, 8), (6, 1))], axis=1),
    ),
    "a Fourier transform, real parts above imaginary ones": (
        "waves",
        np.hstack([SPECTRUM.real, SPECTRUM.imag]).T,
    ),
    "a Fourier transform under a window": ("waves", SPECTRUM.real * np.hanning(32)[:, None]),
    "a filter bank": ("bank", bank(40, 12)),
    "a filter bank, transposed": ("bank", bank(40, 12).T),
    "anchors": ("repeated", np.tile(drawn(3, 2), (8, 1))),
}


@pytest.mark.parametrize("what", CONSTANTS)
def test_what_nobody_learned_is_a_constant_by_a_rule(tmp_path: Path, what: str) -> None:
    rule, value = CONSTANTS[what]
    assert found(tmp_path / "m.onnx", value, met(value)) == f"constant: {rule}"


def smooth(*shape: int) -> Array:
    """Learned positions: neighbours are alike."""
    return np.cumsum(drawn(*shape), axis=0) * 0.1


LEARNED: dict[str, Array] = {
    "centres": drawn(5, 8),
    "a vector": drawn(7),
    "a table of pairs": drawn(6, 2),
    "lines of which one bends": np.outer([0.37, 0.021], np.arange(9.0)) + np.eye(2, 9) * 0.1,
    "a vector that falls": -np.sort(-np.abs(drawn(7))),
    "positive numbers": np.abs(drawn(9, 9)),
    "smooth positions": smooth(40, 16),
    "numbers of which most were pruned": np.where(np.random.default_rng(1).random((20, 16)) < 0.9, 0, drawn(20, 16)),
    "waves with noise": waves(30, 16) + 0.01 * drawn(30, 16),
    "a bank that was trained": bank(40, 12) + 0.01 * np.abs(drawn(40, 12)),
    "a window that was trained": np.hanning(16) + 0.01 * drawn(16),
}


@pytest.mark.parametrize("what", LEARNED)
def test_what_was_learned_is_a_parameter(tmp_path: Path, what: str) -> None:
    value = LEARNED[what]
    assert found(tmp_path / "m.onnx", value, met(value)) == "other"


IN_SLOTS: dict[str, tuple[str, Callable[[], Array], str]] = {
    "a bias of zeros": ("bias", lambda: np.zeros(6), "a = MatMul (x, V) h = Add (a, t)"),
    "an identity": ("matrix", lambda: np.eye(6), "h = MatMul (x, t)"),
    "whole numbers": ("matrix", lambda: np.arange(36).reshape(6, 6), "h = MatMul (x, t)"),
    "a matrix of ones": ("matrix", lambda: np.ones((6, 6)), "h = MatMul (x, t)"),
    "a scale that rises": ("norm", lambda: np.linspace(0.5, 1.5, 6), "h = LayerNormalization (x, t)"),
    "a pruned matrix": ("matrix", lambda: np.where(np.abs(drawn(6, 6)) < 0.4, 0, drawn(6, 6)), "h = MatMul (x, t)"),
    "rotary frequencies": (
        "constant: frequencies",
        lambda: 100 ** (-np.arange(6) / 6),
        "h = LayerNormalization (x, t)",
    ),
    "a cosine transform": ("constant: waves", lambda: transform(6, 6), "h = MatMul (x, t)"),
}


@pytest.mark.parametrize("what", IN_SLOTS)
def test_in_a_slot_for_weights_only_what_a_network_cannot_begin_with_is_a_constant(tmp_path: Path, what: str) -> None:
    expected, value, node = IN_SLOTS[what]
    assert found(tmp_path / "m.onnx", value(), behind((6,), node)) == expected


BLUR = np.outer([1, 2, 1], [1, 2, 1]) / 16


EDGES = np.outer([1, 2, 1], [-1, 0, 1]) / 8
KERNELS = [(BLUR, "constant: blur"), (EDGES, "constant: filter"), (np.ones((3, 3)), "kernel")]


@pytest.mark.parametrize(("kernel", "expected"), KERNELS)
def test_one_filter_for_every_channel_is_a_constant_but_not_what_a_kernel_begins_with(
    tmp_path: Path, kernel: Array, expected: str
) -> None:
    text = "(float[N, 4, 8, 8] x) => (float[N, 4, 6, 6] y) { h = Conv <group = 4> (x, t) y = Relu (h) }"
    assert found(tmp_path / "m.onnx", np.tile(kernel, (4, 1, 1, 1)), text) == expected


NORMALISED = {
    "a mean of channels": "d = Sub (x, t) h = Relu (d)",
    "a deviation behind a mean": "m = Sub (x, W1) d = Div (m, t) h = Relu (d)",
    "a factor behind a reshape": "r = Identity (x) d = Mul (t, r) h = Relu (d)",
}


@pytest.mark.parametrize("what", NORMALISED)
def test_what_stands_between_an_input_and_all_layers_normalises(tmp_path: Path, what: str) -> None:
    text = behind((6,), NORMALISED[what]).replace("(float[N, 6] x)", "(float[N, 6] x, float[6] W1)")
    assert found(tmp_path / "m.onnx", drawn(6), text) == "constant: normalisation"


def test_a_mean_picture_normalises_and_centres_do_not(tmp_path: Path) -> None:
    picture = "(float[N, 3, 4, 5] x) => (float[N, 3, 4, 3] y) { d = Sub (x, t) y = MatMul (d, W) }"
    assert found(tmp_path / "m.onnx", drawn(1, 3, 4, 5), picture) == "constant: normalisation"
    centred = "(float[N, 1, 5] x) => (float[N, 4, 3] y) { d = Sub (x, t) y = MatMul (d, W) }"
    assert found(tmp_path / "m.onnx", drawn(1, 4, 5), centred) == "other"


@pytest.mark.parametrize(("scale", "expected"), [(drawn(6), "constant: filled"), (np.full(6, 0.5), "norm")])
def test_a_norm_that_an_exporter_filled_in_is_told_by_the_others(tmp_path: Path, scale: Array, expected: str) -> None:
    node = "a = LayerNormalization (x, scale) b = MatMul (a, V) c = InstanceNormalization (b, t, t) "
    node += "h = Transpose <perm = [0, 2, 1]> (c)"
    stored = f"<float[6] scale = {{{', '.join(map(str, scale))}}}>"
    text = behind((4, 6), node).replace("=> (float[N, 3] y)", f"=> (float[N, 3] y) {stored}")
    assert found(tmp_path / "m.onnx", np.ones(4), text) == expected


@pytest.mark.parametrize(
    ("scale", "expected"), [("Constant <value_floats = [1.0, 1.0, 1.0]> ()", {"V"}), ("Identity (t)", {"V", "t"})]
)
def test_ones_in_a_node_are_no_norm_where_weights_are_initializers(
    tmp_path: Path, scale: str, expected: set[str]
) -> None:
    text = f"(float[N, 3] x) => (float[N, 6] y) {{ s = {scale} a = LayerNormalization (x, s) y = MatMul (a, V) }}"
    model = source.load(cases.write(tmp_path / "m.onnx", text, {"V": drawn(3, 6), "t": np.ones(3, np.float32)}))
    assert {p.name for p in model.parameters} == expected


def test_a_blur_that_is_stored_once_for_all_channels_is_a_constant(tmp_path: Path) -> None:
    text = """(float[N, 4, 8, 8] x) => (float[N, 4, 6, 6] y) <int64[4] all = {4, 1, 1, 1}> {
        k = Expand (t, all) y = Conv <group = 4> (x, k)
    }"""
    assert found(tmp_path / "m.onnx", BLUR[None, None], text) == "constant: blur"
    assert found(tmp_path / "m.onnx", drawn(1, 1, 3, 3), text) == "kernel"
