"""check of networks that read sequences: its reference has all of a recurrent layer, and made-up lengths fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dsd_ort.fields import Field
from dsd_ort.graph import signature
from dsd_ort.graph.autograd.ctc import ctc
from dsd_ort.proof import Report, operators
from dsd_ort.proof.reference import InNumPy, InRuntime
from dsd_ort.recipe import Recipe
from dsd_ort.rewrite import autograd
from dsd_ort.rewrite.flow import cut_to
from graphs import NETWORKS
from tests.graph.gradient import model, random_inputs
from tests.graph.legalize.cases import recurrent
from tests.graph.legalize.cases.case import Case
from tests.proof.test_check import check, verdicts, write

SMALL: dict[str, dict[str, int]] = {
    "neuraltalk": {"vocabulary": 12, "features": 6, "width": 8},
    "deepspeech": {"classes": 7, "bands": 6, "context": 1, "width": 8},
    "deepspeech2": {"classes": 7, "bands": 26, "maps": 2, "width": 8, "depth": 2},
}


def checked(path: Path, loss: dict[str, Any], **options: Any) -> Report:
    phase = {"kind": "dense", "learning_rate": 1e-3, "steps": 1}
    options = {"seconds": 300.0, **options}  # on a busy machine, too
    return check(path, recipe=Recipe.from_dict({"loss": loss, "phase": [phase]}), **options)


@pytest.mark.parametrize(
    ("network", "loss", "modes"),
    [
        ("neuraltalk", {"name": "cross-entropy", "class_axis": -1}, 1),
        ("neuraltalk", {"name": "mse"}, 1),
        ("deepspeech", {"name": "ctc", "lengths": "lengths"}, 1),
        ("deepspeech2", {"name": "ctc", "output": "logits", "lengths": "frames"}, 2),
    ],
)
def test_networks_of_sequences_are_proven(tmp_path: Path, network: str, loss: dict[str, Any], modes: int) -> None:
    proto = ir.to_proto(NETWORKS[network](**SMALL[network]))
    onnx.save(proto, tmp_path / "m.onnx")
    report = checked(tmp_path / "m.onnx", loss)
    assert report.ok, report
    assert all("not trained: one number" in note for note in report.notes)
    trained = {t.name for t in proto.graph.initializer if not t.name.endswith(("running_mean", "running_var"))}
    for mode in ("inference", "training")[:modes]:
        assert verdicts(report, mode) == dict.fromkeys(trained, "right")
    assert {row.reference for row in report.rows} == {"float64, ONNX reference"}
    assert max(row.error for row in report.rows) < 1e-4


@pytest.mark.parametrize("case", [c for c in recurrent.CASES if c.runs], ids=str)
def test_the_reference_computes_all_that_recurrent_layers_have(case: Case) -> None:
    """Activations, clip, lengths, coupled gates: a loss that leaves one of them out may be close, and no reference."""
    proto = case.proto
    proto.graph.node.append(onnx.helper.make_node("ReduceSumSquare", ["y"], ["L"], keepdims=0))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("L", onnx.TensorProto.FLOAT, []))
    inputs = random_inputs(case.proto, case.given)
    expected = InRuntime(proto, "L", double=False, threads=1)(inputs)
    assert InNumPy(proto, "L")(inputs) == pytest.approx(expected, rel=1e-6)


def test_the_reference_gathers_from_more_than_64_elements() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 100))
    indices = np.array([[[99, -1], [0, 70]]])
    proto = model(
        "(double[A, B, C] x, int64[D, E, F] i) => (double[D, E, F] y) { y = GatherElements <axis = 2> (x, i) }"
    )
    (y,) = ReferenceEvaluator(proto, new_ops=[*operators.ALWAYS]).run(None, {"x": x, "i": indices})
    np.testing.assert_array_equal(y, [[[x[0, 0, 99], x[0, 0, 99]], [x[0, 1, 0], x[0, 1, 70]]]])


def ctc_model() -> ir.Model:
    operator = ctc()
    text = f"""(float[T, N, 3] x, int64[N, U] y, int64[N] n, float s) => (float[T, N, 3] z, float[N] loss) {{
        z = Mul (x, s) loss, d = dsd_ort.{operator.name} (z, y, n) }}"""
    found = ir.from_proto(model(text))
    autograd.add(found, {operator.name: operator})
    autograd.inline(found)
    return found


def test_of_a_graph_only_what_some_outputs_need_is_left() -> None:
    assert [node.op_type for node in cut_to(ctc_model(), ["z"]).graph] == ["Mul"]
    whole, cut = ctc_model().graph, cut_to(ctc_model(), ["loss"])
    assert [value.name for value in cut.graph.outputs] == ["loss"]
    assert "Scan" in {node.op_type for node in cut.graph}
    assert "OneHot" in {node.op_type for node in whole} - {node.op_type for node in cut.graph}, "of the gradient only"
    onnx.checker.check_model(ir.to_proto(cut))


LENGTHS = """
(float[T, N, 2] x, int64[N] n, int32[N] half, int64[N] word, int64[N] other, int32 offset) => (float[] y, float[] z)
<float[1, 1, 2] W = {1, 1}, float[1, 1, 1] R = {1}, int32 one = {1}, int64 two = {2},
 float[5, 2] table = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}> {
    m = Cast <to = 6> (n) a, b = RNN <hidden_size = 1> (x, W, R, , m)
    h = Add (half, one) k = Add (h, offset) d, e = RNN <hidden_size = 1> (x, W, R, , k)
    y = Add (a, d) f = Gather (table, word) g = Add (other, two) s = Cast <to = 1> (g) z = Mul (f, s)
}
"""


def test_lengths_are_what_recurrent_layers_and_ctc_take_for_them() -> None:
    assert signature.lengths(ir.from_proto(model(LENGTHS)).graph) == {"n", "half"}
    assert signature.lengths(ctc_model().graph) == {"n"}


@pytest.mark.parametrize(
    ("shape", "sizes", "longest"),
    [
        (("N", "T", 26), (64, 24, 26), 24),
        (("T", "N", 26), (24, 64, 26), 24),
        (("N", 3, "H", "W"), (64, 3, 30, 20), 20),
        (("N", 50, 26), (64, 50, 26), 50),
        (("N", "T"), (64, 1), 1),
        ((1, "T"), (1, 9), 9),
        ((7,), (7,), 1),
    ],
)
def test_made_up_lengths_are_all_or_most_of_a_sequence(
    shape: tuple[int | str, ...], sizes: tuple[int, ...], longest: int
) -> None:
    count = sizes[1] if shape[0] == "T" else sizes[0]
    axis = shape[1] if shape[0] == "T" else shape[0]
    fields = [Field("n", "int32", (axis,)), Field("x", "float32", shape), Field("scale", "float32", ("K",))]
    shapes = {"n": (count,), "x": sizes, "scale": (3,)}
    n = signature.values(fields, shapes, {}, {"n"})["n"]
    assert (n.dtype, n.shape, n[0]) == (np.int32, (count,), longest)
    assert n.max() == longest and n.min() >= 3 / 4 * longest
    assert len(np.unique(n)) == min(count, longest // 4 + 1)
    assert (signature.values(fields, shapes, {}, {"n"}, cautious=True)["n"] == longest).all()
    assert signature.values(fields, shapes, {"n": 2}, {"n"})["n"].max() < 2, "what looks up a table is an index"


def test_a_network_may_have_fewer_frames_than_it_is_given(tmp_path: Path) -> None:
    """And then the recipe's lengths are an input that only the loss reads: those of the scores."""
    text = """(float[N, T, 4] x, int64[N] n) => (float[N, U, 3] y) {
        a = Transpose <perm = [0, 2, 1]> (x) b = Conv <strides = [2]> (a, w) y = Transpose <perm = [0, 2, 1]> (b) }"""
    path = write(tmp_path / "m.onnx", text, {"w": (3, 4, 2)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsd_ort.proof.made_up._within", lambda inputs, *_: inputs)
        assert not checked(path, {"name": "ctc", "lengths": "n"}).ok
    report = checked(path, {"name": "ctc", "lengths": "n"})
    assert report.ok, report
    assert verdicts(report) == {"w": "right"}
