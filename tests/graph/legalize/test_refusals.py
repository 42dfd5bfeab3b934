"""What has no right gradient is refused by name, before the native builder sees it: some would end the process."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from dsd_ort.errors import ModelError, UnsupportedError
from dsd_ort.graph.legalize import legalize
from dsd_ort.recipe import BuilderName
from tests.graph.expression import expression
from tests.graph.gradient import model

INPUTS = "float[N, 3] x, float[3] w, float z, int64[2] n, int64 k, bool c"
CONSTANTS = "float scale = {0.1}, uint8 zero = {0}"
# The trained w is read inside the branch only.
IF = (
    "[choice] y = If (c) <then_branch = a () => (float[N, 3] p) { p = Relu (x) }, "
    "else_branch = b () => (float[N, 3] q) { q = Mul (x, w) }>"
)
LOOP = (
    "[loop] l = Loop (k, c, w) <body = a (int64 i, bool d, float[3] s) => (bool e, float[3] t) "
    "{ e = Identity (d) t = Mul (s, s) }> y = Mul (l, x)"
)
SCAN = (
    "[scan] l, y = Scan <num_scan_inputs = 1, body = a (float[3] s, float[3] t) => (float[3] u, float[3] o) "
    "{ u = Add (s, t) o = Identity (u) }> (w, x)"
)
CONDITION = "runs a subgraph by a condition that is only known with the data, which ONNX Runtime's builder cannot pass"
CONDITION_OF_LOOP = "goes on as long as a condition holds that is only known with the data"
SUBGRAPH = "runs a subgraph, which ONNX Runtime's builder cannot differentiate (it would end the process)"
UNKNOWN = "has no gradient in ONNX Runtime, and dsd-ort has no rule for it"


def legal(body: str, trainable: list[str], builder: BuilderName = "own") -> ir.Model:
    proto = model(f"({INPUTS}) => (float[] y) <{CONSTANTS}> {{ {body} }}")
    return legalize(ir.from_proto(proto), trainable, outputs=["y"], builder=builder).model


@pytest.mark.parametrize(
    ("body", "what", "where"),
    [
        (
            LOOP,
            "the operator Loop goes on as long as a condition holds that is only known with the data",
            "Loop 'loop'",
        ),
        ("[f] y = com.microsoft.Foo (x, w)", f"the operator com.microsoft.Foo {UNKNOWN}", "Foo 'f'"),
        (
            "[s] s = SequenceConstruct (w, w) y = SequenceAt (s, k)",
            "the operator SequenceAt cannot be rewritten for training, as its positions are computed at run time",
            "SequenceAt 'y'; also SequenceConstruct 's'",
        ),
        (
            "m = MatMul (w, w) [d] y = Det (m)",
            "the operator Det reads axis -1 of 'm', which has 0",
            "Det 'd'",
        ),
        (
            "m = Unsqueeze (w, n) [d] y = Det (m)",
            "the operator Det cannot be rewritten for training, as the rank of 'm' is unknown",
            "Det 'd'",
        ),
        (
            "h = Mul (x, w) [q] q = QuantizeLinear (h, scale, zero) t = Identity (q) "
            "d = DequantizeLinear (t, scale, zero) y = Mul (d, x)",
            "the operator QuantizeLinear ends in quantised numbers, through which no gradient passes",
            "QuantizeLinear 'q'",
        ),
        (
            "[d] d = DequantizeLinear (zero, w) y = Mul (d, x)",
            "the weight 'zero' exists in quantised form only",
            "DequantizeLinear 'd'",
        ),
        (
            "[a] a = ArgMax (w) b = Cast <to = 1> (a) y = Add (x, b)",
            "no gradient reaches the parameter 'w': ArgMax 'a' yields positions, which have no derivative",
            "ArgMax 'a'",
        ),
        (
            "[r] r = Round (w) y = Add (x, r)",
            "no gradient reaches the parameter 'w': Round 'r' has a derivative of zero, or none",
            "Round 'r'",
        ),
        ("y = Relu (x)", "no gradient reaches the parameter 'w': no output depends on it", None),
        (
            "h = Mul (x, w) [r] y = ReduceL1 <noop_with_empty_axes = 1> (h)",
            "the operator ReduceL1 over no axis is not the same in ONNX and in ONNX Runtime",
            "ReduceL1 'r'",
        ),
        (
            "h = Mul (x, w) a = NonZero (c) b = Squeeze (a) [r] y = ReduceSum <noop_with_empty_axes = 1> (h, b)",
            "the operator ReduceSum reduces over axes whose number is known at run time only",
            "ReduceSum 'r'",
        ),
        (
            "[m] y = Mod (x, w)",
            "the operator Mod of floating-point numbers with fmod = 0 is not in ONNX Runtime",
            "Mod 'm'",
        ),
        (
            "h = Mul (x, w) [f] y = DFT <inverse = 1, onesided = 1> (h)",
            "the operator DFT with inverse and onesided is not in ONNX Runtime",
            "DFT 'f'",
        ),
        (
            "[l] a, m, y = LayerNormalization (x, w)",
            "no gradient reaches the parameter 'w': no output depends on it",
            None,
        ),
        (
            "[u] u = Unsqueeze (w, n) [r] y = LRN <size = 3> (u)",
            "the operator LRN cannot be rewritten for training, as the rank of 'u' is unknown",
            "LRN 'r'",
        ),
        (
            "h = Mul (x, w) t = Transpose <perm = [1, 0]> (h) [r] y = LRN <size = 3> (t)",
            "the operator LRN cannot be rewritten for training, as the length of 't' along axis 1 is not fixed",
            "LRN 'r'",
        ),
    ],
)
def test_refused_nodes_are_named_with_the_reason(body: str, what: str, where: str | None) -> None:
    with pytest.raises(UnsupportedError) as refused:
        legal(body, ["w"])
    assert (refused.value.what, refused.value.where) == (what, where)
    assert refused.value.fix


@pytest.mark.parametrize(
    ("body", "what", "where"),
    [
        (IF, f"the operator If {CONDITION}", "If 'choice'"),
        (SCAN, f"the operator Scan {SUBGRAPH}", "Scan 'scan'"),
        (
            "h = Mul (x, w) [s] y = Slice (h, n, n, n, n)",
            "the operator Slice cannot be rewritten for training, as its axes are computed at run time",
            "Slice 's'",
        ),
    ],
)
def test_what_only_our_own_builder_passes_is_refused_for_the_other(body: str, what: str, where: str) -> None:
    legal(body, ["w"])
    with pytest.raises(UnsupportedError) as refused:
        legal(body, ["w"], builder="ort")
    assert (refused.value.what, refused.value.where) == (what, where)
    assert refused.value.fix


def test_all_refused_nodes_are_named_at_once() -> None:
    with pytest.raises(UnsupportedError) as refused:
        legal("h = Mul (x, w) [a] i = com.microsoft.Foo (h) [b] y = com.microsoft.Bar (i)", ["w"])
    assert refused.value.where == "Foo 'a'; also Bar 'b'"


def test_who_stands_in_the_way_is_told_to_name_a_value_in_front_of_it() -> None:
    with pytest.raises(UnsupportedError) as refused:
        legal("[a] a = ArgMax (w) b = Cast <to = 1> (a) y = Add (x, b)", ["w"])
    assert refused.value.fix == "name a value in front of ArgMax with --output, as w, or freeze it: freeze = ['w']"


def test_nodes_off_the_gradient_path_are_left_alone() -> None:
    untouched = IF.replace("y =", "h =").replace("w)", "z)")
    graph = legal(
        f"{untouched} d = Det (h) g = Mul (d, w) a = ArgMax (g) b = Cast <to = 1> (a) y = Add (g, b)", ["w"]
    ).graph
    assert [node.op_type for node in graph] == ["If", "Det", "Mul", "ArgMax", "Cast", "Add"]


def test_a_value_that_only_decides_shapes_needs_no_gradient() -> None:
    graph = legal(
        "h = Mul (x, w) s = Shape (h) d = Size (h) e = Cast <to = 1> (d) f = Expand (w, s) y = Mul (f, e)", ["w"]
    )
    assert expression(graph.graph.outputs[0]) == "Mul(Expand(w, Shape(Mul(x, w))), Cast(Size(Mul(x, w)), to=1))"


def test_an_output_that_the_model_does_not_have_is_refused_with_the_nearest() -> None:
    proto = model("(float[N, 3] x) => (float[N, 3] logits) { logits = Relu (x) }")
    with pytest.raises(ModelError, match="the model has no output 'logit'") as refused:
        legalize(ir.from_proto(proto), ["x"], outputs=["logit"])
    assert refused.value.fix == "did you mean 'logits'?"
