"""Mixed precision: numbers against the float32 graph, types in the graph that CUDA gets, and single rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from dsd_ort import runtime
from dsd_ort.device import portable
from dsd_ort.device.lower import lower
from dsd_ort.device.mixed import LOSS_SCALE, Precision, mix, scale_loss
from dsd_ort.device.mixed.precisions import TYPES
from dsd_ort.graph import masks
from dsd_ort.graph.program import Program, open_program
from dsd_ort.rewrite import element_types
from dsd_ort.rewrite.operators import Does, Half, facts
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.prune import write_masks
from tests.session import opened
from tests.stock.siblings import BATCH, SIBLINGS, SPARSITY, data, prepare

Arrays = dict[str, np.ndarray]
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
        self.program, self.arena = program, Arena.of(program)
        self.arena.fill_from(program.source())
        model = graph_of(program, graph, stock=stock)
        if precision is not None:
            scale_loss(model, program.manifest.step_loss)
            mix(model, precision)
        self.masks: Arrays = {}
        if graph == "sparse":
            write_masks(self.arena, SPARSITY, program.recipe.prune)
            self.arena.apply_masks()
            views = {piece.name: view(self.arena.masks, piece) for piece in self.arena.prunable}
            self.masks = {masks.mask_name(name): array for name, array in views.items()}
        self.session = opened(model)
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
    deep = DEEP.get((name, precision))
    assert cosine(flat(gradients), flat(mixed)) > (deep or 0.999)
    assert np.linalg.norm(flat(mixed)) == pytest.approx(
        1024 * np.linalg.norm(flat(gradients)), rel=0.1 if deep else 0.01
    )


@every_network
@both
@pytest.mark.parametrize("stock", [False, True])
def test_on_cuda_products_are_16_bit_and_norms_softmax_and_losses_float32(
    programs: Mapping[str, Program], name: str, precision: Precision, stock: bool
) -> None:
    model = graph_of(programs[name], "sparse", stock=stock, device="cuda")
    before = [(value.name, value.dtype) for value in (*model.graph.inputs, *model.graph.outputs)]
    scale_loss(model, programs[name].manifest.step_loss)
    notes = mix(model, precision, "cuda")
    inputs = [value for value in model.graph.inputs if value.name != LOSS_SCALE]
    assert [(value.name, value.dtype) for value in (*inputs, *model.graph.outputs)] == before
    half = 0
    for node in model.graph.all_nodes():
        types = {value.dtype for value in (*node.inputs, *node.outputs) if value is not None and value.name}
        assert None not in types, node
        if node.op_type in {"Cast", "Constant", "Shape", "Size", "Dropout", "DropoutGrad"}:
            continue
        assert len(types & {FLOAT, TYPES[precision]}) <= 1, node  # one of the two
        if TYPES[precision] in types:
            known = facts(node)
            assert known.half in {Half.HALF, Half.FOLLOW}, node
            assert precision == "fp16" or Does.NO_BFLOAT16 not in known.does, node
            half += known.factors > 0
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
    known = onnx.shape_inference.infer_shapes(ir.to_proto(model)).graph.value_info
    expected = {value.name: value.type.tensor_type.elem_type for value in known}
    element_types.infer(model.graph)
    assert all(value.dtype is not None for node in model.graph.all_nodes() for value in node.outputs if value.name)
    found = {value.name: value.dtype for node in model.graph for value in node.outputs if expected.get(value.name)}
    assert len(found) > 5  # ONNX infers nothing behind an operator of ONNX Runtime's
    assert found == {name: expected[name] for name in found}


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
    for scale in (2.0**-16, 2.0**10):
        got = flat(step(batch_of("lenet"), scale)[1]) / scale
        error[scale] = np.linalg.norm(got - flat(exact)) / np.linalg.norm(flat(exact))
    assert error[2.0**10] < 0.01 < 5 * error[2.0**10] < error[2.0**-16]


def test_too_great_a_scale_overflows_float16_and_not_bfloat16(programs: Mapping[str, Program]) -> None:
    for precision, finite in (("fp16", False), ("bf16", True)):
        loss, gradients = Step(programs["lenet"], precision)(batch_of("lenet"), 2.0**24)
        assert np.isfinite(loss)
        assert np.isfinite(flat(gradients)).all() == finite


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
