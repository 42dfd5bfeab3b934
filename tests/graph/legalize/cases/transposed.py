"""Transposed convolutions."""

from __future__ import annotations

from typing import Any

from tests.graph.legalize.cases.case import Case, image

WEIGHTS = ", float[4, 3, 3, 2] w, float[3] b"
SHIFTED = "Add(ConvTranspose(x, w), Reshape(b, [-1 1 1]))"
GROUPS = (
    "(float[N, 4, 6, 5] x, float[4, 3, 3, 2] w) => (float[] y) { x0, x1 = Split <axis = 1, num_outputs = 2> (x) "
    "w0, w1 = Split <num_outputs = 2> (w) y0 = ConvTranspose <strides = [2, 2], pads = [1, 1, 0, 0]> (x0, w0) "
    "y1 = ConvTranspose <strides = [2, 2], pads = [1, 1, 0, 0]> (x1, w1) y = Concat <axis = 1> (y0, y1) }"
)


def with_pads(pads: str) -> str:
    """What ``output_shape`` comes to: the reference evaluator does not take it."""
    node = f"ConvTranspose <strides = [2, 2], pads = [{pads}]> (x, w, b)"
    return f"(float[N, 4, 3, 4] x{WEIGHTS}) => (float[] y) {{ y = {node} }}"


def transposed(attributes: str, expected: str = SHIFTED, size: str = "3, 4", **more: Any) -> Case:
    return image(f"ConvTranspose <{attributes}> (x, w, b)", expected, size=size, inputs=WEIGHTS, **more)


CASES = [
    transposed("strides = [2, 3]"),
    transposed("strides = [2, 3]", size="H, W"),
    transposed("strides = [2, 2], pads = [1, 0, 1, 1]"),
    transposed("strides = [2, 2], pads = [1, 0, 1, 1], output_padding = [1, 1]", size="H, W"),
    transposed("strides = [1, 2], dilations = [2, 1]"),
    transposed(
        "strides = [3, 3], output_padding = [2, 1]",
        "Add(Pad(ConvTranspose(x, w), [0 0 0 0 0 0 2 1], 0), Reshape(b, [-1 1 1]))",
    ),
    transposed('strides = [2, 2], auto_pad = "SAME_UPPER"'),
    transposed('strides = [2, 2], auto_pad = "SAME_LOWER"', size="H, W"),
    transposed('auto_pad = "VALID", strides = [2, 1]'),
    transposed("strides = [2, 2], output_shape = [6, 8]", original=with_pads("1, 0, 0, 0")),
    transposed("strides = [2, 2], output_shape = [7, 7]", original=with_pads("0, 1, 0, 0")),
    image("ConvTranspose <strides = [2, 1]> (x, w)", "ConvTranspose(x, w)", inputs=", float[4, 3, 3, 2] w"),
    image(
        "ConvTranspose <group = 2, strides = [2, 2], pads = [1, 1, 0, 0]> (x, w)",
        "ConvTranspose(x, w)",
        inputs=", float[4, 3, 3, 2] w",
        original=GROUPS,
    ),
    image("ConvTranspose <group = 4> (x, w)", "ConvTranspose(x, w)", inputs=", float[4, 1, 3, 3] w", size="H, 5"),
    Case(
        "(float[N, 2, 5] x, float[2, 3, 3] w) => (float[] y) { y = ConvTranspose <strides = [2]> (x, w) }",
        "ConvTranspose(x, w)",
    ),
    Case(
        "(float[N, 2, 2, 3, 2] x, float[2, 3, 2, 1, 2] w) => (float[] y) "
        "{ y = ConvTranspose <strides = [2, 1, 2], pads = [0, 0, 0, 1, 0, 0]> (x, w) }",
        "ConvTranspose(x, w)",
    ),
]
