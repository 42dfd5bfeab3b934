"""Bad input: one message that says what, where and what to do, exit status 3, and nothing written or lost."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import safetensors.numpy

from tests.cli.conftest import Command, snapshot
from tests.models import cnn_data, write_cnn

PREPARE = ("prepare", "model.onnx", "-o", "new")
TRAIN = ("train", "run", "--data", "data.npz", "--threads", 1)


def refuse(dsd_ort: Command, folder: Path, arguments: tuple[object, ...], *texts: str) -> str:
    """Runs a command that must fail in the one right way; returns its message."""
    before = snapshot(folder)
    answer = dsd_ort(*arguments)
    assert answer.status == 3, answer
    assert answer.err.startswith("dsd-ort: ") or "\ndsd-ort: " in answer.err
    assert "Traceback" not in answer.err
    assert "  fix:   " in answer.err
    for text in texts:
        assert text in answer.err
    assert answer.out == ""
    assert snapshot(folder) == before
    return answer.err


# --- models


def test_no_such_model(dsd_ort: Command, folder: Path) -> None:
    for command in (("inspect", "none.onnx"), ("prepare", "none.onnx", "-o", "new"), ("verify", "none.onnx", "x.onnx")):
        refuse(dsd_ort, folder, command, "none.onnx")


@pytest.mark.parametrize("content", [b"", b"not an onnx file at all", b"\x00" * 100, b"PK\x03\x04zip"])
def test_a_file_that_is_not_onnx(dsd_ort: Command, folder: Path, content: bytes) -> None:
    (folder / "model.onnx").write_bytes(content)
    refuse(dsd_ort, folder, PREPARE, "model.onnx")
    refuse(dsd_ort, folder, ("inspect", "model.onnx"), "model.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_model(dsd_ort: Command, folder: Path, share: float) -> None:
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[: int(len(content) * share)])
    refuse(dsd_ort, folder, PREPARE, "model.onnx", "truncated")


def test_missing_and_short_external_data(dsd_ort: Command, folder: Path) -> None:
    model = onnx.load("model.onnx")
    onnx.save(model, "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    weights = (folder / "weights.bin").read_bytes()
    (folder / "weights.bin").write_bytes(weights[:-4])
    refuse(dsd_ort, folder, PREPARE, "'weights.bin' is too short")
    (folder / "weights.bin").unlink()
    refuse(dsd_ort, folder, PREPARE, "'weights.bin' is missing")


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ("y = Swoosh (h)", "Swoosh"),
        ("y = my.domain.Magic (h)", "Magic"),
        ("z = ArgMax <axis = 1> (h) y = Cast <to = 1> (z)", "ArgMax"),
    ],
)
def test_an_operator_that_cannot_be_trained(dsd_ort: Command, folder: Path, node: str, text: str) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17, "my.domain" : 1]>
        g (float[N, 3, 3] x) => (float[N, 3] y) <float[3, 3] w = {{1,2,3,4,5,6,7,8,9}}>
        {{ h = MatMul (x, w) {node} }}"""
    )
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    refuse(dsd_ort, folder, (*PREPARE, "--loss", "mse"), text)


def test_an_output_that_is_not_there(dsd_ort: Command, folder: Path) -> None:
    refuse(dsd_ort, folder, (*PREPARE, "--output", "score"), "no output 'score'", "did you mean 'scores'?")


# --- recipes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("batchsize = 3\n", ("'batchsize'", "did you mean 'batch_size'?")),
        ("batch_size = 0\n", ("batch_size = 0",)),
        ("batch_size = \n", ("not TOML",)),
        ('freeze = ["conv9*"]\n', ("'conv9*' matches no parameter",)),
        ('freeze = ["role:biass"]\n', ("'role:biass' matches no parameter", "the roles are")),
        ('freeze = ["*"]\n', ("nothing to train",)),
        ('[prune]\nexclude = ["*"]\n', ("no parameter may be pruned",)),
        (
            '[prune]\nlayers = { "fc.weigth" = 0.5 }\n',
            ("'fc.weigth' matches no parameter", "did you mean 'fc.weight'?"),
        ),
        ('[optimizer]\ngroups = [{ match = ["nothing"] }]\n', ("'nothing' matches no parameter",)),
        ('[loss]\nname = "mae"\n', ("loss.name", "'mae'")),
        ("[loss]\nclass_weights = [1.0, 2.0]\n", ("class_weights",)),
    ],
)
def test_a_wrong_recipe(dsd_ort: Command, folder: Path, text: str, told: tuple[str, ...]) -> None:
    phases = (folder / "recipe.toml").read_text().replace("batch_size = 8\n", "")
    (folder / "recipe.toml").write_text(text + phases)
    refuse(dsd_ort, folder, (*PREPARE, "--recipe", "recipe.toml"), *told)


@pytest.mark.parametrize("sparsity", ["1.0", "-0.1", "30", "nan"])
def test_a_sparsity_outside_of_its_range(dsd_ort: Command, folder: Path, sparsity: str) -> None:
    refuse(dsd_ort, folder, (*PREPARE, "--set", f"phase.0.sparsity={sparsity}"), "is outside [0, 1)")


@pytest.mark.parametrize("setting", ["optimizer", "nothing.at.all=1", "phase.7.epochs=1", "batch_size.x=1", "seed=-1"])
def test_a_setting_that_names_nothing(dsd_ort: Command, folder: Path, setting: str) -> None:
    refuse(dsd_ort, folder, (*PREPARE, "--set", setting))


def test_no_such_recipe(dsd_ort: Command, folder: Path) -> None:
    refuse(dsd_ort, folder, (*PREPARE, "--recipe", "none.toml"), "none.toml", "No such file")


# --- data

GOOD = cnn_data(20)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"image": GOOD["image"][:, :, :5], "label": GOOD["label"]}, ("'image'", "6")),
        ({"image": GOOD["image"][:, 0, 0], "label": GOOD["label"]}, ("'image'",)),
        ({"image": GOOD["image"].astype("U8"), "label": GOOD["label"]}, ("'image'",)),
        ({"image": GOOD["image"], "label": GOOD["label"] + 0.5}, ("'label'",)),
        ({"image": GOOD["image"], "label": GOOD["label"] + 1}, ("'label'", "3")),
        ({"image": GOOD["image"], "label": GOOD["label"] - 1}, ("'label'", "-1")),
        ({"image": GOOD["image"], "label": GOOD["label"][:-1]}, ("20", "19")),
        ({"image": GOOD["image"][:0], "label": GOOD["label"][:0]}, ("empty",)),
        ({"image": GOOD["image"]}, ("label",)),
        (
            {"image": np.where(GOOD["image"] > 1, np.nan, GOOD["image"]).astype(np.float32), "label": GOOD["label"]},
            ("nan",),
        ),
    ],
    ids=["shape", "rank", "dtype", "float-labels", "label-high", "label-low", "lengths", "empty", "no-label", "nan"],
)
def test_data_that_does_not_fit(
    dsd_ort: Command, prepared: Path, arrays: dict[str, Any], told: tuple[str, ...]
) -> None:
    np.savez(prepared / "data.npz", **arrays)
    refuse(dsd_ort, prepared, TRAIN, *told)
    refuse(dsd_ort, prepared, ("evaluate", "model.onnx", "--data", "data.npz"), *told)


def test_wrong_names_are_told_with_the_right_ones(dsd_ort: Command, prepared: Path) -> None:
    np.savez(prepared / "data.npz", imagee=GOOD["image"], extra=GOOD["image"], labels=GOOD["label"])
    refuse(dsd_ort, prepared, TRAIN, "imagee", "image")


@pytest.mark.parametrize("spec", ["none.npz", "no_such_module:data", "dsd_ort:no_such_function", "."])
def test_no_such_data(dsd_ort: Command, prepared: Path, spec: str) -> None:
    refuse(dsd_ort, prepared, ("train", "run", "--data", spec))


def test_damaged_data(dsd_ort: Command, prepared: Path) -> None:
    content = (prepared / "data.npz").read_bytes()
    (prepared / "data.npz").write_bytes(content[: len(content) // 2])
    refuse(dsd_ort, prepared, TRAIN, "data.npz")


def fix_batch(size: int) -> None:
    """Fixes the batch size of model.onnx, and subtracts the batch's mean, so that it can be no other."""
    model = onnx.load("model.onnx")
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = size
    mean = onnx.helper.make_node("ReduceMean", ["image"], ["mean"], "mean", axes=[0])
    model.graph.node[0].input[0] = "centred"
    model.graph.node.insert(0, onnx.helper.make_node("Sub", ["image", "mean"], ["centred"], "centre"))
    model.graph.node.insert(0, mean)
    onnx.save(model, "model.onnx")


def test_a_batch_that_the_model_fixes(dsd_ort: Command, folder: Path) -> None:
    fix_batch(4)
    arguments = ("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml")
    refuse(dsd_ort, folder, arguments, "the batch size is fixed at 4", "ReduceMean 'mean'", "batch_size = 4")


# --- training


def test_a_loss_that_diverges_stops_at_the_step_and_keeps_the_last_good_checkpoint(
    dsd_ort: Command, folder: Path
) -> None:
    settings = ("--set", "phase.1.learning_rate=1e30", "--set", "phase.1.epochs=9")
    assert dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml", *settings).status == 0
    answer = dsd_ort(*TRAIN)
    assert answer.status == 3
    assert "Traceback" not in answer.err
    assert "the first tensor that is not finite is" in answer.err or "the weight" in answer.err
    assert "the last good checkpoint is kept" in answer.err
    state = safetensors.numpy.load_file(folder / "run" / "checkpoint.safetensors")
    assert all(np.isfinite(value).all() for value in state.values())
    assert dsd_ort("export", "run", "-o", "first-phase.onnx").status == 0


def test_training_twice_and_resuming_what_never_began(dsd_ort: Command, prepared: Path) -> None:
    refuse(dsd_ort, prepared, (*TRAIN, "--resume"), "no such checkpoint", "train the run first")
    assert dsd_ort(*TRAIN).status == 0
    refuse(dsd_ort, prepared, TRAIN, "has been trained already", "--resume")


def test_a_monitor_without_data(dsd_ort: Command, folder: Path) -> None:
    assert dsd_ort(*PREPARE, "--set", "monitor=top-1").status == 0
    refuse(dsd_ort, folder, ("train", "new", "--data", "data.npz"), "monitor = 'top-1'", "--eval-data")


# --- run folders


def test_a_run_folder_that_exists_is_kept(dsd_ort: Command, prepared: Path) -> None:
    refuse(dsd_ort, prepared, ("prepare", "model.onnx", "-o", "run"), "exists already", "choose another")
    (prepared / "file").write_text("mine")
    refuse(dsd_ort, prepared, ("prepare", "model.onnx", "-o", "file"), "exists already")
    refuse(dsd_ort, prepared, ("prepare", "model.onnx", "-o", "file/run"))


def test_what_is_no_run_folder(dsd_ort: Command, folder: Path) -> None:
    (folder / "empty").mkdir()
    for name in ("none", "empty", "model.onnx"):
        refuse(dsd_ort, folder, ("train", name, "--data", "data.npz"), "run folder", "dsd-ort prepare")
        refuse(dsd_ort, folder, ("export", name, "-o", "final.onnx"), "run folder")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": "x"}'])
def test_a_damaged_manifest(dsd_ort: Command, prepared: Path, content: str) -> None:
    (prepared / "run" / "manifest.json").write_text(content)
    refuse(dsd_ort, prepared, TRAIN, "manifest")


def test_a_manifest_of_a_later_version(dsd_ort: Command, prepared: Path) -> None:
    path = prepared / "run" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    refuse(dsd_ort, prepared, TRAIN, "format 99")


def test_graphs_that_are_missing_or_changed(dsd_ort: Command, prepared: Path) -> None:
    graph = prepared / "run" / "graphs" / "step.onnx"
    graph.write_bytes(graph.read_bytes() + b"\x00")
    refuse(dsd_ort, prepared, TRAIN, "was changed", "step.onnx")


def test_a_run_folder_of_another_model(dsd_ort: Command, trained: Path) -> None:
    """Its source, its checkpoint and its weights are those of another run."""
    write_cnn(trained / "other.onnx", seed=5)
    assert dsd_ort("prepare", "other.onnx", "-o", "other", "--recipe", "recipe.toml").status == 0
    assert dsd_ort("train", "other", "--data", "data.npz").status == 0
    other, run = trained / "other", trained / "run"
    for name in ("checkpoint.safetensors", "phases/1-dense.safetensors", "phases/2-sparse.safetensors"):
        shutil.copy(other / name, run / name)
    refuse(dsd_ort, trained, (*TRAIN, "--resume"), "belong to another model or recipe")
    refuse(dsd_ort, trained, ("export", "run", "-o", "final.onnx"), "belong to another model or recipe")
    refuse(dsd_ort, trained, ("evaluate", "run", "--data", "data.npz"), "belong to another model or recipe")
    shutil.copy(trained / "other.onnx", other / "source" / "other.onnx")
    shutil.copy(trained / "model.onnx", other / "source" / "other.onnx")
    refuse(dsd_ort, trained, ("export", "other", "-o", "final.onnx"), "not the one that was prepared")


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"\xff" * 4096])
def test_damaged_checkpoints(dsd_ort: Command, trained: Path, content: bytes) -> None:
    (trained / "run" / "checkpoint.safetensors").write_bytes(content)
    refuse(dsd_ort, trained, (*TRAIN, "--resume"), "the checkpoint is damaged", "dsd-ort fsck")


def test_a_safetensors_file_that_is_no_checkpoint(dsd_ort: Command, trained: Path) -> None:
    safetensors.numpy.save_file({"a": np.zeros(3)}, trained / "run" / "checkpoint.safetensors")
    refuse(dsd_ort, trained, (*TRAIN, "--resume"), "the checkpoint is damaged", "dsd-ort fsck")


# --- export


def test_exporting_what_is_not_there_yet(dsd_ort: Command, prepared: Path) -> None:
    refuse(dsd_ort, prepared, ("export", "run", "-o", "final.onnx"), "no phase of the run is complete", "dsd-ort train")
    refuse(dsd_ort, prepared, ("export", "run", "-o", "final.onnx", "--phase", 1), "no such checkpoint")
    refuse(dsd_ort, prepared, ("export", "run", "-o", "final.onnx", "--phase", 7), "no phase 7", "give 1 to 2")


def test_exporting_over_the_source_or_a_folder(dsd_ort: Command, trained: Path) -> None:
    refuse(dsd_ort, trained, ("export", "run", "-o", "run/source/model.onnx"), "never overwritten")
    refuse(dsd_ort, trained, ("export", "run", "-o", "run"), "is a folder")
    refuse(dsd_ort, trained, ("export", "run", "-o", "data.npz/final.onnx"), "cannot be written")


# --- usage


@pytest.mark.parametrize(
    "arguments",
    [("train",), ("train", "run"), ("prepare", "model.onnx"), ("nothing",), ("verify", "a"), ("demo", "--x")],
)
def test_wrong_usage_is_status_2(dsd_ort: Command, folder: Path, arguments: tuple[str, ...]) -> None:
    answer = dsd_ort(*arguments)
    assert answer.status == 2
    assert "Usage: " in answer.err


# --- no room, and no rights


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Sets the largest size that a file may be written to, as a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_preparing_without_room_leaves_nothing(
    dsd_ort: Command, folder: Path, small_files: Callable[[int], None]
) -> None:
    small_files(2000)
    refuse(dsd_ort, folder, PREPARE, "the run folder cannot be written")
    assert sorted(path.name for path in folder.iterdir()) == ["data.npz", "model.onnx", "recipe.toml"]


def test_exporting_without_room_keeps_what_was_there(
    dsd_ort: Command, trained: Path, small_files: Callable[[int], None]
) -> None:
    (trained / "final.onnx").write_bytes(b"the best I had")
    small_files(1000)
    refuse(dsd_ort, trained, ("export", "run", "-o", "final.onnx"), "the model cannot be written")


def test_a_checkpoint_without_room_is_told_and_training_goes_on_later(
    dsd_ort: Command, prepared: Path, small_files: Callable[[int], None]
) -> None:
    small_files(3000)
    answer = dsd_ort(*TRAIN)
    assert answer.status == 3
    assert "the checkpoint cannot be written" in answer.err
    assert "Traceback" not in answer.err
    assert not list((prepared / "run").rglob(".*"))
    small_files(100_000)
    assert dsd_ort(*TRAIN).status == 0


def test_a_journal_without_room_is_told_and_training_goes_on_later(
    dsd_ort: Command, prepared: Path, small_files: Callable[[int], None]
) -> None:
    (prepared / "run" / "journal.jsonl").write_text("\n" * 50_000)
    small_files(50_000)
    answer = dsd_ort(*TRAIN)
    assert answer.status == 3
    assert "the journal cannot be written" in answer.err
    assert "--resume" in answer.err
    assert "Traceback" not in answer.err
    small_files(100_000)
    assert dsd_ort(*TRAIN, "--resume").status == 0
    assert dsd_ort("export", "run", "-o", "final.onnx").status == 0


def test_what_is_refused_before_training_leaves_no_journal(dsd_ort: Command, prepared: Path) -> None:
    refuse(dsd_ort, prepared, (*TRAIN, "--resume"), "no such checkpoint")
    assert not (prepared / "run" / "journal.jsonl").exists()


# --- more that does not fit


def test_a_metric_that_does_not_fit_the_loss(dsd_ort: Command, folder: Path) -> None:
    told = ("the metric 'top-1' does not fit the loss 'mse'", "loss, mean-error")
    refuse(dsd_ort, folder, (*PREPARE, "--loss", "mse", "--set", 'metrics=["top-1"]'), *told)
    refuse(dsd_ort, folder, (*PREPARE, "--loss", "mse", "--set", "monitor=top-1"), *told)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("batch_size=many", "batch_size is wrong"),
        ("loss=mse", "loss is wrong"),
        ("phase=3", "phase is wrong"),
        ("optimizer.weight_decay=-1", "weight_decay is negative"),
        ("optimizer.weight_decay=nan", "not finite"),
        ("phase.0.learning_rate=inf", "infinite learning rate"),
        ("optimizer.epsilon=0", "epsilon must be positive"),
        ("phase.0.kind=thin", "phase[0].kind is wrong"),
    ],
)
def test_a_setting_of_a_wrong_type_or_value(dsd_ort: Command, folder: Path, setting: str, told: str) -> None:
    refuse(dsd_ort, folder, (*PREPARE, "--set", setting), told)


def test_images_of_a_size_that_the_model_cannot_take(dsd_ort: Command, folder: Path) -> None:
    """The model leaves the size open, and a layer behind does not: ONNX Runtime finds it at the first step."""
    model = onnx.load("model.onnx")
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "size"
    onnx.save(model, "model.onnx")
    np.savez("data.npz", image=np.pad(GOOD["image"], ((0, 0), (0, 0), (0, 9), (0, 9))), label=GOOD["label"])
    refuse(dsd_ort, folder, ("evaluate", "model.onnx", "--data", "data.npz"), "Gemm", "the size that the model")
    assert dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml").status == 0
    answer = dsd_ort(*TRAIN)
    assert answer.status == 3
    assert "Gemm" in answer.err
    assert "Traceback" not in answer.err


def test_evaluation_data_that_leaves_a_fixed_batch_unfilled(dsd_ort: Command, folder: Path) -> None:
    fix_batch(5)
    np.savez("test.npz", **cnn_data(12))
    sizes = ("--set", "batch_size=5", "--set", "data.drop_last=true")
    assert dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml", *sizes).status == 0
    refuse(dsd_ort, folder, (*TRAIN, "--eval-data", "test.npz"), "a multiple of 5 examples")


def test_images_where_labels_should_be(dsd_ort: Command, prepared: Path) -> None:
    for what, axes in (("images", 3), ("labels", 3)):  # both files hold images
        shape = (20, 6, 6)
        header = bytes([0, 0, 8, axes]) + np.array(shape, ">u4").tobytes()
        (prepared / f"train-{what}-idx{axes}-ubyte").write_bytes(header + bytes(20 * 36))
    refuse(dsd_ort, prepared, ("train", "run", "--data", "train"), "'labels'", "label 'label'")


def test_the_tensor_that_went_bad_first_is_named_in_the_order_of_computation(dsd_ort: Command, folder: Path) -> None:
    """Huge finite images: the first convolution's output is the first that is infinite, not what follows from it."""
    np.savez("data.npz", image=np.sign(GOOD["image"]) * np.float32(3e38), label=GOOD["label"])
    assert dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml").status == 0
    answer = dsd_ort(*TRAIN)
    assert answer.status == 3
    assert "the loss became nan in phase 1, at update 1" in answer.err
    assert "the first tensor that is not finite is 'a', the output of Conv" in answer.err


def test_a_training_begun_again_counts_only_itself(dsd_ort: Command, trained: Path) -> None:
    """Somebody removed the checkpoint to start from the beginning."""
    (trained / "run" / "checkpoint.safetensors").unlink()
    assert dsd_ort(*TRAIN).status == 0
    assert len(json.loads(dsd_ort(*TRAIN, "--resume", "--json").out)) == 2


def test_a_journal_with_foreign_lines_is_read_past_them(dsd_ort: Command, trained: Path) -> None:
    with (trained / "run" / "journal.jsonl").open("ab") as file:
        file.write(b'[1]\n"text"\n{"no": "event"}\n\xff\xfe\n')
    assert dsd_ort("export", "run", "-o", "final.onnx").status == 0
