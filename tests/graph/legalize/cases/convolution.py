"""Convolutions."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case, image


def run_time_pads(kernel: str, strides: str, *, lower: bool = False) -> str:
    length = "Shape(x, start=2)"
    last = f"Div(Sub({length}, [1]), {strides})"
    total = f"Max(Sub(Add(Mul({last}, {strides}), {kernel}), {length}), [0])"
    small, large = f"Div({total}, [2])", f"Sub({total}, Div({total}, [2]))"
    begin, end = (large, small) if lower else (small, large)
    return f"Pad(x, Concat([0 0], {begin}, [0 0], {end}, axis=0), 0)"


KERNEL = ", float[3, 4, 3, 2] w, float[3] b"
CASES = [
    image("Conv <pads = [1, 0, 1, 1], strides = [2, 1]> (x, w, b)", inputs=KERNEL),
    image("Conv <pads = [1, 0, 1, 1], strides = [2, 1]> (x, w, b)", inputs=KERNEL, size="H, W"),
    image("Conv <dilations = [2, 1], group = 2> (x, w)", inputs=", float[6, 2, 2, 3] w", size="H, W"),
    Case("(float[N, 2, 5] x, float[3, 2, 3] w) => (float[] y) { y = Conv <pads = [1, 1]> (x, w) }"),
    Case("(float[N, 1, 3, 4, 3] x, float[2, 1, 2, 2, 2] w) => (float[] y) { y = Conv (x, w) }"),
    image("Conv <group = 4, pads = [1, 1, 1, 1]> (x, w)", inputs=", float[4, 1, 3, 3] w"),
    image("Conv <group = 4, strides = [2, 2]> (x, w)", inputs=", float[8, 1, 2, 2] w", size="H, W"),
    image("Conv <pads = [0, 0, 1, 1], strides = [2, 3]> (x, w)", inputs=", float[2, 4, 3, 2] w"),
    image("Conv <kernel_shape = [1, 1], strides = [2, 2]> (x, w)", inputs=", float[2, 4, 1, 1] w", size="H, 5"),
    image("Conv <pads = [3, 2, 3, 2]> (x, w)", inputs=", float[2, 4, 2, 2] w"),
    image("Conv <dilations = [2, 2], pads = [2, 2, 2, 2], strides = [2, 1]> (x, w)", inputs=", float[2, 4, 3, 3] w"),
    Case("(float[N, 4, T] x, float[4, 2, 2] w) => (float[] y) { y = Conv <dilations = [2], group = 2> (x, w) }"),
    Case(
        "(float[N, 2, 3, H, W] x, float[4, 1, 2, 3, 2] w, float[4] b) => (float[] y) "
        "{ y = Conv <dilations = [1, 2, 1], group = 2, pads = [1, 2, 0, 0, 2, 1], strides = [2, 1, 2]> (x, w, b) }"
    ),
    Case(
        '(float[N, 2, T] x, float[3, 2, 4] w) => (float[] y) { y = Conv <auto_pad = "SAME_UPPER"> (x, w) }',
        "Conv(x, w, pads=[1 2])",
    ),
    *(
        image(
            f"Conv <{attributes}> (x, w, b)",
            f"Conv(x, w, b, {expected})",
            inputs=KERNEL,
            size=size,
            runs="dilations" not in attributes,
        )
        for size, attributes, expected in (
            ("6, 5", 'auto_pad = "VALID"', "pads=[0 0 0 0]"),
            ("H, W", 'auto_pad = "SAME_UPPER"', "pads=[1 0 1 1]"),
            ("H, W", 'auto_pad = "SAME_LOWER"', "pads=[1 1 1 0]"),
            ("6, 5", 'auto_pad = "SAME_UPPER", strides = [2, 2]', "pads=[0 0 1 1], strides=[2 2]"),
            ("6, 5", 'auto_pad = "SAME_LOWER", strides = [2, 2]', "pads=[1 1 0 0], strides=[2 2]"),
            ("H, 5", 'auto_pad = "SAME_UPPER", strides = [1, 2]', "pads=[1 0 1 1], strides=[1 2]"),
            (
                "6, 5",
                'auto_pad = "SAME_UPPER", dilations = [1, 2], strides = [2, 1]',
                "dilations=[1 2], pads=[0 1 1 1], strides=[2 1]",
            ),
        )
    ),
    image(
        'Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w, b)',
        f"Conv({run_time_pads('[3 2]', '[2 2]')}, w, b, pads=[0 0 0 0], strides=[2 2])",
        inputs=KERNEL,
        size="H, W",
    ),
    image(
        'Conv <auto_pad = "SAME_LOWER", dilations = [1, 2], strides = [2, 3]> (x, w, b)',
        "Conv({}, w, b, dilations=[1 2], pads=[0 0 0 0], strides=[2 3])".format(
            run_time_pads("[3 3]", "[2 3]", lower=True)
        ),
        inputs=KERNEL,
        size="H, W",
        runs=False,
    ),
]
