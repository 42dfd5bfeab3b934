"""What has no right gradient is refused by name, before the native builder sees it: some would end the process."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from dsd_ort.errors import ModelError, UnsupportedError
from dsd_ort.graph.legalize import legalize
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
SUBGRAPH = "runs a subgraph, which ONNX Runtime cannot differentiate (it would end the process)"
QUANTIZED = "computes with quantised numbers, through which no gradient passes"
UNKNOWN = "has no gradient in ONNX Runtime, and dsd-ort has no rule for it"


def legal(body: str, trainable: list[str]) -> ir.Model:
    proto = model(f"({INPUTS}) => (float[] y) <{CONSTANTS}> {{ {body} }}")
    return legalize(ir.from_proto(proto), trainable, outputs=["y"]).model


@pytest.mark.parametrize(
    ("body", "what", "where"),
    [
        (IF, f"the operator If {SUBGRAPH}", "If 'choice'"),
        (LOOP, f"the operator Loop {SUBGRAPH}", "Loop 'loop'"),
        (SCAN, f"the operator Scan {SUBGRAPH}", "Scan 'scan'"),
        ('[e] y = Einsum <equation = "i,i->"> (w, w)', f"the operator Einsum {UNKNOWN}", "Einsum 'e'"),
        ("[f] y = com.microsoft.Foo (x, w)", f"the operator com.microsoft.Foo {UNKNOWN}", "Foo 'f'"),
        ("y = Det (w)", f"the operator Det {UNKNOWN}", "Det 'y'"),
        (
            "h = Mul (x, w) [q] q = QuantizeLinear (h, scale, zero) [d] d = DequantizeLinear (q, scale, zero) "
            "y = Mul (d, x)",
            f"no gradient reaches the parameter 'w': QuantizeLinear 'q' {QUANTIZED}",
            "QuantizeLinear 'q'",
        ),
        (
            "[d] d = DequantizeLinear (zero, w) y = Mul (d, x)",
            f"the operator DequantizeLinear {QUANTIZED}",
            "DequantizeLinear 'd'",
        ),
        (
            "[a] a = ArgMax (w) b = Cast <to = 1> (a) y = Add (x, b)",
            "no gradient reaches the parameter 'w': ArgMax 'a' has a derivative of zero, or none",
            "ArgMax 'a'",
        ),
        (
            "[r] r = Round (w) y = Add (x, r)",
            "no gradient reaches the parameter 'w': Round 'r' has a derivative of zero, or none",
            "Round 'r'",
        ),
        ("y = Relu (x)", "no gradient reaches the parameter 'w': no output depends on it", None),
        (
            "[p] y = Pow (x, w)",
            "the operator Pow has no gradient with respect to its input 1, which depends on a parameter",
            "Pow 'p', input 'w'",
        ),
        (
            "s = ReduceSum <keepdims = 0> (w) [p] y = Clip (x, s)",
            "the operator Clip has no gradient with respect to its input 1, which depends on a parameter",
            "Clip 'p', input 's'",
        ),
        (
            "[l] a, m, v = LayerNormalization (x, w, w) y = Mul (a, m)",
            "the operator LayerNormalization has a gradient for its first output only",
            "LayerNormalization 'l', output 'm'",
        ),
        (
            "h = Mul (x, w) [s] y, b = Split <axis = 1> (h, n)",
            "the operator Split cannot be rewritten for training, as its sizes are computed at run time",
            "Split 's'",
        ),
        (
            'h = Mul (x, w) i = Cast <to = 7> (x) [s] y = ScatterElements <reduction = "max"> (h, i, x)',
            "the operator ScatterElements with reduction = 'max' has no gradient here",
            "ScatterElements 's'",
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


def test_all_refused_nodes_are_named_at_once() -> None:
    with pytest.raises(UnsupportedError) as refused:
        legal("h = Mul (x, w) [a] i = Det (h) [b] y = Atan (i)", ["w"])
    assert refused.value.where == "Det 'a'; also Atan 'b'"


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
