"""The networks of graphs/: sound ONNX, the papers' shapes, PyTorch's names, the same bytes every time."""

import subprocess
import sys

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from graphs import NETWORKS
from graphs.__main__ import count_parameters, main

SMALL = {
    "digits-cnn": {"width": 4},
    "digits-mlp": {"width": 8},
    "lenet": {"size": 12},
    "vgg16": {"width": 4, "size": 32, "classes": 7},
    "googlenet": {"width": 4, "size": 32, "classes": 7},
    "resnet18": {"width": 4, "size": 32, "classes": 7},
    "resnet50": {"width": 4, "size": 32, "classes": 7, "depth": 1},
    "resnet20": {"width": 4, "size": 16, "classes": 7, "depth": 1},
}
"""The networks of images, with arguments for tests of what does not depend on the size."""


def build(name: str, **arguments: int) -> onnx.ModelProto:
    return ir.to_proto(NETWORKS[name](**SMALL[name], **arguments))


@pytest.mark.parametrize("name", SMALL)
def test_every_network_is_a_sound_inference_model_with_any_batch(name: str) -> None:
    model = build(name)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version <= 10
    (image,), (logits,) = model.graph.input, model.graph.output
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (image, logits)]
    classes = SMALL[name].get("classes", 10)
    assert (image.name, logits.name) == ("image", "logits")
    assert (shapes[0][0], shapes[1]) == ("N", ["N", classes])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        (values,) = session.run(["logits"], {"image": np.ones((batch, *shapes[0][1:]), np.float32)})
        assert values.shape == (batch, classes)
        assert values.std() > 0


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("digits-cnn", 56_242),
        ("digits-mlp", 85_002),
        ("lenet", 61_706),
        ("vgg16", 138_357_544),
        ("googlenet", 6_998_552),
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("resnet20", 269_722),
    ],
)
def test_networks_train_as_many_parameters_as_is_written(name: str, count: int) -> None:
    assert count_parameters(NETWORKS[name]()) == count


def test_resnet18_has_the_parameters_of_torchvision_in_its_order() -> None:
    norm = ("weight", "bias", "running_mean", "running_var")
    names = ["conv1.weight", *(f"bn1.{p}" for p in norm)]
    for block in (f"layer{stage}.{i}" for stage in (1, 2, 3, 4) for i in (0, 1)):
        for i in (1, 2):
            names += [f"{block}.conv{i}.weight", *(f"{block}.bn{i}.{p}" for p in norm)]
        if block in ("layer2.0", "layer3.0", "layer4.0"):
            names += [f"{block}.downsample.0.weight", *(f"{block}.downsample.1.{p}" for p in norm)]
    initializers = NETWORKS["resnet18"]().graph.initializers
    assert list(initializers) == [*names, "fc.weight", "fc.bias"]
    assert initializers["layer3.0.downsample.0.weight"].shape == ir.Shape((256, 128, 1, 1))
    assert initializers["layer4.1.conv2.weight"].shape == ir.Shape((512, 512, 3, 3))


def test_batch_norms_are_nodes_in_evaluation_mode() -> None:
    norms = [node for node in build("resnet18").graph.node if node.op_type == "BatchNormalization"]
    attributes = [{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} for node in norms]
    assert len(norms) == 20
    assert all(len(node.output) == 1 for node in norms)
    assert all(a == {"epsilon": pytest.approx(1e-5), "momentum": pytest.approx(0.9)} for a in attributes)


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(name: str) -> None:
    first = build(name, seed=3).SerializeToString()
    assert build(name, seed=3).SerializeToString() == first
    assert build(name, seed=4).SerializeToString() != first


def test_values_do_not_depend_on_the_order_in_which_they_are_read() -> None:
    forwards, backwards = (NETWORKS["lenet"]().graph.initializers for _ in range(2))
    values = {name: forwards[name].const_value.numpy() for name in forwards}
    for name in reversed(list(backwards)):
        np.testing.assert_array_equal(backwards[name].const_value.numpy(), values[name])


def test_no_two_layers_of_one_shape_begin_equal() -> None:
    initializers = NETWORKS["resnet18"](width=4, size=32).graph.initializers
    first, second = (initializers[f"layer1.{i}.conv1.weight"].const_value.numpy() for i in (0, 1))
    assert not np.any(first == second)


def test_graphs_needs_neither_dsd_ort_nor_a_framework() -> None:
    code = "import sys, graphs; print({'dsd_ort', 'torch', 'tensorflow', 'onnxruntime', 'jax'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"


def test_the_command_lists_every_network_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(NETWORKS)
    (line,) = (line for line in lines if line.startswith("resnet18 "))
    assert "11,689,512" in line
    assert "arXiv 1512.03385" in line


def test_the_command_writes_what_the_function_returns(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.onnx"
    main(["digits-cnn", "-o", str(path), "--seed", "5", "--width", "4"])
    assert path.read_bytes() == build("digits-cnn", seed=5).SerializeToString()
    assert "digits-cnn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet6", "-o", "x"], "invalid choice"),
        (["lenet"], "-o/--output"),
        (["digits-cnn", "-o", "x", "--size", "9"], "--size"),
        (["lenet", "-o", "x", "--classes", "0"], "--classes 0"),
        (["lenet", "-o", "x", "--seed", "-1"], "--seed -1"),
        (["lenet", "-o", "x", "--size", "11"], "at least 12×12"),
        (["digits-cnn", "-o", "no/such/folder/x"], "no/such/folder"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(
    arguments: list[str], message: str, tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
