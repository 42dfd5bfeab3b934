"""The lowered graph computes what the gradient builder's graph computes: the oracle is the unlowered graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from dsd_ort.device.lower import BLOCKED, channel_block, lower
from dsd_ort.graph.differentiate import differentiate
from tests.session import opened

HEADER = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1, "com.microsoft.nchwc": 1]>'
BLOCKS = [1] if channel_block() == 1 else [1, channel_block()]
blocked_only = pytest.mark.skipif(channel_block() == 1, reason="MLAS has no blocked layout on this machine")
TOLERANCE = 1e-5  # of the norm: float32 sums in another order


def model_of(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(f"{HEADER}\n{text}"))


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = opened(model)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def operators(model: ir.Model) -> list[str]:
    return [f"{node.domain}:{node.op_type}".removeprefix(":").removeprefix("com.microsoft") for node in model.graph]


def assert_equal_after_lowering(
    text: str, feeds: dict[str, np.ndarray], block: int
) -> tuple[ir.Model, tuple[str, ...]]:
    expected = run(model_of(text), feeds)
    lowered = model_of(text)
    notes = lower(lowered, block=block)
    got = run(lowered, feeds)
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert np.linalg.norm(got[name] - value) <= TOLERANCE * np.linalg.norm(value), name
    return lowered, notes


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def dimensions(shape: tuple[int, ...]) -> str:
    return ", ".join(["N", *map(str, shape[1:])])


CONVOLUTIONS = {
    # name: shape of x, shape of w, attributes, is dX a convolution?
    "3x3": ((2, 16, 9, 7), (16, 16, 3, 3), "pads=[1,1,1,1]", True),
    "3x3-without-attributes": ((2, 32, 9, 7), (16, 32, 3, 3), "", True),
    "asymmetric": ((2, 32, 9, 7), (16, 32, 3, 2), "pads=[0,1,2,1]", True),
    "dilated": ((2, 16, 9, 11), (16, 16, 3, 3), "pads=[2,3,2,3], dilations=[2,3]", True),
    "5x5-odd-channels": ((2, 6, 9, 8), (5, 6, 5, 5), "pads=[2,2,2,2]", True),
    "1x1": ((2, 16, 4, 5), (8, 16, 1, 1), "", True),
    "grouped": ((2, 16, 6, 5), (24, 4, 3, 3), "group=4, pads=[1,1,1,1]", True),
    "depthwise": ((2, 16, 6, 5), (16, 1, 3, 3), "group=16, pads=[1,1,1,1]", True),
    "1-D": ((2, 4, 19), (6, 4, 5), "pads=[2,1]", True),
    "3-D": ((2, 4, 5, 6, 4), (6, 4, 3, 2, 3), "pads=[1,0,1,1,0,1]", True),
    "strided": ((2, 16, 9, 8), (16, 16, 3, 3), "strides=[2,2], pads=[1,1,1,1]", False),
    "padded-beyond-the-kernel": ((2, 3, 4, 4), (5, 3, 1, 1), "pads=[1,1,1,1]", False),
}


def convolution_texts(x: tuple[int, ...], w: tuple[int, ...], attributes: str) -> tuple[str, str]:
    """The convolution, and its ConvGrad, as graphs with a symbolic batch."""
    inside = f"<{attributes}>" if attributes else ""
    xs, ws, ys = (
        ", ".join(map(str, s)) for s in (("N", *x[1:]), w, ("N", w[0], *(f"S{i}" for i in range(len(x) - 2))))
    )
    forward = f"agraph (float[{xs}] x, float[{ws}] w) => (float[{ys}] y) {{ y = Conv{inside}(x, w) }}"
    backward = f"""agraph (float[{ys}] dy, float[{xs}] x, float[{ws}] w) => (float[{xs}] dx, float[{ws}] dw)
        {{ dx, dw = com.microsoft.ConvGrad{inside}(dy, x, w) }}"""
    return forward, backward


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("x", "w", "attributes", "applies"), CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_both_gradients_of_a_convolution_stay(
    x: tuple[int, ...], w: tuple[int, ...], attributes: str, applies: bool, block: int
) -> None:
    forward, backward = convolution_texts(x, w, attributes)
    feeds = {"x": normal(*x), "w": normal(*w)}
    feeds["dy"] = normal(*run(model_of(forward), feeds)["y"].shape)
    lowered, notes = assert_equal_after_lowering(backward, feeds, block)
    assert bool(notes) == applies
    assert any(name.endswith("Conv") for name in operators(lowered)) == applies


@pytest.mark.parametrize("x", [(2, 32, 9, 7), (3, 16, 19)])
def test_a_kernel_with_less_to_copy_is_exchanged_and_the_bias_apart(x: tuple[int, ...]) -> None:
    rank = len(x) - 2
    w = (8, x[1], *[3] * rank)
    forward, backward = convolution_texts(x, w, f"pads={[1] * 2 * rank}")
    backward = backward.replace(" dw)", " dw, float[8] db)").replace("dx, dw =", "dx, dw, db =")
    feeds = {"x": normal(*x), "w": normal(*w)}
    feeds["dy"] = normal(*run(model_of(forward), feeds)["y"].shape)
    lowered, _ = assert_equal_after_lowering(backward, feeds, BLOCKS[0])
    (left,) = (node for node in lowered.graph if node.op_type == "ConvGrad")
    assert [output.name != "" for output in left.outputs] == [False, True]
    assert left.inputs[0] is not None and left.inputs[0].name == "x"


DEPTHWISE = {
    # name: shape of x, kernel, attributes, what stays with ConvGrad
    "3x3": ((2, 16, 9, 7), (3, 3), "pads=[1,1,1,1]", ""),
    "7x7": ((1, 32, 9, 8), (7, 7), "pads=[3,3,3,3]", ""),
    "strided": ((3, 16, 9, 8), (3, 3), "strides=[2,2], pads=[1,1,1,1]", ""),
    "strided-along-one": ((2, 32, 10, 7), (5, 5), "strides=[2,1], pads=[2,2,2,2]", ""),
    "strided-by-3": ((2, 32, 11, 10), (4, 5), "strides=[3,3], pads=[1,2,0,2]", ""),
    "7x7-strided": ((2, 16, 14, 13), (7, 7), "strides=[2,2], pads=[3,3,3,3]", ""),
    "last-row-unread": ((2, 16, 10, 9), (3, 3), "strides=[2,3]", ""),
    "channels-of-no-whole-block": ((2, 12, 8, 7), (3, 3), "strides=[2,2], pads=[1,1,1,1]", ""),
    "more-than-a-block": ((2, 40, 6, 7), (3, 3), "pads=[1,1,1,1]", ""),
    "dilated": ((2, 16, 9, 11), (3, 3), "pads=[2,3,2,3], dilations=[2,3]", ""),
    "dilated-strided": ((2, 16, 12, 11), (3, 3), "strides=[2,2], dilations=[2,1]", "dx"),
    "narrower-than-its-stride": ((2, 16, 9, 8), (2, 1), "strides=[3,2]", "dx"),
    "padded-beyond-the-kernel": ((2, 16, 4, 4), (2, 2), "pads=[2,2,2,2]", "dx"),
    "three-channels-in-four": ((2, 18, 9, 7), (3, 3), "pads=[1,1,1,1]", "dw"),
}


@blocked_only
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(("x", "kernel", "attributes", "left"), DEPTHWISE.values(), ids=DEPTHWISE.keys())
def test_a_depthwise_convolution_and_its_gradients_stay(
    x: tuple[int, ...], kernel: tuple[int, int], attributes: str, left: str, batch: int, bias: bool
) -> None:
    channels = x[1]
    w = (channels, 1, *kernel)
    forward, backward = convolution_texts(x, w, f"group={channels}, {attributes}")
    feeds = {"x": normal(batch, *x[1:]), "w": normal(*w)}
    assert_equal_after_lowering(forward, feeds, channel_block())
    feeds["dy"] = normal(*run(model_of(forward), feeds)["y"].shape)
    for symbol, size in zip(("S0", "S1"), feeds["dy"].shape[2:], strict=True):
        backward = backward.replace(symbol, str(size))
    if bias:
        backward = backward.replace("] dw)", f"] dw, float[{channels}] db)").replace("dx, dw =", "dx, dw, db =")
    lowered, _ = assert_equal_after_lowering(backward, feeds, channel_block())
    kept = [o.name for node in lowered.graph if node.op_type == "ConvGrad" for o in node.outputs if o.name]
    assert kept == ([left, "db"] if left == "dw" and bias else [left] if left else [])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("x", "w", "attributes"), [c[:3] for c in CONVOLUTIONS.values()], ids=CONVOLUTIONS.keys())
def test_a_convolution_stays(x: tuple[int, ...], w: tuple[int, ...], attributes: str, batch: int, bias: bool) -> None:
    forward, _ = convolution_texts(x, w, attributes)
    feeds = {"x": normal(batch, *x[1:]), "w": normal(*w)}
    if bias:
        forward = forward.replace("] w)", f"] w, float[{w[0]}] b)").replace("(x, w) }", "(x, w, b) }")
        feeds["b"] = normal(w[0])
    assert_equal_after_lowering(forward, feeds, channel_block())


@blocked_only
def test_a_first_convolution_reads_its_input_unblocked() -> None:
    text = """agraph (float[N, 3, 11, 9] x, float[32, 3, 7, 7] w) => (float[N, 32, P, Q] y)
        { y = Conv<strides=[2, 2], pads=[3, 3, 3, 3]>(x, w) }"""
    lowered, notes = assert_equal_after_lowering(
        text, {"x": normal(2, 3, 11, 9), "w": normal(32, 3, 7, 7)}, channel_block()
    )
    assert notes == ("Conv → blocked Conv (1×)",)
    assert operators(lowered).count(f"{BLOCKED}:ReorderInput".removeprefix("com.microsoft")) == 1  # of the kernel


@blocked_only
def test_a_first_convolution_of_few_products_stays() -> None:
    text = """agraph (float[N, 3, 11, 9] x, float[32, 3, 3, 3] w) => (float[N, 32, 11, 9] y)
        { y = Conv<pads=[1, 1, 1, 1]>(x, w) }"""
    assert lower(model_of(text)) == ()


def test_the_gradient_of_few_maps_into_many_stays() -> None:
    text = """agraph (float[N, 12, 10, 10] dy, float[N, 6, 14, 14] x, float[12, 6, 5, 5] w)
        => (float[N, 6, 14, 14] dx, float[12, 6, 5, 5] dw) { dx, dw = com.microsoft.ConvGrad(dy, x, w) }"""
    assert lower(model_of(text)) == ()
    assert lower(model_of(text.replace("12", "11"))) != ()


@blocked_only
def test_kernel_and_data_are_laid_out_once_for_all_their_readers() -> None:
    text = """agraph (float[N, 16, 5, 5] x, float[16, 16, 3, 3] w, float[N, 16, 5, 5] dy)
        => (float[N, 16, 5, 5] y, float[N, 16, 5, 5] z, float[N, 16, 5, 5] dx)
        { y = Conv<pads=[1, 1, 1, 1]>(x, w)
          z = Conv<pads=[2, 2, 2, 2], dilations=[2, 2]>(x, w)
          dx, dw = com.microsoft.ConvGrad<pads=[1, 1, 1, 1]>(dy, x, w) }"""
    feeds = {"x": normal(2, 16, 5, 5), "w": normal(16, 16, 3, 3), "dy": normal(2, 16, 5, 5)}
    lowered, _ = assert_equal_after_lowering(text, feeds, channel_block())
    reorders = [name for name in operators(lowered) if name.endswith("ReorderInput")]
    assert len(reorders) == 2 + 1 + 1 + 1  # kernel in two steps, x, flipped kernel, dy


def test_the_gradient_of_relu_is_zero_where_its_output_is() -> None:
    text = """agraph (float[N] dy, float[N] y) => (float[N] dx) { dx = com.microsoft.ReluGrad(dy, y) }"""
    y = np.array([0, -0.0, 1e-30, 1, 3e38, np.inf, 0, 2], np.float32)
    dy = np.array([5, 5, -7, 2, 3, 4, -1e30, 1e-30], np.float32)
    lowered, notes = assert_equal_after_lowering(text, {"dy": dy, "y": y}, 1)
    assert operators(lowered) == ["HardSigmoid", "Mul"]
    assert notes == ("ReluGrad → HardSigmoid · Mul (1×)",)
    np.testing.assert_array_equal(run(lowered, {"dy": dy, "y": y})["dx"], np.where(y > 0, dy, 0))


def test_the_gradient_of_the_bias_stays_with_convgrad() -> None:
    text = """agraph (float[N, 4, 5, 5] dy, float[N, 3, 5, 5] x, float[4, 3, 3, 3] w)
        => (float[N, 3, 5, 5] dx, float[4, 3, 3, 3] dw, float[4] db)
        { dx, dw, db = com.microsoft.ConvGrad<pads=[1, 1, 1, 1]>(dy, x, w) }"""
    feeds = {"dy": normal(2, 4, 5, 5), "x": normal(2, 3, 5, 5), "w": normal(4, 3, 3, 3)}
    lowered, _ = assert_equal_after_lowering(text, feeds, 1)
    (node,) = [node for node in lowered.graph if node.op_type == "ConvGrad"]
    assert [output.name for output in node.outputs] == ["", "dw", "db"]


def test_convgrad_of_a_frozen_kernel_goes_away() -> None:
    text = """agraph (float[N, 4, 5, 5] dy, float[N, 3, 5, 5] x, float[4, 3, 3, 3] w) => (float[N, 3, 5, 5] dx)
        { dx, = com.microsoft.ConvGrad<pads=[1, 1, 1, 1]>(dy, x, w) }""".replace("dx, =", "dx =")
    feeds = {"dy": normal(2, 4, 5, 5), "x": normal(2, 3, 5, 5), "w": normal(4, 3, 3, 3)}
    lowered, _ = assert_equal_after_lowering(text, feeds, 1)
    assert "ConvGrad" not in " ".join(operators(lowered))


def test_a_kernel_of_unknown_shape_is_left_alone() -> None:
    text = """agraph (float[N, 16, 5, 5] x, float[M, 16, A, B] w) => (float[N, M, P, Q] y) { y = Conv(x, w) }"""
    model = model_of(text)
    assert lower(model) == ()
    assert operators(model) == ["Conv"]


def test_a_large_kernel_keeps_convgrad_without_blocks() -> None:
    text = """agraph (float[N, 512, 7, 7] dy, float[N, 512, 7, 7] x, float[512, 512, 3, 3] w)
        => (float[N, 512, 7, 7] dx, float[512, 512, 3, 3] dw)
        { dx, dw = com.microsoft.ConvGrad<pads=[1, 1, 1, 1]>(dy, x, w) }"""
    assert lower(model_of(text), block=1) == ()
    assert lower(model_of(text), block=16) != ()


def test_what_cuda_has_is_left_alone() -> None:
    text = """agraph (float[N, 4, 5, 5] dy, float[N, 3, 5, 5] x, float[4, 3, 3, 3] w) => (float[N, 3, 5, 5] dx)
        { r = com.microsoft.ReluGrad(dy, dy)
          dx = com.microsoft.ConvGrad<pads=[1, 1, 1, 1]>(r, x, w) }"""
    model = model_of(text)
    assert lower(model, "cuda") == ()
    assert operators(model) == [":ReluGrad", ":ConvGrad"]


def network() -> str:
    return """agraph (float[N, 3, 12, 12] x, float[N, 10, 6, 6] t, float[16, 3, 3, 3] w1, float[16] b1,
                   float[16, 16, 3, 3] w2, float[10, 16, 3, 3] w3) => (float loss)
        { c1 = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
          r1 = Relu(c1)
          c2 = Conv<pads=[1, 1, 1, 1]>(r1, w2)
          r2 = Relu(c2)
          y = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(r2, w3)
          e = Sub(y, t)
          s = Mul(e, t)
          loss = ReduceMean<keepdims=0>(s) }"""


@pytest.mark.parametrize("block", BLOCKS)
def test_a_differentiated_network_keeps_all_its_gradients(block: int) -> None:
    shapes = {"x": (2, 3, 12, 12), "t": (2, 10, 6, 6), "w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3)}
    feeds = {name: normal(*shape) for name, shape in {**shapes, "w3": (10, 16, 3, 3)}.items()}
    step = differentiate(model_of(network()), ["w1", "b1", "w2", "w3"]).model
    expected = run(step, feeds)
    assert len(lower(step, block=block)) >= 2
    assert lower(step, block=block) == ()
    got = run(step, feeds)
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert np.linalg.norm(got[name] - value) <= TOLERANCE * np.linalg.norm(value), name


def gradients(text: str, names: list[str], feeds: dict[str, np.ndarray], block: int) -> tuple[list[str], ir.Model]:
    """The notes of the lowered gradients of the output *loss*, which stay what they are."""
    step = differentiate(model_of(text), names).model
    expected = run(step, feeds)
    notes = lower(step, block=block)
    got = run(step, feeds)
    for name, value in expected.items():
        assert np.isfinite(value).all() and np.linalg.norm(got[name] - value) <= TOLERANCE * np.linalg.norm(value), name
    return [note.rpartition(" (")[0] for note in notes], step


BEHIND = {
    "a product": ("p = MatMul(y, w) loss = ReduceSum<keepdims=0>(p)", True),
    "a quotient by numbers": (
        "two = Constant<value_float=2.0>() p = Div(y, two) loss = ReduceSum<keepdims=0>(p)",
        True,
    ),
    "a root": ("p = Sqrt(y) loss = ReduceSum<keepdims=0>(p)", False),
    "a root of more than a number": (
        """s = Mul(y, y) one = Constant<value_float=1.0>() t = Add(s, one) q = Sqrt(t) p = Div(y, q)
           loss = ReduceSum<keepdims=0>(p)""",
        True,
    ),
    "a root of what may be nothing": ("s = Mul(y, y) p = Sqrt(s) loss = ReduceSum<keepdims=0>(p)", False),
    "a root and a slice": (
        """from = Constant<value_ints=[1]>() to = Constant<value_ints=[4]>()
           p = Sqrt(y) q = Slice(p, from, to) loss = ReduceSum<keepdims=0>(q)""",
        False,
    ),
}


@pytest.mark.parametrize(("rest", "quick"), BEHIND.values(), ids=BEHIND.keys())
@pytest.mark.parametrize("cut", ["Clip(x, low, high)", "Relu(x)"])
def test_what_is_cut_off_gets_no_gradient_even_from_a_pole(cut: str, rest: str, quick: bool) -> None:
    """The root's own gradient is infinite at zero; with it a product in the place of a choice would make NaN."""
    text = f"""agraph (float[4, 5] x, float[5, 3] w) => (float loss)
        {{ low = Constant<value_float=0.0>() high = Constant<value_float=6.0>()
           y = {cut} {rest} }}"""
    x = np.random.default_rng(0).uniform(-8, 8, (4, 5)).astype(np.float32)
    feeds = {"x": x, "w": normal(5, 3)} if "w)" in rest else {"x": x}
    text = text if "w)" in rest else text.replace(", float[5, 3] w", "")
    notes, _ = gradients(text, ["x"], feeds, 1)
    assert bool(notes) == quick


def test_the_gradient_of_clip_is_that_of_a_choice() -> None:
    text = """agraph (float[N, 5] x, float[5, 3] w) => (float loss)
        { low = Constant<value_float=-1.0>() high = Constant<value_float=1.0>()
          y = Clip(x, low, high) p = MatMul(y, w) loss = ReduceSum<keepdims=0>(p) }"""
    x = np.array([[-2, -1, 0, 1, 2], [np.inf, -np.inf, 0.5, -0.0, 1.5]], np.float32)
    notes, step = gradients(text, ["x"], {"x": x, "w": normal(5, 3)}, 1)
    assert notes == ["gradients chosen by Where → Cast · Mul"]
    assert "Where" not in operators(step)


@pytest.mark.parametrize("exponent", [0.25, 0.5, 0.75, 1.25, 1.5, 1.75, 2.5, -0.25, -0.5, -0.75, -1.5, -1.75, -3])
def test_a_power_by_quarters_is_made_of_roots(exponent: float) -> None:
    number = f"Constant<value_float={exponent:.2f}>()"
    text = f"agraph (float[N, 5] x) => (float[N, 5] y) {{ e = {number} y = Pow(x, e) }}"
    x = np.abs(normal(40, 5)) * np.float32(10) ** np.arange(-12, 28, dtype=np.float32)[:, None]
    model = model_of(text)
    notes = lower(model, block=1)
    assert ("Pow" not in operators(model)) == bool(notes) == (exponent % 1 != 0)
    with np.errstate(over="ignore"):
        truth = np.power(x.astype(np.float64), exponent).astype(np.float32)
    np.testing.assert_allclose(run(model, {"x": x})["y"], truth, rtol=4e-7, atol=1e-37)
    ends = np.array([[0, 1, np.nan, -1, 4]], np.float32)
    # ONNX Runtime's Sqrt begins with what the processor guesses: on an Intel one that of 1 is 1 less a last bit.
    np.testing.assert_allclose(run(model, {"x": ends})["y"], run(model_of(text), {"x": ends})["y"], rtol=4e-7)


@pytest.mark.parametrize("order", ["Mul(x, s)", "Mul(s, x)"])
def test_the_gradient_of_silu_is_one_node(order: str) -> None:
    text = f"""agraph (float[N, 5] x, float[5, 3] w) => (float loss)
        {{ s = Sigmoid(x) y = {order} p = MatMul(y, w) loss = ReduceSum<keepdims=0>(p) }}"""
    feeds = {"x": 30 * normal(7, 5), "w": normal(5, 3)}
    notes, step = gradients(text, ["x"], feeds, 1)
    assert notes == ["gradients of SiLU or of parts side by side → QuickGeluGrad or Concat"]
    assert operators(step).count("Sigmoid") == 1 and not any("SigmoidGrad" in name for name in operators(step))


def test_a_gate_by_something_else_is_not_silu() -> None:
    text = """agraph (float[N, 5] x, float[N, 5] z, float[5, 3] w) => (float loss)
        { s = Sigmoid(z) y = Mul(x, s) e = Add(y, z) p = MatMul(e, w) loss = ReduceSum<keepdims=0>(p) }"""
    notes, _ = gradients(text, ["x", "z"], {"x": normal(7, 5), "z": normal(7, 5) + 1, "w": normal(5, 3)}, 1)
    assert notes == []


def test_a_kernel_of_few_maps_gets_its_gradient_from_dy() -> None:
    text = """agraph (float[N, 6, 9, 7] dy, float[N, 24, 9, 7] x, float[6, 24, 3, 2] w)
        => (float[N, 24, 9, 7] dx, float[6, 24, 3, 2] dw)
        { dx, dw = com.microsoft.ConvGrad<pads=[0, 1, 2, 0]>(dy, x, w) }"""
    feeds = {"x": normal(2, 24, 9, 7), "w": normal(6, 24, 3, 2)}
    forward = convolution_texts((2, 24, 9, 7), (6, 24, 3, 2), "pads=[0, 1, 2, 0]")[0]
    feeds["dy"] = normal(*run(model_of(forward), feeds)["y"].shape)
    lowered, _ = assert_equal_after_lowering(text, feeds, 1)
    (node,) = [node for node in lowered.graph if node.op_type == "ConvGrad"]
    assert [value.name for value in node.inputs[:2]] == ["x", "dy"] and not node.outputs[0].name


def test_a_graph_of_an_older_opset_keeps_what_its_operators_cannot_say() -> None:
    """Exported training graphs come in the opset of their model; below 13 ReduceSum has its axes as an attribute."""
    text = """agraph (float[N, 16, 6, 5] dy, float[N, 16, 6, 5] x, float[16, 1, 3, 3] w)
        => (float[N, 16, 6, 5] dx, float[16, 1, 3, 3] dw, float[16] db)
        { dx, dw, db = com.microsoft.ConvGrad<group=16, pads=[1, 1, 1, 1]>(dy, x, w) }"""
    feeds = {"dy": normal(2, 16, 6, 5), "x": normal(2, 16, 6, 5), "w": normal(16, 1, 3, 3)}
    model = model_of(text)
    expected = run(model, feeds)
    model.opset_imports[""] = 12
    lower(model, block=channel_block())
    assert "ReduceSum" not in operators(model)
    for name, value in run(model, feeds).items():
        assert np.linalg.norm(value - expected[name]) <= TOLERANCE * np.linalg.norm(expected[name]), name


PICKED = {
    # indices, axis, do they make up the axis?
    "queries, keys, values": ([0, 1, 2], 0, True),
    "in another order, from behind": ([-1, 0, -2], 0, True),
    "the last axis": ([1, 0], 2, True),
    "one twice": ([0, 1, 1], 0, False),
    "one not at all": ([0, 2], 0, False),
    "as lists": ([[0], [1], [2]], 0, True),
}


@pytest.mark.parametrize(("indices", "axis", "whole"), PICKED.values(), ids=PICKED.keys())
def test_gradients_of_parts_that_were_picked_stand_side_by_side(indices: list[int], axis: int, whole: bool) -> None:
    names = [f"p{i}" for i in range(len(indices))]
    lines = []
    for name, index in zip(names, indices, strict=True):
        constant = f"value_ints={index}" if isinstance(index, list) else f"value_int={index}"
        lines.append(f"i{name} = Constant<{constant}>() {name} = Gather<axis={axis}>(x, i{name})")
        lines.append(f"q{name} = Mul({name}, {name})")
        lines.append(f"s{name} = ReduceSum<keepdims=0>(q{name})")
    text = f"""agraph (float[3, 4, 2] x) => (float loss)
        {{ {" ".join(lines)} loss = Sum({", ".join("s" + name for name in names)}) }}"""
    notes, step = gradients(text, ["x"], {"x": normal(3, 4, 2)}, 1)
    assert any("side by side" in note for note in notes) == whole
    assert any("GatherElementsGrad" in name for name in operators(step)) != whole
