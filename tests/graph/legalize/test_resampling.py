"""Resize in all its modes: the legalized model computes what ONNX Runtime computes from the original, to a few
roundings.  That the result is linear in the image, and its gradient right, is tested by the cases.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize import legalize
from tests.graph.gradient import model
from tests.graph.legalize.test_table import run

TRANSFORMATIONS = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
MODES = (
    *(f'mode = "nearest", nearest_mode = "{m}"' for m in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")),
    *(f'mode = "linear", antialias = {a}' for a in (0, 1)),
    *(f'mode = "cubic", antialias = {a}, exclude_outside = {e}, cubic_coeff_a = -0.6' for a in (0, 1) for e in (0, 1)),
)
LARGER = ("float[4] s = {1, 1, 2, 3}", ", s")
SMALLER = ("float[4] s = {1, 1, 0.6, 0.3}", ", s")
MIXED = ("float[4] s = {1, 1, 0.6, 1.7}", ", s")
WHOLE = ("int64[4] s = {2, 3, 10, 12}", ", , s")
SIZES = ("int64[4] s = {2, 3, 7, 9}", ", , s")
PIXEL = ("int64[4] s = {2, 3, 1, 1}", ", , s")
ROI = "float[8] r = {0, 0, 0.1, -0.2, 1, 1, 1.3, 0.6}"


def assert_same(attributes: str, constants: str, inputs: str, opset: int = 19, operator: str = "Resize") -> None:
    for size in ("5, 4", "H, W"):
        proto = model(
            f"(float[N, 3, {size}] x) => (float[] y) <{constants}> {{ y = {operator} <{attributes}> (x{inputs}) }}",
            opset,
        )
        x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
        legal = legalize(ir.from_proto(proto), ["x"], outputs=["y"]).model
        before, after = run(proto, {"x": x}), run(ir.to_proto(legal), {"x": x})
        np.testing.assert_allclose(after, before, rtol=0, atol=3e-6 * np.abs(before).max())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_every_mode_is_onnx_runtimes(transformation: str, mode: str) -> None:
    attributes = f'{mode}, coordinate_transformation_mode = "{transformation}"'
    for constants, inputs in (LARGER, SMALLER, MIXED, SIZES, WHOLE, PIXEL):
        assert_same(attributes, constants, f", {inputs}")


@pytest.mark.parametrize("mode", ['mode = "nearest"', 'mode = "linear"', 'mode = "cubic"'])
def test_what_is_outside_of_a_crop_is_onnx_runtimes(mode: str) -> None:
    attributes = f'{mode}, coordinate_transformation_mode = "tf_crop_and_resize", extrapolation_value = 1.5'
    for constants, inputs in (LARGER, MIXED, SIZES):
        assert_same(attributes, f"{ROI}, {constants}", f", r{inputs}")


@pytest.mark.parametrize("mode", ['mode = "nearest"', 'mode = "linear"'])
def test_resize_before_opset_11_is_onnx_runtimes(mode: str) -> None:
    for constants, _ in (LARGER, SMALLER, MIXED):
        assert_same(mode, constants, ", s", opset=10)
    assert_same(mode, LARGER[0], ", s", opset=9, operator="Upsample")
    assert_same(f"{mode}, scales = [1.0, 1.0, 1.7, 2.0]", "int64 unused = {0}", "", opset=7, operator="Upsample")


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ("axes = [-1]", "has negative axes, which ONNX Runtime 1.19 does not resize"),
        (
            'axes = [2, 3], keep_aspect_ratio_policy = "not_larger", '
            'coordinate_transformation_mode = "tf_crop_and_resize"',
            "with tf_crop_and_resize and keep_aspect_ratio_policy = 'not_larger' cannot be rewritten for training",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(attributes: str, what: str) -> None:
    constants = "float[4] r = {0, 0, 0.5, 0.5}, int64[2] s = {7, 9}"
    proto = model(
        f"(float[N, 3, 5, 4] x) => (float[] y) <{constants}> {{ [resize] y = Resize <{attributes}> (x, r, , s) }}"
    )
    with pytest.raises(UnsupportedError) as refused:
        legalize(ir.from_proto(proto), ["x"], outputs=["y"])
    assert (refused.value.what, refused.value.where) == (f"the operator Resize {what}", "Resize 'resize'")


@pytest.mark.parametrize(
    ("inputs", "body", "what"),
    [
        (
            "float[N, 3, 5, 4] x, float[N, 2, 2, 2] w",
            'GridSample <mode = "nearest"> (x, w)',
            "GridSample with mode = 'nearest' has a derivative of zero with respect to its grid, "
            "which depends on a parameter",
        ),
        (
            "float[N, 3, 5, 4] x, float[T, 5] w",
            "MaxRoiPool <pooled_shape = [1, 1]> (x, w)",
            "MaxRoiPool has a derivative of zero with respect to its regions, which depend on a parameter",
        ),
    ],
)
def test_points_that_only_choose_pixels_are_refused_as_parameters(inputs: str, body: str, what: str) -> None:
    proto = model(f"({inputs}) => (float[] y) {{ y = {body} }}")
    with pytest.raises(UnsupportedError) as refused:
        legalize(ir.from_proto(proto), ["x", "w"], outputs=["y"])
    assert refused.value.what == f"the operator {what}"


def test_a_cubic_resize_along_a_very_long_axis_is_refused() -> None:
    proto = model(
        "(float[N, 1, 2, 1025] x) => (float[] y) <float[1] s = {2}> "
        '{ y = Resize <axes = [3], mode = "cubic"> (x, , s) }'
    )
    with pytest.raises(UnsupportedError, match="along an axis longer than 1024"):
        legalize(ir.from_proto(proto), ["x"], outputs=["y"])
