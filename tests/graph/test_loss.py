"""Losses and their gradients against float64 twins, and the twins against PyTorch's numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dsd_ort import runtime
from dsd_ort.errors import RecipeError
from dsd_ort.fields import Field
from dsd_ort.graph.differentiate import differentiate
from dsd_ort.graph.logits import Logits
from dsd_ort.graph.loss import Attached, attach, notes, output_of
from dsd_ort.recipe import Loss
from tests.graph.autograd.test_ctc import sum_over_paths
from tests.session import opened

SHAPES = [(6, 5), (4, 5, 3), (3, 5, 2, 3)]
WEIGHTS = [0.5, 2.0, 1.25, 0.25, 1.0]


def parse(body: str, opset: int = 17) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {body}'))


def network(shape: tuple[int, ...], tail: str = "Identity (scores)", opset: int = 17, kind: str = "float") -> ir.Model:
    """A graph x → scores → out of one *shape* with a symbolic batch."""
    dims = ", ".join(["batch", *map(str, shape[1:])])
    return parse(f"({kind}[{dims}] x) => ({kind}[{dims}] out) {{ scores = Identity (x) out = {tail} }}", opset)


def loss_and_gradient(
    model: ir.Model, attached: Attached, x: np.ndarray, **labels: np.ndarray
) -> tuple[float, np.ndarray]:
    """By ONNX Runtime."""
    onnx.checker.check_model(ir.to_proto(model))
    step = differentiate(model, ["x"], loss=attached.loss)
    session = opened(step.model)
    loss, gradient = session.run([attached.loss, step.gradients["x"]], {"x": x, **labels})
    assert loss.shape == () and loss.dtype == np.float32
    return float(loss), gradient


def cross_entropy(x: np.ndarray, y: np.ndarray, loss: Loss) -> float:
    """One label at a time, in float64; PyTorch's way of combining the options."""
    classes = x.shape[1]
    rows = np.moveaxis(x.astype(np.float64), 1, -1).reshape(-1, classes)
    weights = loss.class_weights or [1.0] * classes
    nll = smooth = total = 0.0
    for row, label in zip(rows, y.reshape(-1), strict=True):
        if label != loss.ignore_index:
            log_p = row - row.max() - np.log(np.exp(row - row.max()).sum())
            nll -= weights[label] * log_p[label]
            smooth -= float(np.dot(weights, log_p))
            total += weights[label]
    return ((1 - loss.label_smoothing) * nll + loss.label_smoothing / classes * smooth) / total


def huber(x: np.ndarray, t: np.ndarray, loss: Loss) -> float:
    d = np.abs(x - t)
    return float(np.mean(np.where(d <= loss.delta, d**2 / 2, loss.delta * (d - loss.delta / 2))))


TWINS: dict[str, Callable[[np.ndarray, np.ndarray, Loss], float]] = {
    "cross-entropy": cross_entropy,
    "bce-with-logits": lambda x, t, _: float(np.mean(np.logaddexp(0, x) - x * t)),
    "mse": lambda x, t, _: float(np.mean((x - t) ** 2)),
    "l1": lambda x, t, _: float(np.mean(np.abs(x - t))),
    "huber": huber,
}


def differences(twin: Callable[[np.ndarray], float], x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """Central finite differences in float64."""
    x = x.astype(np.float64)
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        gradient[i] = (twin(up) - twin(down)) / (2 * h)
    return gradient


def assert_right(model: ir.Model, loss: Loss, x: np.ndarray, label: np.ndarray) -> None:
    """Value and gradient to 1e-6 of their size."""
    value, gradient = loss_and_gradient(model, attach(model, [loss]), x, label=label)

    def twin(scores: np.ndarray) -> float:
        return TWINS[loss.name](scores, label, loss)

    assert value == pytest.approx(twin(x.astype(np.float64)), rel=1e-6)
    wanted = differences(twin, x)
    assert np.linalg.norm(gradient - wanted) <= 1e-6 * np.linalg.norm(wanted)


# torch.nn.functional (2.13, float64) on these scores: (label_smoothing, weighted, ignore_index) → cross-entropy
SCORES = np.array([[0.5, -1.0, 2.0], [1.5, 0.0, -0.5], [-2.0, 1.0, 0.25], [0.0, 0.0, 3.0]])
LABELS = np.array([2, 0, 1, 0])
TARGETS = np.array([[1.0, 0.0, 0.25]] * 4)
PYTORCH = {
    (0.0, False, None): 1.015679038,
    (0.0, False, 1): 1.214196655,
    (0.0, True, None): 0.668830784,
    (0.0, True, 1): 0.889901536,
    (0.1, False, None): 1.088595705,
    (0.1, False, 1): 1.269752211,
    (0.1, True, None): 0.807223671,
    (0.1, True, 1): 1.129203417,
}


def test_twins_say_what_pytorch_says() -> None:
    for (smoothing, weighted, ignore), wanted in PYTORCH.items():
        loss = Loss(
            label_smoothing=smoothing, class_weights=[0.5, 2.0, 1.25] if weighted else None, ignore_index=ignore
        )
        assert cross_entropy(SCORES, LABELS, loss) == pytest.approx(wanted, abs=1e-9)
    values = {"bce-with-logits": 0.983034580, "mse": 1.973958333, "l1": 1.020833333, "huber": 0.669270833}
    for name, wanted in values.items():
        assert TWINS[name](SCORES, TARGETS, Loss()) == pytest.approx(wanted, abs=1e-9)
    assert huber(SCORES, TARGETS, Loss(delta=0.7)) == pytest.approx(0.534166667, abs=1e-9)


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_is_right_with_every_combination_of_options(shape: tuple[int, ...], opset: int) -> None:
    rng = np.random.default_rng(opset)
    for weights, ignore, smoothing in itertools.product((None, WEIGHTS), (None, -100, 2), (0.0, 0.1)):
        x = (3 * rng.standard_normal(shape)).astype(np.float32)
        y = rng.integers(0, 5, (shape[0], *shape[2:]))
        y.flat[0], y.flat[1] = 4, 2 if ignore is None else ignore
        loss = Loss(class_weights=weights, ignore_index=ignore, label_smoothing=smoothing)
        assert_right(network(shape, opset=opset), loss, x, y)


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("shape", [(6,), (3, 5), (2, 3, 2, 2)])
@pytest.mark.parametrize("name", ["bce-with-logits", "mse", "l1", "huber"])
def test_losses_on_values_are_right(name: str, shape: tuple[int, ...], opset: int) -> None:
    rng = np.random.default_rng(opset)
    x = (3 * rng.standard_normal(shape)).astype(np.float32)
    t = rng.uniform(0, 1, shape).astype(np.float32)
    x.flat[0], t.flat[1] = t.flat[0], x.flat[1] + 0.2  # zero difference, and one inside of delta
    loss = Loss(name=name, delta=0.7 if name == "huber" else 1.0)
    assert_right(network(shape, opset=opset), loss, x, t)


def test_bce_has_the_right_slope_at_zero_and_stays_finite_far_out() -> None:
    x = np.array([0.0, 0.0, 200.0, -200.0, 90.0, -90.0], np.float32)
    t = np.array([0.0, 1.0, 1.0, 0.0, 0.0, 1.0], np.float32)
    model = network((6,))
    value, gradient = loss_and_gradient(model, attach(model, [Loss(name="bce-with-logits")]), x, label=t)
    assert value == pytest.approx((2 * np.log(2) + 180) / 6, rel=1e-6)
    np.testing.assert_allclose(gradient * 6, [0.5, -0.5, 0, 0, 1, -1], atol=1e-6)


@pytest.mark.parametrize("label", [-1, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_batch_without_a_label_that_counts_has_loss_and_gradient_zero(smoothing: float, label: int) -> None:
    model = network((3, 5, 2))
    loss = Loss(ignore_index=-1, label_smoothing=smoothing, class_weights=[1.0, 1.0, 0.0, 1.0, 1.0])
    x = np.random.default_rng(0).standard_normal((3, 5, 2)).astype(np.float32)
    value, gradient = loss_and_gradient(model, attach(model, [loss]), x, label=np.full((3, 2), label))
    assert value == 0 and not gradient.any()


def test_plain_cross_entropy_is_the_one_fused_node() -> None:
    model = network((2, 5))
    before = model.graph.num_nodes()
    attached = attach(model, [Loss(ignore_index=-1)])
    (node,) = list(model.graph)[before:]
    assert node.op_type == "SoftmaxCrossEntropyLoss" and len(node.outputs) == 2 and all(v.name for v in node.outputs)
    assert node.outputs[0].name == attached.loss == "loss"
    assert attached.labels == [Field("label", "int64", ("batch",), label=True, classes=5, ignore_index=-1)]


def test_weighted_losses_add_up_and_share_one_label() -> None:
    model = parse("(float[n, 3] x) => (float[n, 3] a, float[m, 3] b) { a = Identity (x) b = Neg (x) }")
    losses = [Loss(output="a", weight=0.75), Loss(output="b", weight=0.25), Loss(output="a", name="mse", label="t")]
    attached = attach(model, losses)
    assert [(f.name, f.dtype, f.shape) for f in attached.labels] == [
        ("label", "int64", ("n",)),
        ("t", "float32", ("n", 3)),
    ]
    x, y, t = SCORES.astype(np.float32), LABELS, TARGETS.astype(np.float32)

    def twin(x: np.ndarray) -> float:
        return 0.75 * cross_entropy(x, y, Loss()) + 0.25 * cross_entropy(-x, y, Loss()) + float(np.mean((x - t) ** 2))

    value, gradient = loss_and_gradient(model, attached, x, label=y, t=t)
    assert value == pytest.approx(twin(SCORES), rel=1e-6)
    np.testing.assert_allclose(gradient, differences(twin, x), atol=1e-6)


def test_other_floats_are_cast() -> None:
    model = network((2, 5), kind="double")
    x, y = np.random.default_rng(0).standard_normal((2, 5)), np.array([1, 4])
    value, gradient = loss_and_gradient(model, attach(model, [Loss()]), x, label=y)
    assert value == pytest.approx(cross_entropy(x, y, Loss()), rel=1e-6)
    assert gradient.dtype == np.float64 and gradient.any()


def test_names_that_the_model_has_are_left_alone() -> None:
    model = parse("(float[n, 3] x) => (float[n, 3] out) { loss = Neg (x) loss_1 = Neg (loss) out = Identity (loss_1) }")
    attached = attach(model, [Loss()])
    assert attached.loss == "loss_2" == model.graph.outputs[-1].name
    value, _ = loss_and_gradient(model, attached, SCORES.astype(np.float32), label=LABELS)
    assert value == pytest.approx(PYTORCH[0.0, False, None], rel=1e-6)


@pytest.mark.parametrize("tail", ["Softmax (scores)", "LogSoftmax (scores)"])
def test_cross_entropy_reads_what_is_in_front_of_softmax(tail: str) -> None:
    assert_right(network((4, 3), tail), Loss(), SCORES.astype(np.float32), LABELS)


def test_bce_reads_what_is_in_front_of_sigmoid_but_mse_the_output() -> None:
    x, t = SCORES.astype(np.float32), TARGETS.astype(np.float32)
    assert_right(network((4, 3), "Sigmoid (scores)"), Loss(name="bce-with-logits"), x, t)
    model = network((4, 3), "Sigmoid (scores)")
    value, gradient = loss_and_gradient(model, attach(model, [Loss(name="mse")]), x, label=t)

    def twin(x: np.ndarray) -> float:
        return float(np.mean((1 / (1 + np.exp(-x)) - t) ** 2))

    assert value == pytest.approx(twin(SCORES), rel=1e-6)
    np.testing.assert_allclose(gradient, differences(twin, x), atol=1e-7)


def test_given_logits_decide_where_to_attach_and_which_outputs_there_are() -> None:
    model = parse("(float[n, 3] x) => (float[n, 3] out, float[n, 3] statistic) { out = Neg (x) statistic = Exp (x) }")
    attached = attach(model, [Loss()], {"out": Logits("x", "softmax", 1, 2)})
    session = runtime.session(ir.to_proto(model))
    (value,) = session.run([attached.loss], {"x": SCORES.astype(np.float32), "label": LABELS})
    assert value == pytest.approx(PYTORCH[0.0, False, None], rel=1e-6)


LOGITS = "(float[{shape}] x{inputs}) => (float[{shape}] out{outputs}) {{ out = Identity (x) {nodes} }}"


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"ignore_index": 4, "class_weights": WEIGHTS}])
@pytest.mark.parametrize(("class_axis", "shape"), [(-1, (3, 4, 5)), (2, (3, 4, 5)), (2, (3, 4, 5, 2)), (1, (3, 5, 4))])
def test_the_classes_may_be_on_any_axis(class_axis: int, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    """As with the classes moved to axis 1."""
    x = np.random.default_rng(8).standard_normal(shape).astype(np.float32)
    first = np.ascontiguousarray(np.moveaxis(x, class_axis, 1))
    label = np.random.default_rng(9).integers(0, 5, (3, *first.shape[2:]))
    loss = Loss(class_axis=class_axis, **options)
    model = network(shape)
    attached = attach(model, [loss])
    assert attached.labels[0].shape == ("batch", *label.shape[1:])
    value, gradient = loss_and_gradient(model, attached, x, label=label)
    assert value == pytest.approx(cross_entropy(first, label, loss), rel=1e-6)
    assert_right(network(first.shape), Loss(**options), first, label)
    wanted = loss_and_gradient(other := network(first.shape), attach(other, [Loss(**options)]), first, label=label)[1]
    np.testing.assert_allclose(np.moveaxis(gradient, class_axis, 1), wanted, atol=1e-7)


def test_a_softmax_over_the_classes_is_peeled_and_one_over_others_is_not() -> None:
    x = np.random.default_rng(8).standard_normal((3, 4, 5)).astype(np.float32)
    label = np.random.default_rng(9).integers(0, 5, (3, 4))
    for tail, peeled in (
        ("Softmax (scores)", True),
        ("LogSoftmax <axis = 2> (scores)", True),
        ("Softmax <axis = 1> (scores)", False),
    ):
        model = network((3, 4, 5), tail)
        value, _ = loss_and_gradient(model, attach(model, [Loss(class_axis=-1)]), x, label=label)
        read = x if peeled else np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        assert value == pytest.approx(cross_entropy(np.moveaxis(read, 2, 1), label, Loss()), rel=1e-5)


CTC_LABELS = np.array([[1, 2, -1], [2, 2, 1]])
FRAMES = np.array([4, 5])


def ctc_twin(x: np.ndarray, frames: np.ndarray) -> float:
    """The mean over the two examples of -log p / length, x f64[T, N, C]."""
    losses = [
        sum_over_paths(x[:, i], [int(c) for c in row if c >= 0], int(frames[i]), 0) / np.count_nonzero(row >= 0)
        for i, row in enumerate(CTC_LABELS)
    ]
    return float(np.mean(losses))


@pytest.mark.parametrize("order", ["ntc", "tnc", "nct"])
@pytest.mark.parametrize("lengths", ["an input", "an output", "an input that the model reads", "none"])
def test_ctc_reads_scores_in_any_order_and_lengths_wherever_they_are(order: str, lengths: str) -> None:
    sizes = {"n": "N", "t": "5", "c": "3"}
    text = {
        "an input": {"inputs": ", int32[N] frames", "outputs": "", "nodes": ""},
        "an output": {
            "inputs": ", int64[N] half",
            "outputs": ", int64[N] frames",
            "nodes": "one = Constant <value_int = 1> () frames = Sub (half, one)",
        },
        "an input that the model reads": {
            "inputs": ", int64[N] frames",
            "outputs": ", float[N] other",
            "nodes": "other = Cast <to = 1> (frames)",
        },
        "none": {"inputs": "", "outputs": "", "nodes": ""},
    }[lengths]
    model = parse(LOGITS.format(shape=", ".join(sizes[axis] for axis in order), **text))
    frames = FRAMES if lengths != "none" else np.array([5, 5])
    loss = Loss(
        name="ctc",
        output="out",
        time_axis=order.index("t"),
        class_axis=order.index("c"),
        lengths=None if lengths == "none" else "frames",
    )
    x = np.random.default_rng(7).standard_normal((5, 2, 3))
    axes = ["tnc".index(axis) for axis in order]
    feeds = {"an output": {"half": frames + 1}, "an input": {"frames": frames.astype(np.int32)}, "none": {}}
    attached = attach(model, [loss])
    assert attached.labels == [
        Field("label", "int64", ("N", None), label=True, classes=3, ignore_index=-1, blank=0),
    ]
    own = feeds.get(lengths, {"frames": frames})
    fed = np.ascontiguousarray(x.transpose(axes)).astype(np.float32)
    value, gradient = loss_and_gradient(model, attached, fed, label=CTC_LABELS, **own)
    assert value == pytest.approx(ctc_twin(x, frames), rel=1e-6)
    wanted = differences(lambda scores: ctc_twin(scores, frames), x)
    np.testing.assert_allclose(gradient, wanted.transpose(axes), atol=1e-6)


def test_ctc_reads_the_logits_in_front_of_a_softmax_over_the_classes() -> None:
    model = network((2, 5, 3), "Softmax (scores)")
    x = np.random.default_rng(7).standard_normal((2, 5, 3)).astype(np.float32)
    value, _ = loss_and_gradient(model, attach(model, [Loss(name="ctc")]), x, label=CTC_LABELS)
    assert value == pytest.approx(ctc_twin(x.transpose(1, 0, 2), np.array([5, 5])), rel=1e-6)


TWO = "(float[n, 3] x) => (float[n, 3] first, float[n, 3] second) { first = Neg (x) second = Exp (x) }"
REFUSED: dict[str, tuple[str, list[dict[str, Any]], list[str]]] = {
    "several outputs": (TWO, [{}], ["first, second", "output = "]),
    "an unknown output": (TWO, [{"output": "secnd"}], ["'secnd'", "did you mean 'second'?"]),
    "a sigmoid": (
        "(float[n, 3] x) => (float[n, 3] out) { out = Sigmoid (x) }",
        [{}],
        ["behind a sigmoid", "'out'", '"bce-with-logits"'],
    ),
    "a softmax": (
        "(float[n, 3] x) => (float[n, 3] out) { out = Softmax (x) }",
        [{"name": "bce-with-logits"}],
        ["behind a softmax", "'out'", '"cross-entropy"'],
    ),
    "rank 1": ("(float[n] x) => (float[n] out) { out = Neg (x) }", [{}], ["[batch, classes", "[n]", "mse"]),
    "one class": ("(float[n, 1] x) => (float[n, 1] out) { out = Neg (x) }", [{}], ["two classes", "bce-with-logits"]),
    "classes of unknown number": (
        "(float[n, c] x) => (float[n, c] out) { out = Neg (x) }",
        [{}],
        ["number of classes", "[n, c]", "static"],
    ),
    "integers": (
        "(float[n, 3] x) => (int64[n, 1] out) { out = ArgMax <axis = 1> (x) }",
        [{"name": "mse"}],
        ["int64", "'out'", "loss.output"],
    ),
    "wrong number of class weights": (TWO, [{"output": "first", "class_weights": [1.0, 2.0]}], ["2 entries for 3"]),
    "another loss's option": (TWO, [{"output": "first", "name": "mse", "label_smoothing": 0.1}], ["label_smoothing"]),
    "delta without Huber": (TWO, [{"output": "first", "delta": 0.5}], ["cross-entropy has no delta"]),
    "a label of two types": (
        TWO,
        [{"output": "first"}, {"output": "second", "name": "mse"}],
        ["share the label 'label'", "int64", "float32"],
    ),
    "a label of two sizes": (
        "(float[2, 3] x, float[4, 3] z) => (float[2, 3] first, float[4, 3] second) { first = Neg (x) second = Neg (z)}",
        [{"output": "first"}, {"output": "second"}],
        ["share the label", "(2,)", "(4,)"],
    ),
    "a label ignored once only": (
        TWO,
        [{"output": "first", "ignore_index": 0}, {"output": "second"}],
        ["share the label", "ignore_index 0"],
    ),
    "a class axis that is the batch": (TWO, [{"output": "first", "class_axis": -2}], ["axis 0", "class_axis = -2"]),
    "probabilities whose rank nothing tells": (
        "(float[n, 8] x, int64[k] sizes) => (out) { scores = Reshape (x, sizes) out = Softmax (scores) }",
        [{}],
        ["scores of a known rank", "rank unknown", "export the model with shapes"],
    ),
    "classes on the last axis": (
        "(float[n, t, 3] x) => (float[n, t, 3] out) { out = Neg (x) }",
        [{}],
        ["number of classes", "loss.class_axis = -1"],
    ),
    "ctc of two axes": (TWO, [{"output": "first", "name": "ctc"}], ["three axes", "time_axis"]),
    "ctc with a blank that is no class": (
        "(float[n, t, 3] x) => (float[n, t, 3] out) { out = Neg (x) }",
        [{"name": "ctc", "blank": 3}],
        ["blank is 3", "3 classes"],
    ),
    "lengths of nothing": (
        "(float[n, t, 3] x, int64[n] frames) => (float[n, t, 3] out) { out = Neg (x) }",
        [{"name": "ctc", "lengths": "frame"}],
        ["no input or output 'frame'", "did you mean 'frames'?"],
    ),
    "lengths that are no lengths": (
        "(float[n, t, 3] x) => (float[n, t, 3] out) { out = Neg (x) }",
        [{"name": "ctc", "lengths": "x"}],
        ["no whole numbers", "'x'"],
    ),
    "a name that is taken": (TWO, [{"output": "first", "label": "x"}], ["called 'x'", '"x_target"']),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_place_and_what_to_do(case: str) -> None:
    body, tables, texts = REFUSED[case]
    with pytest.raises(RecipeError) as refusal:
        attach(parse(body), [Loss(**table) for table in tables])
    assert refusal.value.where and refusal.value.fix
    for text in texts:
        assert text in str(refusal.value)


def test_the_only_output_needs_no_name() -> None:
    assert output_of(network((2, 3)), Loss()) == "out"
    assert output_of(parse(TWO), Loss(output="second")) == "second"


def test_a_ctc_without_lengths_is_told_where_there_may_be_some() -> None:
    model = parse("(float[n, t, 3] x, int64[n] frames) => (float[n, t, 3] out) { out = Neg (x) }")
    (note,) = notes(model, [Loss(name="ctc")])
    assert note.kind == "recipe"
    assert "all frames" in note.words and "'frames'" in note.words and "loss.lengths" in note.words
    assert not notes(model, [Loss(name="ctc", lengths="frames")])
    assert not notes(model, [Loss(class_axis=-1)])
    assert not notes(network((2, 5, 3)), [Loss(name="ctc")])


@pytest.mark.parametrize(
    ("tail", "loss", "by"),
    [
        ("Flatten (p) p = Softmax (scores)", "cross-entropy", "Softmax"),
        ("Transpose <perm = [0, 2, 1]> (p) p = Softmax <axis = 1> (scores)", "cross-entropy", "Softmax"),
        ("Identity (p) p = Softmax <axis = 2> (scores)", "cross-entropy", "Softmax"),
        ("Reshape (p, s) s = Shape (p) p = Sigmoid (scores)", "bce-with-logits", "Sigmoid"),
    ],
)
def test_probabilities_that_a_loss_takes_for_logits_are_told(tail: str, loss: str, by: str) -> None:
    last, *before = tail.split(") ")
    nodes = " ".join(f"{part})" for part in reversed(before)).replace("))", ")")
    model = parse(f"(float[N, 4, 3] scores) => (float[] y) {{ {nodes} y = {last}) }}")
    (note,) = notes(model, [Loss(name=loss)])  # type: ignore[arg-type]
    assert note.words.startswith(f"{loss} takes 'y' for logits, and it is made of a {by}: ")
    assert note.words.endswith("name what is in front as loss.output, 'scores', if its axes fit")


@pytest.mark.parametrize("tail", ["Softmax <axis = 1> (scores)", "Relu (scores)", "Flatten (scores)"])
def test_of_logits_and_of_what_is_peeled_nothing_is_told(tail: str) -> None:
    assert notes(parse(f"(float[N, 4, 3] scores) => (float[N, 4, 3] y) {{ y = {tail} }}"), [Loss()]) == ()
