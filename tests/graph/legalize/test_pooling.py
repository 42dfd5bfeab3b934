"""Pools that ONNX Runtime computes from memory that is not theirs, or otherwise than ONNX says, are refused by name."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize import legalize
from tests.graph.expression import operator_of
from tests.graph.gradient import model

NOT_ALL = "which not every release of ONNX Runtime can run"
NOTHING = f"has no window along axis {{}} of 'x', or one that covers nothing of it, {NOT_ALL}"
MAYBE = f"may have a window that begins behind 'x' along axis 3, {NOT_ALL}"
DILATED = "with auto_pad and dilations is not the same in ONNX and in ONNX Runtime"


def legal(size: str, node: str, opset: int = 18) -> list[str]:
    """The operators that *node*, of an image or sequence x of this *size*, becomes."""
    proto = model(f"(float[N, 2, {size}] x) => (float[] y) {{ y = {node} (x) }}", opset)
    return [operator_of(n) for n in legalize(ir.from_proto(proto), ["x"], outputs=["y"]).model.graph]


@pytest.mark.parametrize("op", ["AveragePool", "LpPool", "MaxPool"])
@pytest.mark.parametrize(
    ("size", "attributes", "why"),
    [
        ("6, 5", "ceil_mode = 1, kernel_shape = [3, 2], pads = [1, 1, 1, 1], strides = [2, 2]", NOTHING.format(3)),
        ("6, 5", "ceil_mode = 1, kernel_shape = [1, 1], strides = [2, 1]", NOTHING.format(2)),
        ("2, 5", "kernel_shape = [3, 2], strides = [2, 2]", NOTHING.format(2)),
        ("H, W", "ceil_mode = 1, kernel_shape = [3, 2], pads = [1, 1, 1, 1], strides = [2, 2]", MAYBE),
    ],
)
def test_windows_that_cover_nothing_are_refused(op: str, size: str, attributes: str, why: str) -> None:
    with pytest.raises(UnsupportedError) as refused:
        legal(size, f"{op} <{attributes}>")
    assert refused.value.what == f"the operator {op} {why}"
    assert refused.value.where == f"{op} 'y'"
    assert refused.value.fix


@pytest.mark.parametrize(("op", "opset"), [("AveragePool", 19), ("LpPool", 18), ("MaxPool", 13)])
def test_same_with_dilations_is_refused(op: str, opset: int) -> None:
    with pytest.raises(UnsupportedError) as refused:
        legal("6, 5", f'{op} <auto_pad = "SAME_UPPER", dilations = [2, 1], kernel_shape = [3, 2]>', opset)
    assert refused.value.what == f"the operator {op} {DILATED}"


def test_what_releases_divide_by_is_refused_with_dilations() -> None:
    attributes = "ceil_mode = 1, count_include_pad = 1, kernel_shape = [3, 2], strides = [2, 2]"
    with pytest.raises(UnsupportedError, match="is not the same in all releases") as refused:
        legal("6, 5", f"AveragePool <dilations = [1, 2], {attributes}>", 19)
    assert refused.value.fix == "export the model with ceil_mode = 0"


def test_a_dilated_window_that_reaches_over_a_short_image_is_refused() -> None:
    with pytest.raises(UnsupportedError) as refused:
        legal("1", "MaxPool <dilations = [2], kernel_shape = [2], pads = [1, 1]>")
    assert refused.value.what == f"the operator MaxPool {NOTHING.format(2)}"


def test_average_pools_of_opset_19_are_refused_off_the_path_too() -> None:
    text = (
        "(float[N, 2, 5] x, float[3] w) => (float[] y) "
        "{ p = AveragePool <ceil_mode = 1, kernel_shape = [1], strides = [3]> (x) y = Mul (p, w) }"
    )
    with pytest.raises(UnsupportedError, match="has no window along axis 2"):
        legalize(ir.from_proto(model(text, 19)), ["w"], outputs=["y"])


def test_ceil_mode_that_can_give_no_such_window_is_not_refused() -> None:
    assert "MaxPool" in legal(
        "H, W", "MaxPool <ceil_mode = 1, kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>"
    )


def test_the_windows_of_a_fixed_size_are_constants() -> None:
    """SAME windows smaller than their stride begin inside: as pads of a pool negative, which newer runtimes refuse."""
    same = 'LpPool <auto_pad = "SAME_UPPER", kernel_shape = [1, 2], p = 1, strides = [3, 3]>'
    assert legal("6, 5", same) == ["Abs", "Constant", "MatMul", "Constant", "MatMul"]
