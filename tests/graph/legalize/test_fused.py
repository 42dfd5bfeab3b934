"""ONNX Runtime's own operators: expanded they compute what its kernels compute, and have the right gradient.

ONNX's reference evaluator does not know them: outputs are compared with ONNX Runtime's, and gradients with differences
of what they were expanded to, in float64.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
import onnxruntime
import pytest

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize import Legalized, legalize
from dsd_ort.graph.legalize.table import FUSED
from dsd_ort.notes import Note
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.path import Path
from tests.graph.expression import expression
from tests.graph.gradient import Exact, disagreement, loss_weights, model, quiet, random_inputs, step
from tests.graph.legalize.cases.attention import ATTENTION
from tests.graph.legalize.cases.case import Case
from tests.graph.legalize.cases.fused import FUSED as FUSED_CASES

CASES = [*FUSED_CASES, *ATTENTION]
FORWARD, BACKWARD = 1e-6, 2e-6
OTHERWISE = ("local_window_size", "rotary_embedding_dim")
"""What newer builds than 1.19, which rules follow, compute otherwise, or not at all."""
AS_COMPUTED = [
    pytest.param(case, marks=[pytest.mark.training_build] * any(name in str(case) for name in OTHERWISE), id=str(case))
    for case in CASES
]
NATIVE = {"BiasGelu", "FastGelu", "Gelu", "QuickGelu"}
"""Not expanded: what they compute is tested in test_table.py."""


def trainable(inputs: dict[str, np.ndarray]) -> list[str]:
    return [name for name, value in inputs.items() if value.dtype == np.float32]


def legal(case: Case) -> Legalized:
    inputs = random_inputs(case.proto, case.given)
    return legalize(ir.from_proto(case.proto), trainable(inputs), outputs=["y"])


@pytest.mark.parametrize("case", [c for c in CASES if c.expected or c.path], ids=str)
def test_fused_operators_become_what_they_were_made_from(case: Case) -> None:
    model = legal(case).model
    (y,) = model.graph.outputs
    if case.expected:
        assert expression(y) == case.expected
    if case.path:
        weights = [value for value in model.graph.inputs if value.dtype == ir.DataType.FLOAT]
        path = [node.op_type.partition("_")[0] for node in Path(model.graph, weights, [y]).nodes()]
        assert path == case.path.split()


@pytest.mark.parametrize("case", AS_COMPUTED)
def test_outputs_are_those_of_onnx_runtime_and_gradients_those_of_finite_differences(case: Case) -> None:
    proto = case.proto
    inputs = random_inputs(proto, case.given)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), quiet(), providers=["CPUExecutionProvider"])
    y = session.run(["y"], inputs)[0]
    weights = loss_weights({"y": y})
    legalized = legal(case).model
    expanded = ir.to_proto(legalized)

    done = step(legalized, trainable(inputs), inputs, weights)

    assert done.outputs["y"].shape == y.shape
    assert np.abs(done.outputs["y"] - y).max() <= FORWARD * np.abs(y).max()
    if case.original is None and NATIVE & {node.op_type for node in expanded.graph.node}:
        return
    exact = Exact(model(case.original, case.opset) if case.original else expanded)
    assert max(disagreement(exact, inputs, weights, done.gradients).values()) <= BACKWARD


def test_every_fused_operator_has_a_case() -> None:
    tried = {key(node) for case in CASES for node in ir.from_proto(case.proto).graph}
    # These are tried in test_quantization.py; ONNX's GridSample has cases, and ExpandDims crashes ONNX Runtime.
    elsewhere = {f"{domain}DequantizeLinear" for domain in ("", "com.microsoft.")}
    assert set(FUSED) - tried == {*elsewhere, "com.microsoft.GridSample", "com.microsoft.ExpandDims"}


def test_expand_dims_is_unsqueeze() -> None:
    text = "(float[N, 3] x) => (float[] y) <int32 a = {-1}> { h = com.microsoft.ExpandDims (x, a) y = Relu (h) }"
    (y,) = legal(Case(text)).model.graph.outputs
    assert expression(y) == "Relu(Unsqueeze(x, [-1]))"


def test_shapes_behind_a_fused_operator_are_known_to_the_next() -> None:
    body = "h = com.microsoft.FusedMatMul <transA = 1> (x, w) y = com.microsoft.FusedMatMul <transA = 1> (h, v)"
    case = Case(f"(float[4, 3] x, float[4, 5] w, float[3, 2] v) => (float[] y) {{ {body} }}")
    (y,) = legal(case).model.graph.outputs
    inner = "MatMul(Transpose(x, perm=[1 0]), w)"
    assert expression(y) == f"MatMul(Transpose({inner}, perm=[1 0]), v)"


def test_notes_name_the_fused_nodes() -> None:
    case = Case("(float[N, 4] x, float[4, 5] w) => (float[] y) { [a] y = com.microsoft.FusedGemm (x, w) }")
    assert legal(case).notes == (Note(kind="rewrite", node="FusedGemm 'a'", words="Gemm and activation"),)


WHOLE = "float[2, 3, 8] x, float[8, 24] w, float[24] b"
QUERY = "float[2, 3, 8] x, float[2, 3, 8] k, float[2, 3, 8] v"


@pytest.mark.parametrize(
    ("inputs", "body", "what"),
    [
        (WHOLE, "y = com.microsoft.Attention <num_heads = 2> (x, w)", "Attention without a bias ends"),
        (WHOLE, "y = com.microsoft.Attention <num_heads = 2, do_rotary = 1> (x, w, b)", "Attention with rotary"),
        (
            f"{WHOLE}, int32[2, 1, 3, 3] m",
            "y = com.microsoft.Attention <num_heads = 2> (x, w, b, m)",
            "Attention with a mask of rank 4 does not run on the CPU",
        ),
        (
            f"{WHOLE}, float[1, 2, 3, 3] r",
            "y = com.microsoft.Attention <num_heads = 2> (x, w, b, , , r)",
            "Attention with an attention bias for other than the whole batch is computed wrongly",
        ),
        ("float[2, 3, 2, 3, 4] x", "y = com.microsoft.MultiHeadAttention <num_heads = 2> (x)", "with packed keys"),
        (
            f"{QUERY}, float[2, 2, 5, 4] a, float[2, 2, 5, 4] c, int32[2] l, int32 n",
            "y = com.microsoft.GroupQueryAttention <num_heads = 2, kv_num_heads = 2> (x, k, v, a, c, l, n)",
            "GroupQueryAttention with keys and values of earlier positions cannot be trained",
        ),
        (
            "float[2, 3, 8] x, float[2, 3, 8] u, float[8] s, float[8] b",
            "y = com.microsoft.SkipSimplifiedLayerNormalization (x, u, s, b)",
            "SkipSimplifiedLayerNormalization with a bias is computed wrongly",
        ),
        (
            "float[4, 3] x, float[4] w",
            "y = com.microsoft.FusedMatMul <transA = 1> (x, w)",
            "FusedMatMul of a vector with trans is computed wrongly",
        ),
        (
            "float[4, 3] x, float[3, 2] w",
            'y = com.microsoft.FusedGemm <activation = "ScaledTanh"> (x, w)',
            "FusedGemm with the activation ScaledTanh has no rule",
        ),
        ("float[1, 2, 4, 4] x, float[2, 2, 3, 3] w", "y = com.microsoft.nchwc.Conv (x, w)", "in the order of one kind"),
        (
            "float[3, 4] x, uint8[2, 1, 16] q, float[2] s",
            "y = com.microsoft.MatMulNBits <K = 4, N = 2, bits = 4, block_size = 32> (x, q, s)",
            "MatMulNBits computes with quantised numbers",
        ),
        ("uint8[3, 4] q, float s, uint8 z", "y = com.microsoft.QLinearSigmoid (q, s, z, s, z)", "QLinearSigmoid comp"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_reason(inputs: str, body: str, what: str) -> None:
    body = body.replace("com.microsoft.nchwc.Conv", "com.microsoft.Conv")
    proto = Case(f"({inputs}) => (float[] y) {{ [here] {body} }}").proto
    if "nchwc" in what or "order of one kind" in what:
        proto.graph.node[0].domain = "com.microsoft.nchwc"
        proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft.nchwc", 1))
    with pytest.raises(UnsupportedError, match=what) as refused:
        legalize(ir.from_proto(proto), ["x"], outputs=["y"])
    assert "'here'" in str(refused.value.where)
    assert refused.value.fix
