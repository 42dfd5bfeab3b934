"""The image networks of the DSD paper: what makes each what it is, and that small siblings train."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import dsd_ort
from dsd_ort.model import source as source_files
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from graphs import NETWORKS
from graphs.__main__ import count_parameters, main

CLASSES = 10
SMALL = {
    "vgg16": {"width": 8, "size": 32},
    "vgg16, shallow": {"width": 8, "size": 45, "depth": 11},
    "googlenet": {"width": 8, "size": 31},
    "googlenet, aux": {"width": 8, "size": 64, "aux": 1},
    "resnet18": {"width": 8, "size": 32, "depth": 1},
    "resnet50": {"width": 8, "size": 40, "depth": 1},
}


def build(name: str, **arguments: int) -> ir.Model:
    return NETWORKS[name.partition(",")[0]](**{"classes": CLASSES} | SMALL[name] | arguments)


def nodes(model: ir.Model, kind: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == kind]


def ratios(model: ir.Model) -> list[float]:
    """Of the model's Dropout nodes."""
    constants = (node.inputs[1].producer() for node in nodes(model, "Dropout"))
    return [round(constant.attributes["value_float"].as_float(), 4) for constant in constants]


def scores(model: ir.Model, image: np.ndarray) -> list[np.ndarray]:
    proto = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"]).run(None, {"image": image})


def examples(name: str, count: int) -> dict[str, np.ndarray]:
    rng, size = np.random.default_rng(0), SMALL[name]["size"]
    return {"image": rng.standard_normal((count, 3, size, size), np.float32), "label": rng.integers(0, CLASSES, count)}


def recipe(name: str) -> dsd_ort.Recipe:
    """Two steps dense and two sparse; auxiliary classifiers have losses of their own."""
    auxiliary = [{"output": f"logits_aux{i}", "weight": 0.3} for i in (1, 2) if "aux" in SMALL[name]]
    phases = [{"kind": "dense"}, {"kind": "sparse", "sparsity": 0.3}]
    return dsd_ort.Recipe.from_dict(
        {
            "batch_size": 4,
            "loss": [{"output": "logits"}, *auxiliary],
            "phase": [phase | {"steps": 2, "learning_rate": 0.05} for phase in phases],
        }
    )


def test_vgg_counts_its_layers_as_torchvision_does() -> None:
    initializers = NETWORKS["vgg16"]().graph.initializers
    features = [f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
    layers = [*features, "classifier.0", "classifier.3", "classifier.6"]
    assert list(initializers) == [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    assert initializers["features.28.weight"].shape == ir.Shape((512, 512, 3, 3))
    assert initializers["classifier.0.weight"].shape == ir.Shape((4096, 25088))


@pytest.mark.parametrize(("depth", "count"), [(11, 132_863_336), (13, 133_047_848), (19, 143_667_240)])
def test_vgg_of_another_depth_has_as_many_parameters_as_the_papers(depth: int, count: int) -> None:
    model = NETWORKS["vgg16"](depth=depth)
    assert len(nodes(model, "Conv")) + len(nodes(model, "Gemm")) == depth
    assert count_parameters(model) == count


def test_googlenet_normalises_twice_and_halves_by_windows_that_may_reach_beyond_the_image() -> None:
    model = NETWORKS["googlenet"]()
    assert [node.op_type for node in model.graph][:10] == [
        *("Conv", "Relu", "MaxPool", "LRN"),
        *("Conv", "Relu", "Conv", "Relu", "LRN", "MaxPool"),
    ]
    assert len(nodes(model, "LRN")) == 2
    assert not nodes(model, "BatchNormalization")
    halves = [node for node in nodes(model, "MaxPool") if node.attributes.get_int("ceil_mode", 0)]
    assert [node.outputs[0].shape[2:] for node in halves] == [(56, 56), (28, 28), (14, 14), (7, 7)]
    kernels = [node.attributes.get_ints("kernel_shape")[0] for node in nodes(model, "Conv")]
    assert [kernels.count(size) for size in (1, 3, 5, 7)] == [1 + 4 * 9, 1 + 9, 9, 1]


def test_auxiliary_classifiers_are_two_outputs_more_and_leave_the_network_as_it_is() -> None:
    image = examples("googlenet, aux", 2)["image"]
    one, other = build("googlenet, aux", aux=0), build("googlenet, aux")
    assert [v.name for v in other.graph.outputs] == ["logits", "logits_aux1", "logits_aux2"]
    (alone,), together = scores(one, image), scores(other, image)
    np.testing.assert_array_equal(alone, together[0])
    assert all(values.shape == (2, CLASSES) and values.std() > 0 for values in together)
    assert count_parameters(NETWORKS["googlenet"](aux=1)) == 13_378_280


def test_resnet50_has_the_parameters_of_torchvision_in_its_order() -> None:
    norm = ("weight", "bias", "running_mean", "running_var")
    names = ["conv1.weight", *(f"bn1.{p}" for p in norm)]
    for block in (f"layer{stage}.{i}" for stage, depth in enumerate((3, 4, 6, 3), 1) for i in range(depth)):
        for i in (1, 2, 3):
            names += [f"{block}.conv{i}.weight", *(f"{block}.bn{i}.{p}" for p in norm)]
        if block.endswith(".0"):
            names += [f"{block}.downsample.0.weight", *(f"{block}.downsample.1.{p}" for p in norm)]
    initializers = NETWORKS["resnet50"]().graph.initializers
    assert list(initializers) == [*names, "fc.weight", "fc.bias"]
    assert initializers["layer1.0.downsample.0.weight"].shape == ir.Shape((256, 64, 1, 1))


@pytest.mark.parametrize(
    ("name", "kernels", "strides"), [("resnet18", [3, 3], [2, 1]), ("resnet50", [1, 3, 1], [1, 2, 1])]
)
def test_a_residual_block_halves_in_its_first_convolution_of_3x3(
    name: str, kernels: list[int], strides: list[int]
) -> None:
    convolutions = {node.inputs[1].name: node.attributes for node in nodes(build(name), "Conv")}
    block = [convolutions[f"layer2.0.conv{i}.weight"] for i in range(1, len(kernels) + 1)]
    assert [attributes.get_ints("kernel_shape")[0] for attributes in block] == kernels
    assert [attributes.get_ints("strides")[0] for attributes in block] == strides


@pytest.mark.parametrize(
    ("name", "depth", "convolutions"), [("resnet18", 1, 12), ("resnet50", 1, 17), ("resnet50", 4, 47)]
)
def test_depth_is_the_most_blocks_of_a_stage(name: str, depth: int, convolutions: int) -> None:
    assert len(nodes(build(name, depth=depth), "Conv")) == convolutions


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("vgg16", [0.5, 0.5]), ("googlenet", [0.4]), ("googlenet, aux", [0.7, 0.7, 0.4]), ("resnet50", [])],
)
def test_dropout_has_the_papers_ratios(name: str, wanted: list[float]) -> None:
    assert ratios(build(name)) == wanted


def test_biases_of_googlenet_begin_at_a_fifth_in_front_of_a_relu_and_at_0_elsewhere() -> None:
    initializers = build("googlenet, aux").graph.initializers
    biases = {name: set(v.const_value.numpy().tolist()) for name, v in initializers.items() if name.endswith("bias")}
    assert {name for name, values in biases.items() if values == {0.0}} == {"fc.bias", "aux1.fc2.bias", "aux2.fc2.bias"}
    assert all(values in ({0.0}, {float(np.float32(0.2))}) for values in biases.values())


@pytest.mark.parametrize("name", ["vgg16", "googlenet"])
def test_signals_neither_vanish_nor_explode_on_their_way_through_a_new_network(name: str) -> None:
    (logits,) = scores(build(name), examples(name, 16)["image"])
    assert 0.05 < logits.std(axis=1).mean() < 5


@pytest.mark.parametrize("name", SMALL)
def test_small_siblings_train_dense_and_sparse_and_come_back(name: str, tmp_path: Path) -> None:
    path, run, final = (tmp_path / part for part in ("model.onnx", "run", "final.onnx"))
    ir.save(build(name), path)
    dsd_ort.prepare(path, run, recipe(name))
    dsd_ort.train(run, examples(name, 8), threads=1)
    assert dsd_ort.export(run, final).same
    assert dsd_ort.verify(path, final).same
    before, after = (ir.load(file).graph.initializers for file in (path, final))
    for p in dsd_ort.inspect(path).parameters:
        values = after[p.name].const_value.numpy()
        assert np.isfinite(values).all()
        assert not np.array_equal(values, before[p.name].const_value.numpy()), p.name
        if p.prunable and not p.first_conv:
            assert np.count_nonzero(values) == p.size - round(0.3 * p.size), p.name


@pytest.mark.parametrize("name", ["vgg16", "googlenet, aux"])
def test_dropout_drops_in_training_by_the_seed_and_is_in_the_exported_model_what_it_was(
    name: str, tmp_path: Path
) -> None:
    path, run = tmp_path / "model.onnx", tmp_path / "run"
    ir.save(build(name), path)
    program = dsd_ort.prepare(path, run, recipe(name))
    arena, source = Arena.of(program), source_files.load(path)
    arena.fill_from(source)
    engine, data = Engine(program, arena, Execution(threads=1)), examples(name, 4)
    one, again, other = (engine.step(data, sparse=False, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    dsd_ort.train(run, examples(name, 8), threads=1)
    dsd_ort.export(run, tmp_path / "final.onnx")
    final = ir.load(tmp_path / "final.onnx")
    assert ratios(final) == ratios(build(name))
    for values, same in zip(scores(final, data["image"]), scores(final, data["image"]), strict=True):
        np.testing.assert_array_equal(values, same)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vgg16", "--depth", "12"], "11, 13, 16 or 19 layers, not 12"),
        (["vgg16", "--size", "31"], "at least 32×32, not 31×31"),
        (["googlenet", "--size", "30"], "at least 31×31, not 30×30"),
        (["googlenet", "--aux", "2"], "not aux 2"),
        (["googlenet", "--aux", "-1"], "--aux -1"),
        (["resnet50", "--depth", "0"], "--depth 0"),
    ],
)
def test_impossible_arguments_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*arguments, "-o", str(tmp_path / "x.onnx")])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_takes_every_argument_of_googlenet(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    arguments = {"classes": CLASSES} | SMALL["googlenet"] | {"aux": 0}
    main(["googlenet", "-o", str(path), *(part for k, v in arguments.items() for part in (f"--{k}", str(v)))])
    assert path.read_bytes() == ir.to_proto(build("googlenet")).SerializeToString()
