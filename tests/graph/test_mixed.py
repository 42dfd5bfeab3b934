"""Mixed precision: numbers against the float32 graph, types in the graph that CUDA gets, and single rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from dsd_ort import runtime
from dsd_ort.errors import UnsupportedError
from dsd_ort.graph import element_types, masks, portable
from dsd_ort.graph.element_types import key
from dsd_ort.graph.lower import lower
from dsd_ort.graph.mixed import LOSS_SCALE, Precision, mix
from dsd_ort.graph.mixed.kinds import FACTORS, KINDS, NO_KERNEL, TYPES, Kind
from dsd_ort.graph.program import Program, open_program
from dsd_ort.run.phases import new_arena
from dsd_ort.run.prune import write_masks
from tests.stock.siblings import BATCH, SIBLINGS, SPARSITY, data, prepare

Arrays = dict[str, np.ndarray]
HEADER = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'
FLOAT, FLOAT16, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16
every_network = pytest.mark.parametrize("name", SIBLINGS)
both = pytest.mark.parametrize("precision", TYPES)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Program]:
    folder = tmp_path_factory.mktemp("siblings")

    class Prepared(dict[str, Program]):
        def __missing__(self, name: str) -> Program:
            self[name] = open_program(prepare(name, Path(folder)))
            return self[name]

    return Prepared()


def graph_of(program: Program, name: str = "step", *, stock: bool = False, device: str = "cpu") -> ir.Model:
    model = ir.load(program.graph_path(name))
    masks.strip_weights(model)
    lower(model, device)
    if stock:
        portable.expand(model)
    return model


class Step:
    """One step of a prepared network from its own weights."""

    def __init__(
        self, program: Program, precision: Precision | None = None, graph: str = "step", *, stock: bool = False
    ) -> None:
        self.program, self.arena = program, new_arena(program)
        source, pieces = program.source(), (*self.arena.parameters, *self.arena.statistic_slices)
        self.arena.fill({piece.name: source.value(piece.name) for piece in pieces})
        model = graph_of(program, graph, stock=stock)
        if precision is not None:
            mix(model, precision, loss=program.manifest.step_loss)
        self.masks: Arrays = {}
        if graph == "sparse":
            write_masks(self.arena, SPARSITY, program.recipe.prune)
            self.arena.apply_masks()
            views = {
                piece.name: self.arena.masks[piece.start : piece.stop].reshape(piece.shape)
                for piece in self.arena.prunable
            }
            self.masks = {masks.mask_name(name): array for name, array in views.items()}
        self.session = runtime.session(ir.to_proto(model), runtime.session_options(1))
        self.wanted = {value.name for value in self.session.get_inputs()}

    def __call__(self, batch: Arrays, scale: float = 1024.0) -> tuple[float, Arrays]:
        """The loss, and the gradients as they come out."""
        feeds = self.arena.values() | batch | self.masks | {LOSS_SCALE: np.array(scale, np.float32)}
        runtime.seed(3)
        results = self.session.run(None, {name: array for name, array in feeds.items() if name in self.wanted})
        out = dict(zip([value.name for value in self.session.get_outputs()], results, strict=True))
        gradients = {piece.name: out[piece.successor] for piece in self.arena.trained}
        return float(out[self.program.manifest.step_loss]), gradients


def batch_of(name: str) -> Arrays:
    return {key: array[:BATCH] for key, array in data(name).items()}


def flat(gradients: Arrays) -> np.ndarray:
    return np.concatenate([gradients[name].astype(np.float64).ravel() for name in sorted(gradients)])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


# Batch norm over four small pictures multiplies rounding errors, layer by layer; PyTorch's autocast does no better
# (tests/oracle/test_autocast.py).
DEEP = {("resnet18", "bf16"): 0.95, ("resnet50", "fp16"): 0.97, ("resnet50", "bf16"): 0.85}


@every_network
@both
@pytest.mark.parametrize("stock", [False, True])
def test_loss_and_gradients_are_float32s_but_for_rounding(
    programs: Mapping[str, Program], name: str, precision: Precision, stock: bool
) -> None:
    loss, gradients = Step(programs[name])(batch_of(name))
    mixed_loss, mixed = Step(programs[name], precision, stock=stock)(batch_of(name))
    assert mixed_loss == pytest.approx(loss, rel=2e-3)
    assert mixed_loss != loss  # ONNX Runtime's optimizer keeps the rounding
    assert {array.dtype for array in mixed.values()} == {np.dtype(np.float32)}
    assert cosine(flat(gradients), flat(mixed)) > DEEP.get((name, precision), 0.999)
    assert np.linalg.norm(flat(mixed)) == pytest.approx(1024 * np.linalg.norm(flat(gradients)), rel=0.05)


@both
def test_the_optimizer_of_onnx_runtime_keeps_a_cast_there_and_back(precision: Precision) -> None:
    name = TYPES[precision].name
    graph = f"""{HEADER} g (float[2, 2] x, float[2, 2] w) => (float[2, 2] y, float[2, 2] z) {{
        n = Cast <to = {TYPES[precision].value}> (x)  r = Cast <to = 1> (n)
        y = Identity (r)  p = MatMul (r, w)  z = Relu (p) }}"""
    session = runtime.session(onnx.parser.parse_model(graph), runtime.session_options(1))
    x = np.random.default_rng(0).standard_normal((2, 2)).astype(np.float32)
    y, z = session.run(None, {"x": x, "w": np.eye(2, dtype=np.float32)})
    rounded = x.astype(TYPES[precision].numpy()).astype(np.float32)
    assert not np.array_equal(rounded, x), name
    np.testing.assert_array_equal(y, rounded)
    np.testing.assert_array_equal(z, np.maximum(rounded, 0))


@every_network
@both
@pytest.mark.parametrize("stock", [False, True])
def test_on_cuda_products_are_16_bit_and_norms_softmax_and_losses_float32(
    programs: Mapping[str, Program], name: str, precision: Precision, stock: bool
) -> None:
    model = graph_of(programs[name], "sparse", stock=stock, device="cuda")
    before = [(value.name, value.dtype) for value in (*model.graph.inputs, *model.graph.outputs)]
    notes = mix(model, precision, "cuda", loss=programs[name].manifest.step_loss)
    inputs = [value for value in model.graph.inputs if value.name != LOSS_SCALE]
    assert [(value.name, value.dtype) for value in (*inputs, *model.graph.outputs)] == before
    half = 0
    for node in model.graph.all_nodes():
        types = {value.dtype for value in (*node.inputs, *node.outputs) if value is not None and value.name}
        assert None not in types, node
        if node.op_type in {"Cast", "Shape", "Size", "Dropout", "DropoutGrad"}:
            continue
        assert len(types & {FLOAT, TYPES[precision]}) <= 1, node  # one of the two
        if TYPES[precision] in types:
            assert KINDS[key(node)] in {Kind.HALF, Kind.FOLLOW} and key(node) not in NO_KERNEL[precision], node
            half += key(node) in FACTORS
    assert half and half == sum(int(note.split("(")[1][:-2]) for note in notes if "float16" in note)
    if stock:  # all operators are ONNX's: its own checker knows what they take
        onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True)


@every_network
@pytest.mark.parametrize("stock", [False, True])
def test_every_value_has_the_type_that_onnx_infers(programs: Mapping[str, Program], name: str, stock: bool) -> None:
    model = graph_of(programs[name], "sparse", stock=stock)
    model.graph.sort()
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if not value.is_graph_output():
                value.type = None
    expected = onnx.shape_inference.infer_shapes(ir.to_proto(model)).graph.value_info
    element_types.infer(model.graph)
    assert all(value.dtype is not None for node in model.graph.all_nodes() for value in node.outputs if value.name)
    found = {value.name: value.dtype for node in model.graph for value in node.outputs}
    wrong = {v.name: found[v.name] for v in expected if v.type.tensor_type.elem_type != found[v.name]}
    assert len(expected) > 20 and not wrong


@pytest.mark.parametrize("name", ["lenet", "resnet18", "deepspeech2"])
@both
def test_law_3_a_masked_weight_has_a_gradient_of_exactly_zero(
    programs: Mapping[str, Program], name: str, precision: Precision
) -> None:
    step = Step(programs[name], precision, "sparse")
    _, gradients = step(batch_of(name))
    pruned = 0
    for piece in step.arena.prunable:
        off = step.masks[masks.mask_name(piece.name)] == 0
        assert (gradients[piece.name][off] == 0).all() and (gradients[piece.name][~off] != 0).any()
        pruned += off.sum()
    assert pruned > 0


@pytest.mark.parametrize("name", ["lenet", "neuraltalk", "deepspeech"])
def test_a_power_of_two_as_scale_changes_no_digit_of_bfloat16(programs: Mapping[str, Program], name: str) -> None:
    step = Step(programs[name], "bf16")
    loss, gradients = step(batch_of(name), 1.0)
    scaled_loss, scaled = step(batch_of(name), 4096.0)
    assert scaled_loss == loss
    for parameter, gradient in gradients.items():
        np.testing.assert_array_equal(scaled[parameter], gradient * 4096, err_msg=parameter)


def test_scaling_saves_the_gradients_that_float16_would_lose(programs: Mapping[str, Program]) -> None:
    _, exact = Step(programs["lenet"])(batch_of("lenet"))
    step = Step(programs["lenet"], "fp16")
    error = {}
    for scale in (2.0**-12, 2.0**10):
        got = flat(step(batch_of("lenet"), scale)[1]) / scale
        error[scale] = np.linalg.norm(got - flat(exact)) / np.linalg.norm(flat(exact))
    assert error[2.0**10] < 0.01 < 5 * error[2.0**10] < error[2.0**-12]


def test_too_great_a_scale_overflows_float16_and_not_bfloat16(programs: Mapping[str, Program]) -> None:
    for precision, finite in (("fp16", False), ("bf16", True)):
        loss, gradients = Step(programs["lenet"], precision)(batch_of("lenet"), 2.0**24)
        assert np.isfinite(loss)
        assert np.isfinite(flat(gradients)).all() == finite


def mixed(text: str, precision: Precision = "fp16", device: Any = "cuda") -> ir.Model:
    """The graph, with a seed that nothing reads."""
    model = ir.from_proto(onnx.parser.parse_model(f"{HEADER} {text}"))
    one = ir.Value(name="loss_grad", const_value=ir.tensor(np.array(1, np.float32), name="loss_grad"))
    one.type, one.shape = ir.TensorType(FLOAT), ir.Shape([])
    model.graph.register_initializer(one)
    mix(model, precision, device)
    return model


def types(model: ir.Model) -> list[str]:
    """Operator and type of the output, of each node that is no Cast, Constant or the scale's."""
    nodes = [node for node in model.graph if node.op_type not in {"Cast", "Constant"} and LOSS_SCALE not in node.name]
    return [f"{node.op_type} {node.outputs[0].dtype.name.lower()}" for node in nodes]


def test_the_golden_graph() -> None:
    model = mixed("""g (float[N, 4] x, float[4, 4] w, float[4, 4] v, float[4] b, int64[N] label) => (float loss) {
        h = Gemm (x, w, b)  r = Relu (h)  y = MatMul (r, v)
        loss, p = SoftmaxCrossEntropyLoss (y, label) }""")
    got = [
        f"{','.join(v.name for v in node.outputs)} = {node.op_type}({', '.join(v.name for v in node.inputs)})"
        for node in model.graph
        if LOSS_SCALE not in node.name
    ]
    assert sorted(got) == sorted(
        [
            "x/float16 = Cast(x)",
            "w/float16 = Cast(w)",
            "v/float16 = Cast(v)",
            "b/float16 = Cast(b)",
            "h = Gemm(x/float16, w/float16, b/float16)",
            "r = Relu(h)",
            "y = MatMul(r, v/float16)",
            "y/float = Cast(y)",
            "loss,p = SoftmaxCrossEntropyLoss(y/float, label)",
        ]
    )


def test_a_value_is_cast_once_however_many_read_it() -> None:
    model = mixed("""g (float[4, 4] x, float[4, 4] w) => (float[4, 4] y, float[4, 4] e) {
        a = MatMul (x, w)  b = MatMul (w, x)  c = MatMul (a, b)  y = Exp (c)  e = Sqrt (c) }""")
    assert [node.inputs[0].name for node in model.graph if node.op_type == "Cast"].count("x") == 1
    assert sum(node.op_type == "Cast" for node in model.graph) == 3  # x, w, and c back


FOLLOWING = {
    "a residual": ("z = Add (p, q)", "Add float16"),
    "one float32 among them": ("z = Add (p, x)", "Add float"),
    "a constant": ("c = Constant <value_float = 0.5> ()  z = Mul (p, c)", "Mul float16"),
    "a constant that overflows": ("c = Constant <value_float = -1e9> ()  z = Add (p, c)", "Add float"),
    "a constant that vanishes": ("c = Constant <value_float = 1e-12> ()  z = Max (p, c)", "Max float"),
    "a square": ("z = Mul (p, p)", "Mul float"),
    "a sum": ("z = ReduceSum <keepdims = 0> (p)", "ReduceSum float"),
    "an operator of no kind": ("z = Erf (p)", "Erf float"),
}


@pytest.mark.parametrize("case", FOLLOWING)
def test_what_follows_a_product(case: str) -> None:
    nodes, expected = FOLLOWING[case]
    text = f"""g (float[4, 4] x, float[4, 4] w) => (float[4, 4] y) {{
        p = MatMul (x, w)  q = MatMul (w, x)  {nodes}  y = MatMul (z, q) }}"""
    assert expected in types(mixed(text))


UNTOUCHED = {
    "a constant factor": "c = Constant <value = float[4, 4] {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}> ()  y = MatMul (x, c)",
    "a factor made of one": """c = Constant <value = float[16] {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}> ()
        s = Constant <value_ints = [4, 4]> ()  m = Reshape (c, s)  y = MatMul (x, m)""",
    "one-hot labels": """d = Constant <value_int = 4> ()  v = Constant <value_floats = [0.0, 1.0]> ()
        h = OneHot (label, d, v)  y = MatMul (h, x)""",
    "sums alone": "s = ReduceMean <axes = [1]> (x)  y = Sub (x, s)",
}


@pytest.mark.parametrize("case", UNTOUCHED)
@both
def test_arithmetic_that_is_no_layer_stays_in_float32(case: str, precision: Precision) -> None:
    model = mixed(f"g (float[4, 4] x, int64[4] label) => (float[4, 4] y) {{ {UNTOUCHED[case]} }}", precision)
    assert not {value.dtype for node in model.graph for value in node.outputs} & {FLOAT16, BFLOAT16}


def test_products_of_other_types_are_not_touched() -> None:
    model = mixed("""g (int64[4, 4] i, double[4, 4] d) => (int64[4, 4] y, double[4, 4] z) {
        y = MatMul (i, i)  z = MatMul (d, d) }""")
    assert types(model) == ["MatMul int64", "MatMul double"]


def test_batch_norm_computes_in_float32_and_hands_on_what_it_was_given() -> None:
    text = """g (float[N, 4, 8, 8] x, float[4, 4, 3, 3] w, float[4] s, float[4] m) => (float[N, 4, 6, 6] y) {{
        c = {0} (x{1})  n = BatchNormalization (c, s, s, m, m)  y = Relu (n) }}"""
    given = mixed(text.format("Conv", ", w").replace("{{", "{").replace("}}", "}"))
    norm = next(node for node in given.graph if node.op_type == "BatchNormalization")
    assert {value.dtype for value in (*norm.inputs, *norm.outputs)} == {FLOAT}
    assert types(given) == ["Conv float16", "BatchNormalization float", "Relu float16"]
    plain = mixed(text.format("Exp", "").replace("{{", "{").replace("}}", "}"))
    assert types(plain) == ["Exp float", "BatchNormalization float", "Relu float"]


def test_a_weight_that_a_scan_reads_is_cast_outside_of_it(programs: Mapping[str, Program]) -> None:
    model = graph_of(programs["neuraltalk"], device="cuda")
    mix(model, "fp16", "cuda")
    scans = [node for node in model.graph if node.op_type == "Scan"]
    assert len(scans) == 2
    for scan in scans:
        body = scan.attributes["body"].as_graph()
        assert {value.dtype for value in (*body.inputs, *body.outputs)} == {FLOAT}
        (product,) = [node for node in body if node.op_type in {"Gemm", "MatMul"}]
        weight = product.inputs[1]
        assert weight is not None and weight.dtype == FLOAT16 and weight.graph is model.graph


def test_without_a_gradient_of_the_loss_it_refuses() -> None:
    model = ir.from_proto(onnx.parser.parse_model(f"{HEADER} g (float[2] x) => (float[2] y) {{ y = Relu (x) }}"))
    with pytest.raises(UnsupportedError, match="no gradient of 'loss' that could be scaled"):
        mix(model, "fp16")


def test_the_table_names_no_operator_twice_and_all_that_has_no_kernel() -> None:
    assert NO_KERNEL["bf16"] <= KINDS.keys()
    assert {KINDS[op_type] for op_type in NO_KERNEL["bf16"]} == {Kind.HALF, Kind.FOLLOW}
    assert set(FACTORS) == {op_type for op_type, kind in KINDS.items() if kind is Kind.HALF}
