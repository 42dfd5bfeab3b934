"""The door: what is not well-formed is refused by name, and what is sound comes in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx.helper
import onnx.parser
import pytest
from onnx.backend.test.case.node import collect_testcases

from dsd_ort.errors import ModelError
from dsd_ort.file import limits
from dsd_ort.model import source
from dsd_ort.model.wellformed import refuse_malformed
from tools.fuzz import seeds
from tools.maintenance.bad_input.cases import attribute, external, model, node, tensor

Model = onnx.ModelProto


def text(graph: str, opset: int = 18) -> Callable[[Path], object]:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {graph}')
    return lambda folder: (folder / "model.onnx").write_bytes(proto.SerializeToString())


def added(**fields: Any) -> Callable[[Path], object]:
    """A node more."""
    return model(lambda made: made.graph.node.add(**fields))


def declared(made: Model) -> onnx.TypeProto:
    return made.graph.input[0].type


def circle(folder: Path) -> None:
    (folder / "loop.bin").symlink_to("loop.bin")
    external("location", "loop.bin")(folder)


def folder_in_place(folder: Path) -> None:
    (folder / "d").mkdir()
    external("location", "d")(folder)


def damaged(folder: Path, old: bytes, new: bytes) -> None:
    path = folder / "model.onnx"
    path.write_bytes(seeds.MODELS["mlp"].SerializeToString().replace(old, new))


def refilled(first: onnx.TensorProto) -> None:
    first.ClearField("raw_data")
    first.int64_data.append(1)


def _of(made: Model, op_type: str, name: str) -> onnx.AttributeProto:
    (found,) = (n for n in made.graph.node if n.op_type == op_type)
    return next(a for a in found.attribute if a.name == name)


def turned(made: Model) -> None:
    body = _of(made, "Loop", "body").g
    body.node[0].input[0] = "r2"
    body.node.add(op_type="Identity", input=["q"], output=["r2"])


def called(made: Model) -> None:
    made.opset_import.add(domain="own", version=1)
    function = made.functions.add(name="F", domain="own", input=["a"], output=["b"])
    function.opset_import.add(domain="", version=17)
    function.node.add(op_type="Relu", input=["a"], output=["b"])
    made.graph.node[1].op_type, made.graph.node[1].domain = "F", "own"


def halved(made: Model) -> None:
    first = made.graph.initializer[0]
    first.raw_data = first.raw_data[: len(first.raw_data) // 2]


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    # what no reader of bytes may trip over
    "an external offset that is no number": (external("offset", "٤"), "its offset is '٤', no number of bytes"),
    "an external length of 5,000 digits": (external("length", "9" * 5000), "no number of bytes"),
    "a location that nothing can be called": (external("location", "a\0b"), "it names a file as nothing can be called"),
    "links in a circle": (circle, "is no file"),
    "a folder as external data": (
        lambda folder: [(folder / "d").mkdir(), external("location", "d")(folder)],
        "is no file",
    ),
    # tensors
    "a text as raw bytes": (tensor(data_type=8), "texts of a tensor are stored as raw bytes"),
    "numbers in another type's field": (
        model(lambda made: refilled(made.graph.initializer[0])),
        "a tensor of float has its numbers in int64_data, not in float_data",
    ),
    "a segment": (
        model(lambda made: made.graph.initializer[0].segment.SetInParent()),
        "stored in segments",
    ),
    "a tensor in an attribute": (
        model(lambda made: made.graph.node[2].attribute[0].t.dims.append(3), "loop"),
        "a tensor of shape",
    ),
    # nodes
    "no operator": (node(0, op_type=""), "a node has no operator"),
    "no output": (node(0, output=[]), "a node has no output"),
    "an operator that is no text": (
        lambda folder: damaged(folder, b"MatMul", b"MatM\xff\xfe"),
        "a text is not in UTF-8: graph.node[0].op_type",
    ),
    "an attribute twice": (
        model(lambda made: made.graph.node[0].attribute.add().CopyFrom(made.graph.node[0].attribute[0]), "cnn"),
        "a node has an attribute twice",
    ),
    "an attribute of two types": (
        model(lambda made: setattr(made.graph.node[0].attribute[0], "f", 2.0), "cnn"),
        "an attribute of type INTS has a value in f",
    ),
    "an attribute of no type": (
        model(lambda made: setattr(made.graph.node[0].attribute[0], "type", 0), "cnn"),
        "an attribute's type 0 is none of ONNX's",
    ),
    "a reference to a function's attribute": (
        model(lambda made: setattr(made.graph.node[0].attribute[0], "ref_attr_name", "k"), "cnn"),
        "it refers to an attribute of a function, and stands in none",
    ),
    "a needed input that is left out": (node(0, input=["", "w"]), "MatMul is without its input A"),
    "a stride that no tensor has": (attribute(0, "strides", [2**40, 1]), "no tensor is that large"),
    "a Cast to nothing": (added(op_type="Cast", input=["a"], output=["z"]), "Cast is without its attribute 'to'"),
    "an operator that is newer than the model": (
        node(2, op_type="GroupNormalization"),
        "GroupNormalization does not exist in the model's operator set 17, but from 21 on",
    ),
    "a Loop of 2^62 steps": (
        model(lambda made: setattr(made.graph.node[1].attribute[0], "i", 2**62), "loop"),
        "a Loop takes 4611686018427387904 steps",
    ),
    "a Constant without a value": (added(op_type="Constant", output=["z"]), "a Constant has to have one value"),
    # graphs
    "an input without a name": (model(lambda made: setattr(made.graph.input[0], "name", "")), "an input has no name"),
    "an input twice": (model(lambda made: made.graph.input.append(made.graph.input[0])), "two inputs have one name"),
    "an input without a type": (model(lambda made: made.graph.input[0].ClearField("type")), "the type of an input"),
    "an input of an unknown type": (
        model(lambda made: setattr(declared(made).tensor_type, "elem_type", 77)),
        "element type 77",
    ),
    "an axis of 2^40": (
        model(lambda made: setattr(declared(made).tensor_type.shape.dim[0], "dim_value", 2**40)),
        "no tensor is that large",
    ),
    "an output twice": (model(lambda made: made.graph.output.append(made.graph.output[0])), "two outputs of the model"),
    "two versions of ONNX": (model(lambda made: made.opset_import.add(domain="ai.onnx", version=11)), "two versions"),
    "branches that give less than If takes": (
        model(lambda made: made.graph.node[4].output.append("more"), "if"),
        "the body 'then_branch' of If has 0 inputs and 1 outputs, and the node feeds 0 and takes 2",
    ),
    "a Scan of no inputs": (
        model(lambda made: setattr(_of(made, "Scan", "num_scan_inputs"), "i", 9), "scan"),
        "the body 'body' of Scan has 2 inputs and 2 outputs",
    ),
    "a cycle in a body": (model(turned, "loop"), "the graph has a cycle"),
    "a call with too many inputs": (
        model(called, "mlp"),
        "a call of the function 'F' has 2 inputs and 1 outputs; it takes 1 and 1",
    ),
    # shapes
    "weights of a recurrent layer that do not fit": (
        model(lambda made: made.graph.initializer[0].dims.__setitem__(2, 2) or halved(made), "lstm"),
        "LSTM wants [1, 8, 4] of 'w', None being any, and it is [1, 8, 2]",
    ),
    "types that do not fit": (node(2, op_type="Not"), "shapes or types do not fit Not"),
    "a shape of no whole numbers": (
        text("(float[N] x) => (float[2] y) <float[1] s = {2}> { y = Expand (x, s) }"),
        "lengths that a node makes something of are no list of whole numbers",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_well_formed_is_refused(tmp_path: Path, what: str) -> None:
    change, says = REFUSED[what]
    change(tmp_path)
    with pytest.raises(ModelError) as caught:
        source.load(tmp_path / "model.onnx")
    assert says in caught.value.what
    assert caught.value.where is not None and caught.value.where.startswith(str(tmp_path / "model.onnx"))
    assert caught.value.fix


@pytest.mark.parametrize("name", seeds.MODELS)
def test_what_is_sound_comes_in(tmp_path: Path, name: str) -> None:
    model(lambda made: None, name)(tmp_path)
    assert source.load(tmp_path / "model.onnx").model.graph.outputs


@pytest.mark.filterwarnings("ignore")  # of numbers that its own cases are made of
def test_what_onnx_itself_tests_its_operators_with_comes_in() -> None:
    """1,884 graphs with every operator, in forms that nobody else thinks of."""
    refused = []
    for case in collect_testcases(None):
        if case.model is not None:
            try:
                refuse_malformed(case.model, case.name)
            except ModelError as error:
                refused.append(str(error))
    assert refused == []


def test_nodes_inside_of_bodies_may_stand_in_any_order(tmp_path: Path) -> None:
    def backwards(made: Model) -> None:
        body = _of(made, "Loop", "body").g
        body.node.add(op_type="Identity", input=["later"], output=["first"])
        body.node.add(op_type="Tanh", input=["u"], output=["later"])

    model(backwards, "loop")(tmp_path)
    assert source.load(tmp_path / "model.onnx").parameters


def test_a_loop_that_its_body_ends_may_have_any_number_of_steps(tmp_path: Path) -> None:
    """As PyTorch exports them: at most 2^63 - 1 steps, while something holds."""

    def until(made: Model) -> None:
        made.graph.node[1].attribute[0].i = 2**63 - 1
        body = _of(made, "Loop", "body").g
        body.node[0].op_type = "Not"

    model(until, "loop")(tmp_path)
    assert source.load(tmp_path / "model.onnx").parameters


def test_a_file_of_a_million_nodes_is_refused_before_it_is_walked(tmp_path: Path) -> None:
    made = seeds.MODELS["mlp"]
    graph = onnx.GraphProto.FromString(made.graph.SerializeToString() + b"\x0a\x00" * (limits.NODES + 1))
    with pytest.raises(ModelError, match="more than 1000000 nodes"):
        refuse_malformed(Model(ir_version=8, opset_import=made.opset_import, graph=graph), "m.onnx")


def test_a_cache_whose_names_are_links_into_a_store_is_read(tmp_path: Path) -> None:
    """As that of Hugging Face's hub: snapshots/…/model.onnx → ../../blobs/1234, and so the external data."""
    store, names = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    store.mkdir()
    names.mkdir(parents=True)
    (store / "1234").write_bytes(seeds.MODELS["external"].SerializeToString())
    (store / "5678").write_bytes(seeds.EXTERNAL_BYTES)
    (names / "model.onnx").symlink_to("../../blobs/1234")
    (names / seeds.EXTERNAL).symlink_to("../../blobs/5678")
    assert source.load(names / "model.onnx").value("w").size
    (names / seeds.EXTERNAL).unlink()
    (tmp_path / "elsewhere").write_bytes(seeds.EXTERNAL_BYTES)
    (names / seeds.EXTERNAL).symlink_to("../../elsewhere")
    with pytest.raises(ModelError, match="outside of the model's folder"):
        source.load(names / "model.onnx")
