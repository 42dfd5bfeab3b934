"""Rules inside of branches and steps; Loops that become Scans; sequences that become their tensors; what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.differentiate.table import RULES as GRADIENTS
from dsd_ort.graph.legalize import Legalized, legalize
from dsd_ort.rewrite.autograd import DOMAIN
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.parts import all_values
from dsd_ort.rewrite.path import Path
from tests.graph.gradient import Exact, disagreement, loss_weights, model, random_inputs, step
from tests.graph.legalize.cases import CASES, Case
from tests.graph.wrapped import at_a_step, in_branches
from tests.session import opened

TOLERANCE = 2e-6


def branches(then: str, other: str) -> str:
    return f"""(float[N, 4] x, float[4] w, bool c) => (float[] y) {{
        y = If (c) < then_branch = yes () => (float[N, 4] p) {{ {then} }},
                     else_branch = no () => (float[N, 4] q) {{ {other} }} >
    }}"""


def scan(body: str, flags: str = "") -> str:
    return f"""(float[T, 4] x, float[4] w, float[4] s) => (float[] y) {{
        f, y = Scan <num_scan_inputs = 1{flags}, body = step (float[4] a, float[4] t) => (float[4] b, float[4] z) {{
            {body}
        }}> (s, x)
    }}"""


def loop(
    body: str, steps: str = "k", going_on: str = "t", carried: str = "float[4] a", result: str = "float[4] b"
) -> str:
    return f"""(float[T, 4] x, float[4] w, float[4] s, int64 r, bool flag) => (float[] y)
        <int64 k = {{3}}, bool t = {{1}}, int64 none = {{0}}> {{
        h = Mul (s, w) n = Shape <end = 1> (x) m = Squeeze (n)
        [l] y = Loop ({steps}, {going_on}, h) <body = step (int64 i, bool c, {carried}) => (bool d, {result}) {{
            {body} }}>
    }}"""


ON = "d = Identity (c)"
GRAPHS = {
    "branches": branches("a = Mul (x, w) p = Softsign (a)", "q = Selu (x)"),
    "nested branches": branches(
        "a = Mul (x, w) p = Softsign (a)",
        """d = Abs (w) q = If (c) <
            then_branch = t () => (float[N, 4] r) { r = Mish (x) },
            else_branch = e () => (float[N, 4] u) { v = HardSwish (x) u = Mul (v, d) }
        >""",
    ),
    "steps": scan("u = Softsign (t) v = Mul (a, w) b = Add (u, v) z = Softplus (b)"),
    "steps from the last on": scan(
        "u = Softsign (t) v = Mul (a, w) b = Add (u, v) z = Elu (b)", ", scan_input_directions = [1]"
    ),
    "a loop of three steps": loop(f"{ON} u = Mul (a, w) b = Softsign (u)"),
    "a loop as long as a sequence": loop(
        f"{ON} g = Gather (x, i) u = Mul (a, w) v = Add (u, g) b = Softsign (v)", steps="m"
    ),
    "a loop without a condition": loop("d = Constant <value = bool {1}> () u = Mul (a, w) b = Sin (u)", going_on=""),
    "a loop in a loop": loop(
        f"""{ON} b = Loop (k, t, a) <body = inner (int64 j, bool e, float[4] l) => (bool f, float[4] o) {{
            f = Identity (e) u = Mul (l, w) h = Add (i, j) g = Cast <to = 1> (h) v = Add (u, g) o = Softsign (v)
        }}>"""
    ),
    "a loop that stacks up": loop(f"{ON} b = Mul (a, w) z = Softsign (b)", result="float[4] b, float[4] z").replace(
        "[l] y =", "[l] f, y ="
    ),
}


def legal(text: str, trained: list[str], **options: object) -> Legalized:
    return legalize(ir.from_proto(model(text)), trained, outputs=["y"], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("c", [True, False])
@pytest.mark.parametrize("name", GRAPHS)
def test_rules_reach_bodies_and_gradients_are_those_of_the_original(name: str, c: bool) -> None:
    proto = model(GRAPHS[name])
    inputs = random_inputs(proto, {"c": c} if "bool c)" in GRAPHS[name] else None)
    exact = Exact(proto)
    outputs = {"y": exact(inputs)["y"]}
    trained = [key for key in "xws" if key in inputs and (key != "x" or "branch" in name or "long" in name)]
    made = legal(GRAPHS[name], trained).model
    path = Path(made.graph, [value for value in made.graph.inputs if value.name in trained], made.graph.outputs)
    assert {key(node) for node in path.nodes_within() if node.domain != DOMAIN} <= set(GRADIENTS)
    weights = loss_weights(outputs)
    done = step(made, trained, inputs, weights)
    np.testing.assert_allclose(done.outputs["y"], outputs["y"], rtol=1e-5, atol=1e-6)
    assert max(disagreement(exact, inputs, weights, done.gradients).values()) <= TOLERANCE


def test_notes_name_the_nodes_inside() -> None:
    found = legal(GRAPHS["a loop in a loop"], ["w", "s"]).notes
    assert [(note.node, note.words.partition(" ")[0]) for note in found] == [
        ("Loop 'l'", "Scan"),
        ("Loop 'b'", "Scan"),
        ("Softsign 'o'", "x"),
    ]


REFUSED = [
    (loop("d = Not (c) b = Mul (a, w)"), "goes on as long as a condition holds that is only known with the data"),
    (
        loop(f"{ON} b = Mul (a, w)", going_on="flag"),
        "goes on as long as a condition holds that is only known with the data",
    ),
    (loop(f"{ON} b = Mul (a, w)", steps="r"), "takes as many steps as the data say"),
    (loop(f"{ON} b = Mul (a, w)", steps=""), "has no step, or no end"),
    (loop(f"{ON} b = Mul (a, w)", steps="none"), "has no step, or no end"),
    (
        loop(f"{ON} b = Concat <axis = 0> (a, w)", carried="float[A] a", result="float[B] b"),
        "carries 'h', whose shape changes from [4] to [8]",
    ),
    (
        loop(f"{ON} v = SequenceAt (a, i) o = Mul (v, w) b = SequenceInsert (a, o)", carried="seq(float[4]) a")
        .replace("=> (bool d, float[4] b)", "=> (bool d, seq(float[4]) b)")
        .replace("[l] y = Loop (k, t, h)", "q = SequenceConstruct (h) [l] z = Loop (k, t, q)")
        .replace("}>\n", "}> y = SequenceAt (z, k)\n"),
        "carries what is no tensor",
    ),
]


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_a_loop_that_is_no_scan_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        legal(text, ["w"])
    assert (caught.value.what, caught.value.where.partition(";")[0]) == (f"the operator Loop {why}", "Loop 'l'")
    assert len([cause for cause in caught.value.causes if cause.where == "Loop 'l'"]) == 1
    assert "tracing" in caught.value.fix


def test_a_loop_off_the_gradient_path_is_left_alone() -> None:
    text = loop(f"{ON} b = Sin (a)").replace("h = Mul (s, w)", "h = Sin (s)").replace("[l] y =", "[l] z =")
    text = text.replace("}>\n", "}> y = Mul (z, w)\n")
    assert [node.op_type for node in legal(text, ["w"]).model.graph if node.op_type in ("Loop", "Scan")] == ["Loop"]


@pytest.mark.parametrize("name", ["branches", "steps", "a loop of three steps"])
def test_for_the_builder_of_onnx_runtime_bodies_are_refused_before_it_sees_them(name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"the operator (If|Scan|Loop) (runs|repeats) a subgraph") as caught:
        legal(GRAPHS[name], ["w"], builder="ort")
    assert "builder" in caught.value.fix or "Loop" in caught.value.what


@pytest.mark.parametrize(
    ("nodes", "what"),
    [
        (
            "q = SequenceConstruct (h, x) y = SequenceAt (q, r)",
            "cannot be rewritten for training, as its positions are",
        ),
        ("q = SplitToSequence (h) y = SequenceAt (q, k)", "as the length of 'h' along axis 0 is not fixed"),
        ("e = SequenceInsert (v, h) y = SequenceAt (e, k)", "reads a sequence whose length is known at run time only"),
    ],
)
def test_a_sequence_of_which_too_little_is_known_is_refused_by_name(nodes: str, what: str) -> None:
    text = "(float[N, 4] x, float[4] w, int64 r, seq(float[N, 4]) v) => (float[] y) <int64 k = {0}> {"
    with pytest.raises(UnsupportedError) as caught:
        legal(f"{text} h = Mul (x, w) {nodes} }}", ["w"])
    assert what in caught.value.what


NORM = """(float[N, 3, 5] x, float[3] s, float[3] b, float[3] m, float[3] v, bool c) => (float[N, 3, 5] y) {
    y = If (c) <
        then_branch = yes () => (float[N, 3, 5] p) { p = BatchNormalization <momentum = 0.8> (x, s, b, m, v) },
        else_branch = no () => (float[N, 3, 5] q) { q = Sin (x) }
    >
}"""


@pytest.mark.parametrize("c", [True, False])
def test_running_statistics_follow_in_the_branch_that_is_taken(c: bool) -> None:
    inputs = random_inputs(model(NORM), {"c": c, "v": [0.5, 2, 1]})
    made = legal(NORM, ["s", "b"])
    done = step(made.model, ["s", "b"], inputs, loss_weights({"y": inputs["x"]}))
    after = {name: done.outputs[made.statistics[name]] for name in "mv"}
    x = inputs["x"].astype(np.float64).transpose(1, 0, 2).reshape(3, -1)
    followed = {"m": x.mean(axis=1), "v": x.var(axis=1, ddof=1)}
    for name in "mv":
        expected = 0.8 * inputs[name] + 0.2 * followed[name] if c else inputs[name]
        np.testing.assert_allclose(after[name], expected, rtol=2e-6)
    assert done.gradients["s"].any() == c


def test_batch_norm_at_each_step_of_a_scan_has_no_statistics_of_a_batch() -> None:
    text = """(float[T, N, 3] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[T, N, 3] y) {
        [scan] y = Scan <num_scan_inputs = 1, body = step (float[N, 3] t) => (float[N, 3] z) {
            z = BatchNormalization (t, s, b, m, v)
        }> (x)
    }"""
    with pytest.raises(UnsupportedError, match="Scan has a batch norm inside, whose running statistics") as caught:
        legal(text, ["s", "b"])
    assert caught.value.where == "Scan 'scan'" and 'batch_norm = "frozen"' in caught.value.fix
    inputs = random_inputs(model(text), {"v": [0.5, 2, 1]})
    exact = Exact(model(text))
    weights = loss_weights(exact(inputs))
    done = step(legal(text, ["s", "b"], batch_norm="frozen").model, ["s", "b"], inputs, weights)
    assert max(disagreement(exact, inputs, weights, done.gradients).values()) <= TOLERANCE


def test_dropout_in_a_branch_drops_in_training() -> None:
    text = branches("a = Mul (x, w) p = Dropout (a)", "q = Mul (x, w)")
    (note,) = legal(text, ["w"]).notes
    assert (note.node, note.words) == ("Dropout 'p'", "Active in training, with the file's ratio")


# ONNX infers that it is as long as x and z, and ONNX Runtime lays it over what is.
LATE = Case(
    "(float[ONE, K] x, float[ONE, K] z, float[N, K] u) => (float[] y) "
    '{ y = Einsum <equation = "ij,ij,ij->ij"> (x, z, u) }'
)
SAMPLE = [*[case for case in CASES if case.opset == 18][::9], LATE]


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_an_operator_in_a_branch_or_at_a_step_has_the_gradient_that_it_has_outside(case: Case) -> None:
    inputs = random_inputs(case.proto, case.given)
    trained = [name for name, value in inputs.items() if value.dtype == np.float32 and name not in case.untrained]

    def legalized(proto: onnx.ModelProto) -> ir.Model:
        return legalize(ir.from_proto(proto), trained, outputs=["y"], batch_norm="frozen").model

    plain = legalized(case.proto)
    session = opened(plain)
    (y,) = session.run(["y"], {value.name: inputs[value.name] for value in session.get_inputs()})
    weights = loss_weights({"y": y})
    expected = step(plain, trained, inputs, weights).gradients
    wrapped = [(in_branches(case.proto), True), (in_branches(case.proto), False)]
    if all(value.shape is not None for value in all_values(plain.graph)):  # without a rank, nothing is stacked up
        wrapped.append((at_a_step(case.proto, trained), True))
    for proto, branch in wrapped:
        found = step(legalized(proto), trained, inputs | {"branch": np.array(branch)}, weights).gradients
        for name, gradient in found.items():
            right = expected[name] if branch else -expected[name]
            np.testing.assert_allclose(gradient, right, rtol=0, atol=1e-6 * np.linalg.norm(right))


def test_what_has_no_rank_cannot_be_kept_at_each_step() -> None:
    """ONNX Runtime stacks up nothing of which the graph does not say how many axes it has."""
    body = "k = Expand (t, r) u = Mul (k, k) v = ReduceSum <keepdims = 0> (u) b = Mul (a, v) z = Mul (a, w)"
    text = scan(body).replace("float[4] s)", "float[4] s, int64[K] r)")
    with pytest.raises(UnsupportedError, match="the operator Scan has no gradient, as the rank of 'v' at a step"):
        step(legal(text, ["x", "w"]).model, ["x", "w"], {}, {"y": np.ones((3, 4), np.float32)})
