"""Resize, and the Upsample that it was.  ``test_resampling.py`` has all modes against ONNX Runtime."""

from __future__ import annotations

from typing import Any

from tests.graph.legalize.cases.case import Case

SYMBOLIC = "Shape(x, end={end}, start={axis})"


def matrix(size: int | str, arguments: str) -> str:
    return f"Resize(EyeLike(ConstantOfShape(Concat({size}, {size}, axis=0))), {arguments})"


def both(rows: str, columns: str) -> str:
    return f"MatMul(MatMul({rows}, x), Transpose({columns}, perm=[1 0]))"


def resized(attributes: str, inputs: str, constants: str = "", size: str = "6, 5", **more: Any) -> Case:
    """Of an image; the coefficients that ONNX Runtime computes in float32 are right to some of their roundings."""
    text = f"(float[N, 4, {size}] x) => (float[] y) <{constants}> {{ y = Resize <{attributes}> (x, {inputs}) }}"
    return Case(text, **{"path": "MatMul MatMul", "tolerance": 5e-6, **more})


TWICE, MIXED = "float[4] s = {1, 1, 2, 3}", "float[4] s = {1, 1, 0.5, 3}"
SIZES = "int64[4] s = {2, 4, 7, 3}"
ROI = "float[8] r = {0, 0, 0.1, -0.2, 1, 1, 1.3, 0.6}"
CROP = 'coordinate_transformation_mode = "tf_crop_and_resize"'
H, W = SYMBOLIC.format(axis=2, end=3), SYMBOLIC.format(axis=3, end=4)
OTHER = (
    "(float[N, 4, H, W] x, float[N, 2, T, K] z) => (float[] y) <int64[1] a = {0}, int64[1] b = {2}, int64[1] c = {4}> "
    "{ p = Shape (x) q = Slice (p, a, b) r = Shape (z) t = Slice (r, b, c) s = Concat <axis = 0> (q, t) "
)
EVERY_AXIS = "Transpose MatMul Transpose Transpose MatMul Transpose MatMul MatMul"
TAPS = "Gather Mul Gather Mul Gather Mul Add Add"
CASES = [
    resized(
        'mode = "nearest", nearest_mode = "floor"',
        ", s",
        TWICE,
        expected=both(
            matrix("[6]", "_, [2], _, axes=[0], mode=nearest, nearest_mode=floor"),
            matrix("[5]", "_, [3], _, axes=[0], mode=nearest, nearest_mode=floor"),
        ),
        path=None,
    ),
    # Entries that are only repeated.
    resized('mode = "nearest"', ", s", TWICE, size="H, W", path="Repeated"),
    resized(
        'mode = "nearest"', ", , s", "int64[4] s = {2, 4, 12, 15}", path="Transpose MatMul Transpose MatMul MatMul"
    ),
    Case(
        "(float[2, 4, 6, 5] x) => (float[] y) <int64[4] s = {2, 4, 12, 15}> "
        '{ y = Resize <mode = "nearest"> (x, , , s) }',
        path="Repeated",
    ),
    *(
        Case(
            f"(float[N, 2, {size}] x) => (float[] y) <float[{rank}] s = {{1, 1, {scales}}}> {{ y = Resize "
            '<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, , s) }',
            path="Repeated",
        )
        for size, rank, scales in (("T", 3, "4"), ("2, H, 3", 5, "2, 1, 3"))
    ),
    resized(
        'mode = "linear"',
        ", s",
        MIXED,
        size="H, W",
        expected=both(matrix(H, "_, [0.5], _, axes=[0], mode=linear"), matrix(W, "_, [3], _, axes=[0], mode=linear")),
        path=None,
    ),
    # The batch axis is not known to keep its length.
    resized('mode = "linear"', ", , s", SIZES, size="H, W", path="Transpose MatMul Transpose MatMul MatMul"),
    resized('mode = "cubic", cubic_coeff_a = -0.5, exclude_outside = 1', ", s", TWICE, size="H, W"),
    resized('mode = "cubic", antialias = 1', ", s", MIXED),
    resized('mode = "linear", antialias = 1, axes = [3, 2]', ", s", "float[2] s = {0.6, 2}", size="H, W"),
    resized('mode = "nearest", axes = [3]', ", s", "float[1] s = {3}", size="6, W", path="MatMul"),
    resized(
        'mode = "linear", axes = [3, 2], keep_aspect_ratio_policy = "not_larger"',
        ", , s",
        "int64[2] s = {7, 12}",
        size="H, W",
    ),
    resized(
        'mode = "cubic", axes = [2, 3], keep_aspect_ratio_policy = "not_smaller"',
        ", , s",
        "int64[2] s = {7, 12}",
        size="6, W",
    ),
    resized('mode = "linear", coordinate_transformation_mode = "half_pixel_symmetric"', ", s", TWICE, size="H, W"),
    resized(
        'mode = "cubic", coordinate_transformation_mode = "align_corners"',
        ", , s",
        SIZES,
        path="Transpose MatMul Transpose MatMul MatMul",
    ),
    resized(f'mode = "linear", {CROP}', "r, s", f"{TWICE}, {ROI}", size="H, W"),
    resized(f'mode = "cubic", {CROP}, extrapolation_value = 2.5', "r, s", f"{TWICE}, {ROI}", path="MatMul MatMul Add"),
    Case(OTHER + 'y = Resize <mode = "linear"> (x, , , s) }', path="MatMul MatMul", tolerance=5e-6, untrained=("z",)),
    Case(
        '(float[N, 4, H, W] x, int64[4] s) => (float[] y) { y = Resize <mode = "linear"> (x, , , s) }',
        path=EVERY_AXIS,
        tolerance=5e-6,
        given={"s": [2, 4, 7, 3]},
    ),
    Case(
        '(float[N, 4, H, W] x, float[4] s) => (float[] y) { y = Resize <mode = "nearest"> (x, , s) }',
        path=EVERY_AXIS,
        given={"s": [1, 1, 2, 1.7]},
        untrained=("s",),
    ),
    Case(
        '(float[N, 4, 7] x) => (float[] y) <float[3] s = {1, 1, 1.5}> { y = Resize <mode = "linear"> (x, , s) }',
        path="MatMul",
        tolerance=5e-6,
    ),
    Case(
        "(float[N, 2, 3, H, 5] x) => (float[] y) <float[5] s = {1, 1, 2, 3, 0.5}> "
        '{ y = Resize <mode = "linear"> (x, , s) }',
        path="Transpose MatMul Transpose MatMul MatMul",
        tolerance=5e-6,
    ),
    Case(
        '(float[6] x) => (float[] y) <float[1] s = {2}> { y = Resize <mode = "nearest"> (x, , s) }',
        path="Unsqueeze MatMul Squeeze",
    ),
    # Sequences: an axis of unknown length may be too long for a matrix.
    *(
        Case(
            f"(float[N, 4, {size}] x) => (float[] y) <float[3] s = {{1, 1, {scale}}}> "
            f'{{ y = Resize <{attributes}mode = "linear"> (x, , s) }}',
            path=TAPS,
            tolerance=5e-6,
        )
        for size, scale, attributes in (
            ("H", 1.5, ""),
            ("H", 0.5, 'coordinate_transformation_mode = "align_corners", '),
            ("1025", 2, ""),
        )
    ),
    Case(
        "(float[N, 4, H] x) => (float[] y) <float[2] r = {0.12, 1.4}, float[1] s = {1.5}> "
        f'{{ y = Resize <axes = [2], {CROP}, extrapolation_value = 2.0, mode = "linear"> (x, r, s) }}',
        path=f"{TAPS} Add",
        tolerance=5e-6,
    ),
    Case(
        "(float[N, 4, H] x) => (float[] y) <float[2] r = {0.12, 1.4}, float[1] s = {1.5}> "
        f'{{ y = Resize <axes = [2], {CROP}, extrapolation_value = 2.0, mode = "nearest"> (x, r, s) }}',
        path="Gather Mul Add",
    ),
    Case('(float[T] x) => (float[] y) <float[1] s = {2}> { y = Resize <mode = "nearest"> (x, , s) }', path="Gather"),
    Case(
        '(float[H, 4, W] x, int64[3] s) => (float[] y) { y = Resize <mode = "nearest"> (x, , , s) }',
        path="Gather MatMul Gather",
        given={"s": [3, 5, 7]},
    ),
    Case("(float[N, 4] x) => (float[] y) <float[2] s = {1, 1}> { y = Resize (x, , s) }", "Identity(x)"),
    Case(
        f'(float[N, 2, 8, 6] x) => (float[] y) <{MIXED}> {{ y = Resize <mode = "linear"> (x, s) }}',
        opset=10,
        path="MatMul MatMul",
        original=f"(float[N, 2, 8, 6] x) => (float[] y) <{MIXED}> "
        '{ y = Resize <coordinate_transformation_mode = "asymmetric", mode = "linear"> (x, , s) }',
        elsewhere=False,
    ),
    # Where it shrinks the image, ONNX Runtime rounds up.
    Case(
        '(float[N, 2, 8, H] x) => (float[] y) <float[4] s = {1, 1, 0.6, 1.7}> { y = Resize <mode = "nearest"> (x, s) }',
        opset=10,
        path="MatMul MatMul",
        original="(float[N, 2, 8, H] x) => (float[] y) <float[4] s = {1, 1, 1, 1.7}, int64[4] i = {0, 2, 4, 5}> "
        "{ h = Gather <axis = 2> (x, i) "
        'y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (h, , s) }',
        elsewhere=False,
    ),
    Case(
        "(float[N, 2, 8, H] x, float[4] s) => (float[] y) { y = Resize (x, s) }",
        opset=10,
        path=f"{EVERY_AXIS} {EVERY_AXIS}",
        given={"s": [1, 1, 0.6, 1.7]},
        untrained=("s",),
        original="(float[N, 2, 8, H] x, float[4] s) => (float[] y) "
        "<float[4] t = {1, 1, 1, 1.7}, int64[4] i = {0, 2, 4, 5}> { h = Gather <axis = 2> (x, i) "
        'y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (h, , t) }',
        elsewhere=False,
    ),
    *(
        Case(
            f"(float[N, 2, H, W] x) => (float[] y) <float[4] s = {{1, 1, 2, 3}}> {{ y = {node} }}",
            opset=opset,
            path="MatMul MatMul" if "linear" in attributes else "Repeated",
            original="(float[N, 2, H, W] x) => (float[] y) <float[4] s = {1, 1, 2, 3}> "
            f'{{ y = Resize <coordinate_transformation_mode = "asymmetric", {attributes}> (x, , s) }}',
            elsewhere=False,
        )
        for node, opset, attributes in (
            ("Upsample <scales = [1.0, 1.0, 2.0, 3.0]> (x)", 7, 'mode = "nearest", nearest_mode = "floor"'),
            ('Upsample <mode = "linear"> (x, s)', 9, 'mode = "linear"'),
            ("Upsample (x, s)", 9, 'mode = "nearest", nearest_mode = "floor"'),
        )
    ),
]
