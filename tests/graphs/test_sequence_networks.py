"""The networks of captions and speech: sound ONNX, any batch and length, and what they must not see."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import dsd_ort
from graphs import NETWORKS
from graphs.__main__ import count_parameters, main

WORDS, CLASSES, BANDS = 20, 5, 13
SMALL: dict[str, dict[str, int]] = {
    "neuraltalk": {"vocabulary": WORDS, "features": 12, "width": 8},
    "neuraltalk, pictures": {"vocabulary": WORDS, "picture": 16, "maps": 2, "width": 8, "every_step": 1},
    "deepspeech": {"classes": CLASSES, "bands": BANDS, "context": 2, "width": 8},
    "deepspeech, deep": {"classes": CLASSES, "bands": BANDS, "context": 0, "width": 8, "depth": 2, "dropout": 0},
    "deepspeech2": {"classes": CLASSES, "bands": BANDS, "maps": 3, "width": 8, "depth": 2},
}
SPEECH = ["deepspeech", "deepspeech, deep", "deepspeech2"]


def build(name: str, **arguments: int) -> ir.Model:
    return NETWORKS[name.partition(",")[0]](**SMALL[name], **arguments)


def session(model: ir.Model) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])


def feeds(name: str, batch: int, steps: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    if name in SPEECH:
        lengths = np.array([steps, *rng.integers(1, steps + 1, batch - 1)])
        return {"features": rng.standard_normal((batch, steps, BANDS), np.float32), "lengths": lengths}
    image, shape = ("image", (3, 16, 16)) if "picture" in name else ("feature", (12,))
    words = rng.integers(0, WORDS, (batch, steps))
    return {image: rng.standard_normal((batch, *shape), np.float32), "words": words}


def frames(name: str, steps: Any) -> Any:
    """How many of *steps* a network gives scores for."""
    return (steps + 1) // 2 if name == "deepspeech2" else steps


def shapes(values: Any) -> dict[str, list[int | str]]:
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


@pytest.mark.parametrize("name", SMALL)
def test_every_network_is_sound_and_takes_any_batch_and_length(name: str) -> None:
    model = build(name)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 17)]
    logits = shapes(proto.graph.output)["logits"]
    assert logits == ["N", "T_out" if name == "deepspeech2" else "T", CLASSES if name in SPEECH else WORDS]
    assert {"N", "T"} <= {size for shape in shapes(proto.graph.input).values() for size in shape}
    running = session(model)
    for batch, steps in ((2, 7), (3, 4)):
        values, *others = running.run(None, feeds(name, batch, steps))
        assert values.shape == (batch, frames(name, steps), logits[2])
        assert values.std() > 0
        for other in others:
            np.testing.assert_array_equal(other, frames(name, feeds(name, batch, steps)["lengths"]))


@pytest.mark.parametrize(
    ("name", "count", "arguments"),
    [
        ("neuraltalk", 6_800_362, {}),
        ("neuraltalk", 852_476, {"vocabulary": 420, "width": 128, "picture": 64}),
        ("deepspeech", 7_883_805, {}),
        ("deepspeech2", 67_060_077, {}),
    ],
)
def test_networks_train_as_many_parameters_as_is_written(name: str, count: int, arguments: dict[str, int]) -> None:
    assert count_parameters(NETWORKS[name](**arguments)) == count


def test_the_convolutions_of_deep_speech_2_leave_the_bands_that_its_implementations_have() -> None:
    initializers = NETWORKS["deepspeech2"]().graph.initializers
    assert initializers["conv1.weight"].shape == ir.Shape((32, 1, 41, 11))
    assert initializers["conv2.weight"].shape == ir.Shape((32, 32, 21, 11))
    assert initializers["rnns.0.weight_ih"].shape == ir.Shape((2, 1552, 32 * 41))


@pytest.mark.parametrize("bands", [1, 2, 5, 40, 64])
def test_deep_speech_2_takes_any_number_of_bands(bands: int) -> None:
    running = session(NETWORKS["deepspeech2"](bands=bands, width=4, maps=2, depth=1))
    features = np.ones((1, 3, bands), np.float32)
    assert running.run(["logits"], {"features": features, "lengths": np.array([3])})[0].shape == (1, 2, 29)


NORM = ("weight", "bias", "running_mean", "running_var")
RECURRENT = ("weight_ih", "weight_hh", "bias")
NAMES = {
    "neuraltalk": {
        "image_encoder": ("weight", "bias"),
        "word_encoder": ("weight",),
        "lstm": RECURRENT,
        "decoder": ("weight", "bias"),
    },
    "deepspeech, deep": {
        **dict.fromkeys(("fc1", "fc2", "fc3"), ("weight", "bias")),
        **dict.fromkeys(("rnns.0", "rnns.1"), RECURRENT),
        **dict.fromkeys(("fc5", "fc6"), ("weight", "bias")),
    },
    "deepspeech2": {
        **{"conv1": ("weight",), "bn1": NORM, "conv2": ("weight",), "bn2": NORM},
        **{"rnns.0": RECURRENT, "norms.0": NORM, "rnns.1": RECURRENT, "norms.1": NORM},
        "fc": ("weight", "bias"),
    },
}
NAMES["neuraltalk, pictures"] = {
    layer: parameters for i in range(4) for layer, parameters in ((f"cnn.{i}.conv", ("weight",)), (f"cnn.{i}.bn", NORM))
} | NAMES["neuraltalk"]


@pytest.mark.parametrize("name", NAMES)
def test_initializers_are_the_weights_and_training_finds_each_in_its_role(name: str, tmp_path: Path) -> None:
    model = build(name)
    wanted = [f"{layer}.{parameter}" for layer, parameters in NAMES[name].items() for parameter in parameters]
    assert list(model.graph.initializers) == wanted
    ir.save(model, tmp_path / "model.onnx")
    found = dsd_ort.inspect(tmp_path / "model.onnx")
    assert {p.name: p.role for p in found.parameters} == {n: role(n) for n in wanted if ".running_" not in n}
    assert {p.name for p in found.parameters if p.first_conv} == {n for n in wanted if n in FIRST}


FIRST = ("conv1.weight", "cnn.0.conv.weight")


def role(parameter: str) -> str:
    layer, _, last = parameter.rpartition(".")
    if "norms." in layer or "bn" in layer:
        return "norm"
    if last != "weight":
        return "bias" if last == "bias" else "recurrent"
    return "embedding" if layer == "word_encoder" else "kernel" if "conv" in layer else "matrix"


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(name: str) -> None:
    first, same, other = (ir.to_proto(build(name, seed=seed)).SerializeToString() for seed in (3, 3, 4))
    assert first == same
    assert first != other


def test_parameters_of_one_shape_do_not_begin_equal() -> None:
    initializers = build("deepspeech2").graph.initializers
    names = ("rnns.0.weight_hh", "rnns.1.weight_ih", "rnns.1.weight_hh")
    values = [way for name in names for way in initializers[name].const_value.numpy()]
    assert len({way.tobytes() for way in values}) == len(values)


@pytest.mark.parametrize("name", SPEECH)
def test_scores_of_a_sequence_do_not_depend_on_what_stands_behind_its_end(name: str) -> None:
    model = build(name)
    randomise(model)
    running, batch = session(model), feeds(name, 4, 11)
    for features, length in zip(batch["features"], batch["lengths"], strict=True):
        features[length:] = np.nan
    together = running.run(["logits"], batch)[0]
    for i, length in enumerate(batch["lengths"]):
        alone = {"features": batch["features"][i : i + 1, :length], "lengths": np.array([length])}
        (logits,) = running.run(["logits"], alone)
        np.testing.assert_allclose(together[i, : logits.shape[1]], logits[0], rtol=0, atol=1e-5 * np.abs(logits).max())


def randomise(model: ir.Model) -> None:
    """Gives batch norms and biases values of a network in training; those of a new one hide what is added."""
    rng = np.random.default_rng(5)
    for name, value in model.graph.initializers.items():
        if len(value.shape) == 1 or name.endswith("bias"):
            value.const_value = ir.tensor(rng.uniform(0.5, 1.5, value.shape.numpy()).astype(np.float32))


@pytest.mark.parametrize("name", ["neuraltalk", "neuraltalk, pictures"])
def test_a_word_is_scored_by_the_image_and_the_words_before_it_only(name: str) -> None:
    running, given = session(build(name)), feeds(name, 2, 6)
    (logits,) = running.run(None, given)
    later = given | {"words": given["words"].copy()}
    later["words"][:, 4:] = (later["words"][:, 4:] + 1) % WORDS
    (others,) = running.run(None, later)
    np.testing.assert_array_equal(others[:, :4], logits[:, :4])
    assert np.all(np.abs(others[:, 4:] - logits[:, 4:]).max(2) > 0)
    image = next(iter(given))
    (others,) = running.run(None, given | {image: given[image][::-1]})
    assert np.all(np.abs(others - logits).max(2) > 0)


@pytest.mark.parametrize(("name", "count"), [("neuraltalk", 2), ("deepspeech", 4), ("deepspeech, deep", 0)])
def test_dropout_is_a_node_that_training_makes_active(name: str, count: int) -> None:
    nodes = [node.op_type for node in build(name).graph]
    assert nodes.count("Dropout") == count


@pytest.mark.parametrize("name", SMALL)
def test_small_siblings_train_dense_and_sparse_and_come_back(name: str, tmp_path: Path) -> None:
    path, run, batch = tmp_path / "model.onnx", tmp_path / "run", feeds(name, 16, 6)
    ir.save(build(name), path)
    (before, *_) = session(build(name)).run(None, batch)
    batch["label"] = before + np.random.default_rng(1).standard_normal(before.shape, np.float32) + 1
    table = {"batch_size": 8, "loss": {"name": "mse", "output": "logits"}}
    phases = [{"kind": "dense"}, {"kind": "sparse", "sparsity": 0.5}]
    recipe = dsd_ort.Recipe.from_dict(table | {"phase": [p | {"epochs": 4, "learning_rate": 0.05} for p in phases]})
    dsd_ort.prepare(path, run, recipe)
    dense, sparse = dsd_ort.train(run, batch, eval_data=batch, threads=1)
    start = np.mean((before - batch["label"]) ** 2)
    assert max(dense["metrics"]["loss"], sparse["metrics"]["loss"]) < 0.9 * start
    assert dsd_ort.export(run, tmp_path / "final.onnx").same
    assert dsd_ort.verify(path, tmp_path / "final.onnx").same
    final = ir.load(tmp_path / "final.onnx").graph.initializers
    for p in dsd_ort.inspect(path).parameters:
        values = final[p.name].const_value.numpy()
        assert not np.array_equal(values, ir.load(path).graph.initializers[p.name].const_value.numpy()), p.name
        if p.prunable and not p.first_conv:
            assert np.count_nonzero(values) == p.size - round(0.5 * p.size), p.name


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("neuraltalk", {"picture": 24}, "a multiple of 16 pixels, not 24"),
        ("neuraltalk", {"every_step": 2}, "first (every_step 0) or at each step (1), not 2"),
        ("neuraltalk", {"dropout": 100}, "a percentage of 0 to 99, not 100"),
        ("deepspeech", {"dropout": 100}, "a percentage of 0 to 99, not 100"),
    ],
)
def test_impossible_arguments_are_refused(
    name: str, arguments: dict[str, int], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in arguments.items()]
    with pytest.raises(SystemExit):
        main([name, "-o", str(tmp_path / "x.onnx"), *flags])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_takes_every_argument_that_may_be_0(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    arguments = {key: str(value) for key, value in SMALL["deepspeech, deep"].items()}
    main(["deepspeech", "-o", str(path), *(part for key, value in arguments.items() for part in (f"--{key}", value))])
    assert path.read_bytes() == ir.to_proto(build("deepspeech, deep")).SerializeToString()
