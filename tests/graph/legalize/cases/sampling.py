"""Values at computed points.  ``tests/oracle/test_operators.py`` has all of GridSample's modes against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph.legalize.cases.case import Case

# Inside and outside of the image; not near pixels or its ends, where there is no derivative.
GRID = np.random.default_rng(3).uniform(-1.4, 1.4, (2, 3, 4, 2)).round(2) + 0.003
REGIONS = np.array([[0, 0, 3, 3], [0.5, 1, 4, 2.5], [1, 1, 1.2, 9]])

AT, AT_CORNERS = "Reshape Add Mul Sub Div Sub", "Reshape Add Div Mul Sub"
LINEAR, INSIDE = " Sub Concat", " Mul"
CUBIC = " Sub" + " Mul Add Mul Mul Add" * 2 + " Add Mul Add Mul Add Mul Add" * 2 + " Concat"
PRODUCT, READ, SUM = "Unsqueeze Unsqueeze Mul Reshape", "Reshape Transpose GatherND", "MatMul Squeeze Transpose Reshape"


def weighted(axis: str, axes: int = 2) -> str:
    products = " ".join([PRODUCT] * (axes - 1))
    return f"Split {' '.join([axis] * axes)} {products} {READ} Unsqueeze {SUM}"


def sampled(attributes: str, path: str, grid: str = "3, 4", image: str = "H, W", **more: Any) -> Case:
    text = f"(float[N, 3, {image}] x, float[N, {grid}, 2] g) => (float[] y) {{ y = GridSample {attributes} (x, g) }}"
    return Case(text, given={"g": GRID}, tolerance=5e-6, path=path, **more)


EDGES = "Unsqueeze Unsqueeze Unsqueeze Unsqueeze"
TAPS = "Sub Div Div Mul Add Mul Add Max Min Sub Sub Mul Mul Concat"
TAPS_LONGER = TAPS.replace("Sub Div", "Sub Max Div", 1)
GREATEST = "Mul Expand Where Where ReduceSum Div Where Transpose Reshape"


def pooled(
    attributes: str, taps: str = TAPS, scaled: str = "Mul Sub", end: str = f"Unsqueeze {SUM}", **more: Any
) -> Case:
    text = (
        "(float[N, 3, H, 6] x, float[T, 4] r, int64[T] b) => (float[] y) "
        f"{{ y = RoiAlign <output_height = 2, output_width = 3, spatial_scale = 0.7, {attributes}> (x, r, b) }}"
    )
    path = f"{scaled} Split {EDGES} {taps} {taps} {PRODUCT} Reshape Transpose Reshape GatherND {end}"
    return Case(text, path=path, given={"r": REGIONS, "b": [0, 1, 1]}, tolerance=2e-6, **more)


HALF = 'coordinate_transformation_mode = "half_pixel"'
WHOLE = 'coordinate_transformation_mode = "output_half_pixel"'
OLD = pooled("sampling_ratio = 2", taps=TAPS_LONGER, scaled="Mul", opset=13, elsewhere=False)
CASES = [
    sampled("", weighted(AT + LINEAR + INSIDE)),
    sampled("<align_corners = 1>", weighted(AT_CORNERS + LINEAR + INSIDE), image="5, 4"),
    sampled('<padding_mode = "border">', weighted(AT + LINEAR)),
    sampled('<padding_mode = "reflection">', weighted(AT + LINEAR), grid="T, K"),
    sampled('<padding_mode = "reflection", align_corners = 1>', weighted(AT_CORNERS + LINEAR)),
    sampled('<mode = "bicubic">', weighted(AT + CUBIC + INSIDE)),
    sampled(
        '<mode = "bicubic", padding_mode = "reflection", align_corners = 1>',
        weighted(AT_CORNERS + CUBIC),
        image="5, 4",
    ),
    sampled('<mode = "nearest">', f"{READ} {SUM}", untrained=("g",)),
    sampled('<mode = "nearest", padding_mode = "reflection">', f"{READ} {SUM}", untrained=("g",)),
    Case(
        "(float[N, 2, 3, H, 4] x, float[N, 2, T, 1, 3] g) => (float[] y) { y = GridSample (x, g) }",
        opset=20,
        path=weighted(AT + LINEAR + INSIDE, axes=3),
        tolerance=5e-6,
    ),
    Case(
        "(float[N, 2, 3, H, 4] x, float[N, 2, T, 1, 3] g) => (float[] y) "
        '{ y = GridSample <mode = "linear", padding_mode = "border"> (x, g) }',
        opset=20,
        path=weighted(AT + LINEAR, axes=3),
        tolerance=5e-6,
    ),
    Case(
        "(float[N, 2, 3] t) => (float[] y) <int64[4] s = {2, 1, 2, 3}> { y = AffineGrid (t, s) }",
        opset=20,
        path="Transpose MatMul Reshape",
        original="(float[N, 2, 3] t) => (float[] y) <int64[4] s = {2, 2, 3, 2}, float[6, 3] b = {"
        "-0.66666667, -0.5, 1, 0, -0.5, 1, 0.66666667, -0.5, 1, -0.66666667, 0.5, 1, 0, 0.5, 1, 0.66666667, 0.5, 1}> "
        "{ p = Transpose <perm = [0, 2, 1]> (t) q = MatMul (b, p) y = Reshape (q, s) }",
    ),
    # The axis of length 1 is at 1.
    Case(
        "(float[N, 3, 4] t, float[N, 1, 2, ONE, T] x) => (float[] y) "
        "{ s = Shape (x) y = AffineGrid <align_corners = 1> (t, s) }",
        opset=20,
        path="Transpose MatMul Reshape",
        untrained=("x",),
        original="(float[N, 3, 4] t, float[N, 1, 2, ONE, T] x) => (float[] y) <int64[5] s = {2, 2, 1, 3, 3}, "
        "float[6, 4] b = {-1, 1, -1, 1, 0, 1, -1, 1, 1, 1, -1, 1, -1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1}> "
        "{ p = Transpose <perm = [0, 2, 1]> (t) q = MatMul (b, p) y = Reshape (q, s) }",
    ),
    OLD._replace(original=OLD.text.replace("sampling", f"{WHOLE}, sampling")),
    pooled(f"{HALF}, sampling_ratio = 2"),
    pooled(f"{HALF}, sampling_ratio = 0"),
    pooled(f"{WHOLE}, sampling_ratio = 2", taps=TAPS_LONGER, scaled="Mul"),
    pooled(f'{HALF}, mode = "max", sampling_ratio = 2', end=f"Unsqueeze {GREATEST}"),
    pooled(f'{HALF}, mode = "max", sampling_ratio = 0', end=f"Unsqueeze {GREATEST}"),
]
