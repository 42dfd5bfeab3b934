"""compare: both trainings, their table, and going on after every kind of stop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dsd_ort as package
from dsd_ort import api
from dsd_ort.errors import DsdError, RecipeError, RunError, Stopped
from dsd_ort.run import keeping
from dsd_ort.run.journal import read
from tests.cli.conftest import Command, snapshot
from tests.cli.test_bad_input import refuse
from tests.models import cnn_data, write_cnn

COMPARE = ("compare", "model.onnx", "--recipe", "recipe.toml", "--data", "data.npz", "--eval-data", "test.npz")
TRAIN, TEST = cnn_data(20), cnn_data(12, seed=2)
PHASES = [
    {"kind": "dense", "epochs": 2, "learning_rate": 0.05},
    {"kind": "sparse", "sparsity": 0.3, "epochs": 1, "learning_rate": 0.05},
    {"kind": "dense", "epochs": 1, "learning_rate": 0.02},
]


def recipe(*phases: dict[str, Any], **changes: Any) -> package.Recipe:
    return package.Recipe.from_dict({"batch_size": 8, "phase": list(phases or PHASES), **changes})


def compare(folder: Path, wanted: package.Recipe | None = None, **options: Any) -> package.Comparison:
    model = folder.parent / "model.onnx"
    return package.compare(model, folder, wanted or recipe(), TRAIN, TEST, threads=1, **options)


def trained(folder: Path) -> dict[str, bytes]:
    """What both trainings ended with; checkpoints and the report hold times, hidden files are what a kill left."""
    return {
        name: content
        for name, content in snapshot(folder).items()
        if Path(name).name not in ("report.json", keeping.CHECKPOINT) and not name.startswith(".")
    }


@pytest.fixture
def held_out(folder: Path) -> Path:
    """The current folder, with ``test.npz`` too."""
    np.savez(folder / "test.npz", **TEST)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that nobody disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    write_cnn(folder / "model.onnx", dropout=True)
    compare(folder / "comparison")
    return folder / "comparison"


def test_the_table_has_every_phase_of_both_trainings(dsd_ort: Command, held_out: Path) -> None:
    answer = dsd_ort(*COMPARE, "-o", "out", "--threads", 1)
    assert answer.status == 0, answer
    assert [part in answer.out for part in ("loss ↓", "top-1 ↑")] == [True, True]
    rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in answer.out.splitlines() if "│" in line]
    assert rows == [
        ["DSD", "1 dense"],
        ["DSD", "2 sparse"],
        ["dense only", "1 dense"],
        ["dense only", "2 dense"],
    ]
    assert "70.3 %" in answer.out
    assert "out/final.onnx is the same graph" in answer.out
    assert "final.onnx in plain inference: loss" in answer.out
    assert [line for line in answer.err.splitlines() if line.startswith(("DSD", "dense only", "going on"))] == [
        "DSD: out/dsd",
        "dense only: out/dense-only; up to the end of phase 1 it is the same",
    ]


def test_a_complete_comparison_is_only_shown_again(dsd_ort: Command, held_out: Path) -> None:
    first = dsd_ort(*COMPARE, "-o", "out", "--threads", 1)
    before = snapshot(held_out)
    (held_out / "data.npz").unlink()
    second = dsd_ort(*COMPARE, "-o", "out", "--threads", 1)
    assert second.out == first.out
    assert second.err == ""
    assert snapshot(held_out) == {name: content for name, content in before.items() if name != "data.npz"}


def test_json_is_the_report_and_where_the_model_is(dsd_ort: Command, held_out: Path) -> None:
    answer = dsd_ort(*COMPARE, "-o", "out", "--json")
    assert (answer.status, answer.err) == (0, "")
    found = json.loads(answer.out)
    assert (found.pop("final"), found.pop("same"), found.pop("worse")) == ("out/final.onnx", True, False)
    assert found == json.loads((held_out / "out" / "report.json").read_text())
    assert [(row["training"], row["phase"]) for row in found["rows"]] == [
        ("DSD", 1),
        ("DSD", 2),
        ("dense only", 1),
        ("dense only", 2),
    ]
    assert found["metrics"] == pytest.approx(found["rows"][1]["metrics"], rel=1e-5)


def test_a_model_that_is_trained_already_is_measured_as_it_came(dsd_ort: Command, held_out: Path) -> None:
    settings = ("--set", "phase.0.kind=sparse", "--set", "phase.0.sparsity=0.2")
    answer = dsd_ort(*COMPARE, *settings, "-o", "out", "--json")
    rows = json.loads(answer.out)["rows"]
    measured = json.loads(
        dsd_ort("evaluate", "model.onnx", "--data", "test.npz", "--recipe", "recipe.toml", "--json").out
    )
    assert [row["training"] for row in rows] == ["as it came", "DSD", "DSD", "dense only", "dense only"]
    assert rows[0]["metrics"] == measured
    assert (rows[0]["density"], rows[0]["seconds"]) == (1.0, 0.0)
    again = dsd_ort(*COMPARE, *settings, "-o", "out")
    [line] = [line for line in again.out.splitlines() if "as it came" in line]
    assert f" {measured['loss']:.4f} " in line


def test_a_final_model_that_is_worse_than_the_one_that_came_is_called_so(dsd_ort: Command, held_out: Path) -> None:
    """The rest of the table and which file is shipped stay as they are."""
    better = dsd_ort(*COMPARE, "-o", "better", "--threads", 1)
    assert "worse" not in better.out and json.loads((held_out / "better" / "report.json").read_text())["came"]
    wild = ("--set=phase.1.learning_rate=20.0",)
    answer = dsd_ort(*COMPARE, *wild, "-o", "wild", "--threads", 1)
    assert answer.status == 0, answer
    came = dsd_ort("evaluate", "model.onnx", "--data", "test.npz", "--recipe", "recipe.toml").out.strip()
    last = answer.out.splitlines()[-1]
    assert last == f"that is worse than the model as it came: {came}; keep the file you had"
    assert f"as it came: {came}" in answer.err
    found = json.loads(dsd_ort(*COMPARE, *wild, "-o", "wild", "--json").out)
    assert found["worse"] and found["came"]["loss"] < found["metrics"]["loss"]


def test_a_report_of_an_earlier_version_is_shown_as_it_is(dsd_ort: Command, held_out: Path) -> None:
    first = dsd_ort(*COMPARE, "-o", "out", "--threads", 1)
    path = held_out / "out" / "report.json"
    old = json.loads(path.read_text())
    del old["came"]
    path.write_text(json.dumps(old))
    assert dsd_ort(*COMPARE, "-o", "out").out == first.out
    found = json.loads(dsd_ort(*COMPARE, "-o", "out", "--json").out)
    assert (found["came"], found["worse"]) == ({}, False)


def test_the_dense_only_training_is_what_one_alone_ends_with(finished: Path, tmp_path: Path) -> None:
    program = package.prepare(finished.parent / "model.onnx", tmp_path / "alone", recipe().dense_only())
    package.train(program.folder, TRAIN, eval_data=TEST, threads=1)
    assert trained(finished / "dense-only") == trained(program.folder)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_stopped_anywhere_and_called_again_it_ends_with_the_same_bytes(
    finished: Path, tmp_path_factory: pytest.TempPathFactory, stops: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("stopped")
    write_cnn(folder / "model.onnx", dropout=True)
    for stop in stops:
        asked = iter(range(stop))
        try:
            compare(folder / "comparison", stop=lambda asked=asked: next(asked, None) is None)
        except Stopped:
            continue
    found = compare(folder / "comparison")
    assert trained(folder / "comparison") == trained(finished)
    assert [row.metrics for row in found.rows] == [row.metrics for row in compare(finished).rows]


@pytest.mark.parametrize("name", ["training.fork", "compare.export", "compare.evaluate"])
def test_killed_between_its_steps_it_goes_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    write_cnn(tmp_path / "model.onnx", dropout=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"dsd_ort.api.comparison.{name}", killed)
        compare(tmp_path / "comparison")
    compare(tmp_path / "comparison")
    assert trained(tmp_path / "comparison") == trained(finished)


def test_a_run_that_somebody_trained_by_hand_is_taken_as_it_is(finished: Path, tmp_path: Path) -> None:
    """Then there is nothing to fork from, and dense only is trained from its beginning."""
    write_cnn(tmp_path / "model.onnx", dropout=True)
    program = package.prepare(tmp_path / "model.onnx", tmp_path / "comparison" / "dsd", recipe())
    package.train(program.folder, TRAIN, eval_data=TEST, threads=1)
    compare(tmp_path / "comparison")
    assert trained(tmp_path / "comparison") == trained(finished)


def test_ctrl_c_saves_and_the_same_command_goes_on(held_out: Path) -> None:
    np.savez(held_out / "data.npz", **cnn_data(4000))
    command = [sys.executable, "-m", "dsd_ort", *COMPARE, "-o", "out", "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, cwd=held_out, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
    )
    deadline = time.monotonic() + 60
    while not any((e["event"], e.get("phase")) == ("progress", 2) for e in read(held_out / "out" / "dense-only")):
        assert process.poll() is None, "training ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1].decode()
    assert process.returncode == 130, errors
    assert "stopped; go on with: the same command" in errors
    assert "Traceback" not in errors
    again = subprocess.run(command, cwd=held_out, capture_output=True, env=environment, check=True)
    assert b"dense only: out/dense-only" in again.stderr
    assert b"DSD: " not in again.stderr
    assert re.search(rb"going on from update \d+", again.stderr)
    assert (held_out / "out" / "final.onnx").exists()


@pytest.mark.slow
def test_killed_again_and_again_at_random_it_ends_with_the_same_bytes(held_out: Path) -> None:
    rng, kills = np.random.default_rng(0), 0
    np.savez(held_out / "data.npz", **cnn_data(4000))
    longer = [f"--set=phase.{phase}.epochs=6" for phase in (0, 1)]
    command = [
        sys.executable,
        "-m",
        "dsd_ort",
        *COMPARE,
        *longer,
        "--threads",
        "1",
        "--checkpoint-seconds",
        "0.05",
        "-o",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, "undisturbed"], cwd=held_out, env=environment, check=True)
    for trial in range(5):
        for attempt in range(60):
            process = subprocess.Popen([*command, f"killed{trial}"], cwd=held_out, env=environment)
            try:
                process.wait(timeout=float(rng.uniform(1, 2.5)) if attempt < 50 else None)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
        assert process.returncode == 0
        assert trained(held_out / f"killed{trial}") == trained(held_out / "undisturbed")
    assert kills >= 10


def test_another_recipe_or_model_in_the_folder_is_refused_with_what_differs(dsd_ort: Command, held_out: Path) -> None:
    assert dsd_ort(*COMPARE, "-o", "out").status == 0
    more = ("--set", "phase.0.epochs=2", "--seed", 1)
    told = "the folder holds another comparison: the recipe's phase, the recipe's seed differ"
    refuse(dsd_ort, held_out, (*COMPARE, *more, "-o", "out"), told, "choose another folder")
    write_cnn(held_out / "model.onnx", seed=5)
    refuse(dsd_ort, held_out, (*COMPARE, "-o", "out"), "the folder holds another comparison: the model differs")


def test_files_of_others_are_not_replaced(dsd_ort: Command, held_out: Path) -> None:
    (held_out / "final.onnx").write_bytes(b"the best I had")
    refuse(dsd_ort, held_out, (*COMPARE, "-o", "."), "would replace", "final.onnx", "choose another folder")
    (held_out / "mine").mkdir()
    (held_out / "mine" / "dsd").write_text("notes")
    refuse(dsd_ort, held_out, (*COMPARE, "-o", "mine"), "exists already")
    refuse(dsd_ort, held_out, (*COMPARE, "-o", "data.npz"), "the folder cannot be made", "choose another folder")


def test_without_a_recipe_the_rates_are_fitted_once_and_kept(dsd_ort: Command, held_out: Path) -> None:
    np.savez(held_out / "data.npz", **cnn_data(200))
    shorter = ("--set", "optimizer.momentum=0.8", "--threads", 1)
    command = ("compare", "model.onnx", *COMPARE[4:], *shorter, "-o", "out")
    first = dsd_ort(*command)
    assert first.status == 0, first
    assert "without a recipe, the rates are fitted: a learning rate of" in first.err
    kept = package.Recipe.load(held_out / "out" / "recipe.toml")
    run = package.Recipe.from_dict(json.loads((held_out / "out" / "dsd" / "manifest.json").read_text())["recipe"])
    assert run == kept
    assert run.phase != package.default_recipe().phase
    assert run.optimizer.momentum == 0.8
    again = dsd_ort(*command)
    assert again.out == first.out and "fitted" not in again.err
    refuse(dsd_ort, held_out, (*command, "--batch-size", 7), "another comparison: the recipe's batch_size differs")


def test_data_too_few_to_fit_rates_take_those_of_the_default_recipe(dsd_ort: Command, held_out: Path) -> None:
    answer = dsd_ort("compare", "model.onnx", *COMPARE[4:], "--threads", 1, "-o", "out")
    assert answer.status == 0, answer
    assert "the rates are those of the default recipe, not fitted: " in answer.err
    assert not (held_out / "out" / "recipe.toml").exists()


def test_a_recipe_without_a_sparse_phase_is_refused(dsd_ort: Command, held_out: Path) -> None:
    dense = ("--set", 'phase=[{kind="dense", epochs=1, learning_rate=0.1}]')
    refuse(dsd_ort, held_out, (*COMPARE, *dense, "-o", "out"), "the recipe has no sparse phase", "dsd-ort train")


def test_what_is_refused_before_the_first_step_leaves_the_folder_free_for_another_recipe(
    dsd_ort: Command, held_out: Path
) -> None:
    sparse = ("--set", "phase.0.kind=sparse", "--set", "phase.0.sparsity=0.5")
    np.savez(held_out / "data.npz", image=TRAIN["image"], label=TRAIN["label"] + 1)
    answer = dsd_ort(*COMPARE, *sparse, "-o", "out")
    assert answer.status == 3
    assert "'label'" in answer.err
    assert not (held_out / "out").exists()
    np.savez(held_out / "data.npz", **TRAIN)
    assert dsd_ort(*COMPARE, "-o", "out").status == 0


def test_evaluation_data_is_asked_for(dsd_ort: Command, held_out: Path) -> None:
    answer = dsd_ort(*COMPARE[:-2], "-o", "out")
    assert answer.status == 2
    assert "--eval-data" in answer.err


def test_a_report_that_is_damaged_or_a_model_that_is_gone_is_made_again(finished: Path, tmp_path: Path) -> None:
    write_cnn(tmp_path / "model.onnx", dropout=True)
    compare(tmp_path / "comparison")
    (tmp_path / "comparison" / "report.json").write_text('{"rows": [{}')
    (tmp_path / "comparison" / "final.onnx").unlink()
    assert len(compare(tmp_path / "comparison").rows) == 6
    assert trained(tmp_path / "comparison") == trained(finished)


def test_a_training_that_diverges_keeps_what_there_is(tmp_path: Path) -> None:
    write_cnn(tmp_path / "model.onnx")
    wild = recipe(PHASES[0], {**PHASES[1], "learning_rate": 1e30})
    for _ in range(2):
        with pytest.raises(DsdError, match=r"finite|became"):
            compare(tmp_path / "comparison", wild)
    assert len(api.phases(tmp_path / "comparison" / "dsd")) == 1


def test_two_at_a_time_in_a_folder_are_refused(tmp_path: Path) -> None:
    write_cnn(tmp_path / "model.onnx")

    def second() -> bool:
        with pytest.raises(RunError, match="another process"):
            compare(tmp_path / "comparison")
        return False

    compare(tmp_path / "comparison", stop=second)


def test_the_python_verb_checks_the_recipe_first(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no sparse phase"):
        package.compare(tmp_path / "none.onnx", tmp_path / "out", recipe(PHASES[0]), TRAIN, TEST)


def test_updates_that_are_left_out_and_more_checkpoints_as_of_train(dsd_ort: Command, held_out: Path) -> None:
    bad = {name: array.copy() for name, array in TRAIN.items()}
    bad["image"][3] = 3e38  # overflows in the first convolution
    np.savez(held_out / "data.npz", **bad)
    refused = dsd_ort(*COMPARE, "-o", "stopped", "--threads", 1)
    assert refused.status == 3 and "--on-nan skip" in refused.err
    answer = dsd_ort(*COMPARE, "-o", "out", "--threads", 1, "--on-nan", "skip", "--keep-checkpoints", 2)
    assert answer.status == 0, answer.err
    rows = [line.split("│")[-2].strip() for line in answer.out.splitlines() if "│ dense only" in line]
    assert "skipped" in answer.out and rows == ["1", "2"], "one an epoch, and the count goes on"
    assert {path.parent.name for path in (held_out / "out").rglob("checkpoint.1.safetensors")} == {"dsd", "dense-only"}
    assert dsd_ort(*COMPARE, "-o", "out").out == answer.out
