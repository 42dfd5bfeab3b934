"""compare as an experiment: what chooses and what measures, going on after every stop, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dsd_ort as package
from dsd_ort.api.comparison.document import Document
from dsd_ort.errors import DataError, DsdError, RecipeError, Stopped
from dsd_ort.run import keeping
from dsd_ort.run.journal import read
from tests.cli.conftest import Command, snapshot
from tests.cli.test_bad_input import refuse
from tests.models import cnn_data, write_cnn

EXPERIMENT = ("compare", "model.onnx", "--recipe", "recipe.toml", "--data", "data.npz", "--eval-data", "test.npz")
TRAIN, TEST = cnn_data(24), cnn_data(40, seed=2)
PHASES = [
    {"kind": "dense", "epochs": 1, "learning_rate": 0.05},
    {"kind": "sparse", "sparsity": 0.3, "epochs": 1, "learning_rate": 0.05},
    {"kind": "dense", "epochs": 1, "learning_rate": 0.02},
]
NAMES = ["dense-only", "early-stopping", "weight-decay", "dsd-0.3", "dsd-0.6", "drop-suspects-0.3", "drop-suspects-0.6"]


def recipe(**changes: Any) -> package.Recipe:
    return package.Recipe.from_dict({"batch_size": 8, "phase": PHASES, **changes})


def experiment(folder: Path, wanted: package.Recipe | None = None, **options: Any) -> package.Experiment:
    model = folder.parent / "model.onnx"
    options = {"data": TRAIN, "eval_data": TEST, "sparsities": (0.3, 0.6), "seeds": 2, "threads": 1, **options}
    return package.experiment(model, folder, wanted or recipe(), **options)


def ended_with(folder: Path) -> dict[str, bytes]:
    """The files of an experiment that do not hold times, hidden ones apart: those are what a kill left."""
    return {
        name: content
        for name, content in snapshot(folder).items()
        if Path(name).name not in ("experiment.json", "experiment.csv", keeping.CHECKPOINT)
        and not Path(name).name.startswith(".")
    }


def measured(document: Document) -> list[tuple[Any, ...]]:
    return [(r.arm, r.seed, r.phase, r.epoch, r.measured, r.density) for r in document.results]


@pytest.fixture
def held_out(folder: Path) -> Path:
    """The current folder, with ``test.npz`` too."""
    np.savez(folder / "test.npz", **TEST)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment that nobody disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    write_cnn(folder / "model.onnx", dropout=True)
    experiment(folder / "experiment")
    return folder / "experiment"


def test_every_arm_has_every_seed_and_the_tables_say_so(dsd_ort: Command, held_out: Path) -> None:
    options = ("--sparsity", "0.3,0.6", "--seeds", 3, "--fresh", "--threads", 1)
    answer = dsd_ort(*EXPERIMENT, *options, "-o", "out")
    assert answer.status == 0, answer
    found = json.loads((held_out / "out" / "experiment.json").read_text())
    arms = ["dense-only", "early-stopping", "weight-decay", "dsd-0.3", "dsd-0.6", "fresh"]
    assert [(r["arm"], r["seed"]) for r in found["results"]] == [(arm, seed) for seed in range(3) for arm in arms]
    rows = list(csv.DictReader((held_out / "out" / "experiment.csv").read_text().splitlines()))
    assert [row["arm"] for row in rows] == ["as it came", *(r["arm"] for r in found["results"])]
    assert float(rows[1]["evaluation_loss"]) == found["results"][0]["measured"]["evaluation"]["loss"]
    titles = ["as it came", "dense only", "dense only, stopped early", "DSD 30 %", "DSD 60 %", "weights drawn anew"]
    assert all(f"│ {title}" in answer.out for title in titles)
    assert "20 examples choose, 20 measure" in answer.err
    assert "15 trainings to go: about" in answer.err and "MB on disk" in answer.err
    assert "dense only, seed 0: out/runs/seed-0/dense-only; 1 of 15, about" in answer.err
    assert "against dense only: top-1: " in answer.out.splitlines()[-1]
    assert "of 3 seeds" in answer.out.splitlines()[-1]
    again = dsd_ort(*EXPERIMENT, *options, "-o", "out")
    assert again.out == answer.out
    assert "trainings to go" not in again.err


def test_json_is_the_document_and_the_table(dsd_ort: Command, held_out: Path) -> None:
    answer = dsd_ort(*EXPERIMENT, "--sparsity", "0.3,0.6", "--threads", 1, "-o", "out", "--json")
    assert (answer.status, answer.err) == (0, "")
    found = json.loads(answer.out)
    assert found.pop("final_file") == "out/final.onnx" and found.pop("same") is True
    assert [row["arm"] for row in found.pop("table")][:2] == ["as it came", "dense-only"]
    assert found == json.loads((held_out / "out" / "experiment.json").read_text())


def test_one_sparsity_and_one_seed_are_the_comparison_that_was(dsd_ort: Command, held_out: Path) -> None:
    simple = dsd_ort(*EXPERIMENT, "--sparsity", "0.6", "--threads", 1, "-o", "one")
    other = dsd_ort(*EXPERIMENT, "--set", "phase.1.sparsity=0.6", "--threads", 1, "-o", "two")
    assert simple.status == 0 and not (held_out / "one" / "experiment.json").exists()
    assert (held_out / "one" / "final.onnx").read_bytes() == (held_out / "two" / "final.onnx").read_bytes()
    assert [line.split("│")[:4] for line in simple.out.splitlines() if "│" in line] == [
        line.split("│")[:4] for line in other.out.splitlines() if "│" in line
    ]


def test_the_recipe_may_say_what_stands_beside_what(dsd_ort: Command, held_out: Path) -> None:
    text = (held_out / "recipe.toml").read_text()
    wish = '[experiment]\nsparsity = [0.3, 0.6]\nseeds = 2\narms = ["dsd"]\n'
    (held_out / "wish.toml").write_text(wish + text.replace("batch_size = 8", "", 1))
    (held_out / "wish.toml").write_text("batch_size = 8\n" + (held_out / "wish.toml").read_text())
    command = ("compare", "model.onnx", "--recipe", "wish.toml", *EXPERIMENT[4:], "--threads", 1)
    assert dsd_ort(*command, "-o", "one").status == 0
    options = ("--sparsity", "0.3,0.6", "--seeds", 2, "--arms", "dsd", "--threads", 1)
    assert dsd_ort(*EXPERIMENT, *options, "-o", "two").status == 0
    assert ended_with(held_out / "one") == ended_with(held_out / "two")
    more = dsd_ort(*command, "--seeds", 3, "-o", "one")
    assert more.status == 0, more
    assert {r.seed for r in found_in(held_out / "one").results} == {0, 1, 2}


def test_a_seed_alone_ends_with_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    """Forked or not: each arm is what its recipe with this seed gives by itself."""
    [found] = [r for r in found_in(finished).results if (r.arm, r.seed) == ("dsd-0.6", 1)]
    phases = [PHASES[0], {**PHASES[1], "sparsity": 0.6}, PHASES[2]]
    wanted = recipe(phase=phases, seed=1, monitor="top-1")
    program = package.prepare(finished.parent / "model.onnx", tmp_path / "alone", wanted)
    package.train(program.folder, TRAIN, threads=1, eval_data=halves()[0])
    alone = package.evaluate(program.folder, halves()[1], best=True)
    assert found.measured.evaluation == alone


def found_in(folder: Path) -> Document:
    from dsd_ort.api.comparison import document

    found = document.read(folder)
    assert found is not None
    return found


def halves() -> list[dict[str, np.ndarray]]:
    """What chooses and what measures of TEST."""
    from dsd_ort.data import Field, open_data, split

    fields = [Field("image", "float32", (None, 1, 6, 6)), Field("label", "int64", (None,), label=True, classes=3)]
    parts = split(open_data(TEST, fields), 0.5, 0)
    return [{name: array[part.indices] for name, array in TEST.items()} for part in (parts.part, parts.rest)]


def test_what_measures_never_chooses(tmp_path: Path) -> None:
    """Poisoned labels in the evaluation data change no byte of what is shipped."""
    write_cnn(tmp_path / "model.onnx")
    select, poisoned = cnn_data(30, seed=3), TEST | {"label": (TEST["label"] + 1) % 3}
    one = experiment(tmp_path / "one", select_data=select, seeds=1)
    two = experiment(tmp_path / "two", select_data=select, seeds=1, eval_data=poisoned)
    assert one.final.read_bytes() == two.final.read_bytes()
    assert one.document.final.arm == two.document.final.arm
    assert one.document.came.evaluation != two.document.came.evaluation


def test_a_part_of_the_training_data_that_chooses_is_trained_on_by_nobody(tmp_path: Path) -> None:
    write_cnn(tmp_path / "model.onnx")
    changed = {name: array.copy() for name, array in TRAIN.items()}
    found = experiment(tmp_path / "one", select=0.25, seeds=1)
    listed = list(csv.DictReader((tmp_path / "one" / "left-out.csv").read_text().splitlines()))
    numbers = [int(row["index"]) for row in listed]
    assert len(numbers) == 6
    changed["image"][numbers] = 0.0
    for run in sorted((tmp_path / "one" / "runs" / "seed-0").iterdir()):
        [event] = [event for event in read(run) if event["event"] == "data"]
        assert event["examples"] == 24 and event["left"].startswith("18-")
    suspects = package.suspects(tmp_path / "one" / "runs" / "seed-0" / "dsd-0.6", TRAIN, threads=1)
    assert suspects.examples == 24
    assert found.document.selection.startswith("6-")


def test_the_final_file_is_the_best_arm_and_seed_on_what_chooses(finished: Path) -> None:
    found = found_in(finished)
    assert found.final is not None and found.monitor == "top-1"
    means = {name: np.mean([r.measured.selection["top-1"] for r in found.results if r.arm == name]) for name in NAMES}
    best = max(means.values())
    if best <= found.came.selection["top-1"]:
        assert found.final.arm == "as it came"
        return
    assert means[found.final.arm] == best
    of_arm = [r for r in found.results if r.arm == found.final.arm]
    assert found.final.measured.selection["top-1"] == max(r.measured.selection["top-1"] for r in of_arm)
    half = halves()[1]
    shipped = package.evaluate(finished / "final.onnx", half, recipe(monitor="top-1"), threads=1)
    assert shipped == pytest.approx(found.final.measured.evaluation, rel=1e-5)


def test_where_nothing_is_better_the_file_ships_as_it_came(dsd_ort: Command, held_out: Path) -> None:
    """Rates that ruin it: every arm is worse, and no byte of the model changes."""
    slow = ("--set=phase.0.epochs=4", "--threads", 1)
    assert dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml", slow[0]).status == 0
    assert dsd_ort("train", "run", "--data", "data.npz", "--threads", 1).status == 0
    assert dsd_ort("export", "run", "-o", "good.onnx").status == 0
    wild = ("--set=phase.0.learning_rate=3.0", "--set=phase.1.learning_rate=3.0")
    command = ("compare", "good.onnx", *EXPERIMENT[2:], "--sparsity", "0.5,0.9", *wild, "--by", "loss", *slow)
    answer = dsd_ort(*command, "-o", "out")
    assert answer.status == 0, answer
    assert (held_out / "out" / "final.onnx").read_bytes() == (held_out / "good.onnx").read_bytes()
    assert "final.onnx is the model as it came: no arm is better on the selection data (loss)" in answer.out


def test_arms_that_diverge_are_in_the_table_and_end_nothing(dsd_ort: Command, held_out: Path) -> None:
    wild = ("--set=phase.0.kind=dense", "--set=phase.1.learning_rate=1e30")
    answer = dsd_ort(
        *EXPERIMENT, *wild, "--sparsity", "0.5,0.9", "--threads", 1, "-o", "out", "--arms", "dense-only,dsd"
    )
    assert answer.status == 0, answer
    assert answer.out.count("(1 diverged)") == 3
    assert "DSD 50 %" in answer.out and "ends without a result" in answer.err
    assert (held_out / "out" / "final.onnx").read_bytes() == (held_out / "model.onnx").read_bytes()
    again = dsd_ort(
        *EXPERIMENT, *wild, "--sparsity", "0.5,0.9", "--threads", 1, "-o", "out", "--arms", "dense-only,dsd"
    )
    assert again.out == answer.out


def test_seeds_arms_and_sparsities_may_be_added_later(finished: Path, tmp_path: Path) -> None:
    write_cnn(tmp_path / "model.onnx", dropout=True)
    experiment(tmp_path / "out", seeds=1, sparsities=(0.6,), kinds=("dsd",))
    first = found_in(tmp_path / "out").results
    experiment(tmp_path / "out")
    assert measured(found_in(tmp_path / "out")) == measured(found_in(finished))
    assert [r.seconds for r in found_in(tmp_path / "out").results if r in first] == [r.seconds for r in first]


def test_only_the_final_files_are_kept(finished: Path, tmp_path: Path) -> None:
    write_cnn(tmp_path / "model.onnx", dropout=True)
    for _ in range(2):
        found = experiment(tmp_path / "out", keep="final")
        assert measured(found.document) == measured(found_in(finished))
        assert not list((tmp_path / "out").glob("runs/*/*"))
    for arm in NAMES:
        file = f"arms/{arm}/final.onnx"
        assert (tmp_path / "out" / file).read_bytes() == (finished / file).read_bytes()
    assert found.final.read_bytes() == (finished / "final.onnx").read_bytes()


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(1, 40), min_size=1, max_size=3))
def test_stopped_anywhere_and_called_again_it_ends_with_the_same_bytes(
    finished: Path, tmp_path_factory: pytest.TempPathFactory, stops: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("stopped")
    write_cnn(folder / "model.onnx", dropout=True)
    for stop in stops:
        asked = iter(range(stop))
        try:
            experiment(folder / "experiment", stop=lambda asked=asked: next(asked, None) is None)
        except Stopped:
            continue
    found = experiment(folder / "experiment")
    assert measured(found.document) == measured(found_in(finished))
    assert ended_with(folder / "experiment") == ended_with(finished)


@pytest.mark.parametrize(
    "name", ["training.fork", "measuring.result", "document.write", "lab.Book._keep_best", "experiment._finished"]
)
def test_killed_between_its_steps_it_goes_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    write_cnn(tmp_path / "model.onnx", dropout=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"dsd_ort.api.comparison.{name}", killed)
        experiment(tmp_path / "experiment")
    experiment(tmp_path / "experiment")
    assert ended_with(tmp_path / "experiment") == ended_with(finished)


def test_side_by_side_it_ends_with_the_same_bytes(dsd_ort: Command, held_out: Path) -> None:
    options = ("--sparsity", "0.3,0.6", "--seeds", 2, "--threads", 1)
    assert dsd_ort(*EXPERIMENT, *options, "-o", "one").status == 0
    answer = dsd_ort(*EXPERIMENT, *options, "-o", "two", "--jobs", 2)
    assert answer.status == 0, answer
    assert ended_with(held_out / "two") == ended_with(held_out / "one")
    assert measured(found_in(held_out / "two")) == measured(found_in(held_out / "one"))
    assert "seed 1: two/runs/seed-1/dense-only;" in answer.err


def test_an_error_in_one_of_the_processes_is_one_message(dsd_ort: Command, held_out: Path) -> None:
    assert dsd_ort(*EXPERIMENT, "--sparsity", "0.3,0.6", "--threads", 1, "-o", "out").status == 0
    run = held_out / "out" / "runs" / "seed-0" / "dsd-0.3"
    document = json.loads((held_out / "out" / "experiment.json").read_text())
    document["results"] = []
    (held_out / "out" / "experiment.json").write_text(json.dumps(document))
    for file in (run / "phases").iterdir():
        file.write_bytes(b"damaged")
    answer = dsd_ort(*EXPERIMENT, "--sparsity", "0.3,0.6", "--threads", 1, "-o", "out", "--jobs", 2)
    assert answer.status == 3 and "Traceback" not in answer.err
    assert "the checkpoint cannot be read" in answer.err and "dsd-0.3" in answer.err


def test_ctrl_c_saves_every_process_and_the_same_command_goes_on(held_out: Path) -> None:
    np.savez(held_out / "data.npz", **cnn_data(3000))
    options = ("--sparsity", "0.3,0.6", "--threads", "1", "--jobs", "2", "--arms", "dense-only,weight-decay,dsd")
    command = [sys.executable, "-m", "dsd_ort", *EXPERIMENT, *options, "-o"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [*command, "out"], cwd=held_out, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
    )
    deadline, runs = time.monotonic() + 120, held_out / "out" / "runs" / "seed-0"
    while not all(read(runs / name) for name in ("dense-only", "weight-decay")):
        assert process.poll() is None, "training ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1].decode()
    assert process.returncode == 130, errors
    assert "stopped; go on with: the same command" in errors
    assert "Traceback" not in errors
    for folder in ("out", "undisturbed"):
        subprocess.run([*command, folder], cwd=held_out, capture_output=True, env=environment, check=True)
    assert (held_out / "out" / "final.onnx").read_bytes() == (held_out / "undisturbed" / "final.onnx").read_bytes()
    assert measured(found_in(held_out / "out")) == measured(found_in(held_out / "undisturbed"))


def test_processes_whose_parent_was_killed_end_and_the_same_command_goes_on(held_out: Path) -> None:
    np.savez(held_out / "data.npz", **cnn_data(3000))
    options = ("--threads", "1", "--jobs", "2", "--arms", "dense-only,weight-decay", "-o", "out")
    command = [sys.executable, "-m", "dsd_ort", *EXPERIMENT, *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, cwd=held_out, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment
    )
    deadline, runs = time.monotonic() + 120, held_out / "out" / "runs" / "seed-0"
    while not all(read(runs / name) for name in ("dense-only", "weight-decay")):
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(children) >= 2
    assert psutil.wait_procs(children, timeout=60)[1] == []
    subprocess.run(command, cwd=held_out, capture_output=True, env=environment, check=True)
    assert {r.arm for r in found_in(held_out / "out").results} == {"dense-only", "weight-decay"}


def test_python_objects_are_not_handed_to_other_processes(tmp_path: Path) -> None:
    write_cnn(tmp_path / "model.onnx")
    with pytest.raises(DataError, match="cannot be handed to other processes"):
        experiment(tmp_path / "out", jobs=2)


def test_a_model_that_was_trained_on_what_chooses_is_called_so(dsd_ort: Command, folder: Path) -> None:
    """It knows the labels of those, and is no better than chance on the others, whose labels are drawn."""
    test = cnn_data(200, seed=2)
    np.savez(folder / "data.npz", **cnn_data(200))
    np.savez(folder / "test.npz", **(test | {"label": np.random.default_rng(0).integers(0, 3, 200)}))
    long = ("--set=phase.0.epochs=20", "--set=phase.1.epochs=0")
    assert dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml", *long).status == 0
    assert dsd_ort("train", "run", "--data", "data.npz", "--threads", 1).status == 0
    assert dsd_ort("export", "run", "-o", "far.onnx", "--phase", 1).status == 0
    command = ("compare", "far.onnx", *EXPERIMENT[2:], "--threads", 1, "--arms", "dsd", "-o")
    known = dsd_ort(*command, "known", "--select", 0.4)
    assert "it was probably trained on it" in known.err, known
    assert "it was probably trained on it" not in dsd_ort(*command, "new").err


def test_auto_finds_a_sparsity_and_shows_what_it_tried(dsd_ort: Command, held_out: Path) -> None:
    command = (*EXPERIMENT, "--sparsity", "auto", "--threads", 1, "--arms", "dense-only,dsd", "-o", "out")
    answer = dsd_ort(*command)
    assert answer.status == 0, answer
    found = found_in(held_out / "out")
    assert {0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998} < {rung.sparsity for rung in found.ladder}
    assert all(rung.fit is not None and 0 <= rung.fit <= 1 for rung in found.ladder)
    best = max(rung.selection["top-1"] for rung in found.ladder if rung.sparsity)
    [result] = [r for r in found.results if r.arm.startswith("dsd")]
    assert [r.selection["top-1"] for r in found.ladder if r.sparsity == result.sparsity] == [best]
    assert "Short sparse phases" in answer.out and "is the best of" in answer.out
    assert not (held_out / "out" / "ladder").exists()
    assert dsd_ort(*command).out == answer.out


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (("--sparsity", "0.5,0.5"), ("the sparsity 0.5 is given twice",)),
        (("--sparsity", "0.5,1.5"), ("a sparsity of 1.5 is outside (0, 1)",)),
        (("--arms", "dense-only,dsdd"), ("there is no arm 'dsdd'", "did you mean 'dsd'?")),
        (("--seeds", 2, "--select", 0.001), ("a share of 0.001 of 20 examples is none",)),
        (("--seeds", 2, "--select-data", "data.npz"), ("the selection data are those that are trained on",)),
        (("--seeds", 2, "--select-data", "test.npz"), ("the selection data are those that are measured on",)),
        (("--seeds", 2, "--select-data", "none.npz"), ("no such file", "none.npz")),
        (("--seeds", 2, "--by", "cer"), ("the metric 'cer' does not fit the loss",)),
        (("--seeds", 2, "--set", 'phase=[{kind="dense", epochs=1, learning_rate=0.1}]'), ("has no sparse phase",)),
    ],
)
def test_bad_experiments_are_refused_in_one_message(
    dsd_ort: Command, held_out: Path, options: tuple[object, ...], texts: tuple[str, ...]
) -> None:
    refuse(dsd_ort, held_out, (*EXPERIMENT, *options, "-o", "out"), *texts)


def test_options_that_click_refuses(dsd_ort: Command, held_out: Path) -> None:
    for options in (("--seeds", 0), ("--sparsity", "much"), ("--select", 0.1, "--select-data", "x.npz"), ("--jobs", 0)):
        answer = dsd_ort(*EXPERIMENT, *options, "-o", "out")
        assert answer.status == 2 and "Traceback" not in answer.err, answer


def test_other_data_model_or_recipe_is_refused_with_what_differs(dsd_ort: Command, held_out: Path) -> None:
    command = (*EXPERIMENT, "--sparsity", "0.3,0.6", "--threads", 1, "--arms", "dsd", "-o", "out")
    assert dsd_ort(*command).status == 0
    told = "the folder holds another experiment: the recipe differs"
    refuse(dsd_ort, held_out, (*command, "--batch-size", 4), told, "choose another folder")
    np.savez(held_out / "data.npz", **cnn_data(20, seed=9))
    refuse(dsd_ort, held_out, command, "another experiment: the training data differs", "choose another folder")


def test_files_of_others_are_not_replaced(dsd_ort: Command, held_out: Path) -> None:
    (held_out / "final.onnx").write_bytes(b"the best I had")
    refuse(dsd_ort, held_out, (*EXPERIMENT, "--seeds", 2, "-o", "."), "would replace", "choose another folder")


def test_a_document_that_is_damaged_is_one_message(dsd_ort: Command, held_out: Path) -> None:
    command = (*EXPERIMENT, "--sparsity", "0.3,0.6", "--threads", 1, "--arms", "dsd", "-o", "out")
    assert dsd_ort(*command).status == 0
    whole = (held_out / "out" / "experiment.json").read_bytes()
    (held_out / "out" / "experiment.json").write_bytes(whole[: len(whole) // 2])
    refuse(dsd_ort, held_out, command, "the experiment's results cannot be read", "experiment.json")


def test_of_equal_seeds_the_lowest_is_kept_whichever_came_first(finished: Path) -> None:
    from dsd_ort.api.comparison import answer

    result = found_in(finished).results[0]
    equal = [msgspec.structs.replace(result, seed=seed) for seed in (2, 0, 1)]
    assert answer.top(equal, "top-1").seed == 0
    assert answer.top(equal[::2], "top-1").seed == 1


def test_what_is_done_is_kept_when_the_end_fails(dsd_ort: Command, held_out: Path) -> None:
    command = (*EXPERIMENT, "--sparsity", "0.3,0.6", "--threads", 1, "--arms", "dsd", "--keep", "final", "-o", "out")
    (held_out / "out" / "final.onnx").mkdir(parents=True)
    (held_out / "out" / "experiment.json").write_bytes(b"")
    (held_out / "out" / "experiment.json").unlink()
    (held_out / "out" / "final.onnx").rmdir()
    assert dsd_ort(*command).status == 0
    before = found_in(held_out / "out").results
    (held_out / "out" / "final.onnx").unlink()
    (held_out / "out" / "final.onnx").mkdir()
    answer = dsd_ort(*command, "--seeds", 1)
    assert answer.status == 3 and "Traceback" not in answer.err
    assert found_in(held_out / "out").results == before
    assert (held_out / "out" / "arms" / "dsd-0.3" / "final.onnx").exists()


def test_auto_goes_on_beside_sparsities_that_were_given(dsd_ort: Command, held_out: Path) -> None:
    command = (*EXPERIMENT, "--threads", 1, "--arms", "dense-only,dsd", "-o", "out")
    assert dsd_ort(*command, "--sparsity", "0.5,0.9").status == 0
    answer = dsd_ort(*command, "--sparsity", "auto")
    assert answer.status == 0, answer
    arms = [r.arm for r in found_in(held_out / "out").results]
    assert arms[0] == "dense-only" and {"dsd-0.5", "dsd-0.9"} < {*arms}
    assert [arm for arm in arms if arm.endswith("-alive")]
    assert "DSD 50 %" in answer.out, "what was measured before stays in the table"


def test_fewer_arms_later_take_no_better_file_away(dsd_ort: Command, held_out: Path) -> None:
    command = (*EXPERIMENT, "--sparsity", "0.3,0.6", "--threads", 1, "-o", "out")
    assert dsd_ort(*command).status == 0
    final, before = (held_out / "out" / "final.onnx").read_bytes(), found_in(held_out / "out").final
    assert dsd_ort(*command, "--arms", "weight-decay").status == 0
    assert found_in(held_out / "out").final == before
    assert (held_out / "out" / "final.onnx").read_bytes() == final


def test_a_stream_has_no_suspects_to_drop(tmp_path: Path) -> None:
    write_cnn(tmp_path / "model.onnx")
    steps = [{key: value for key, value in phase.items() if key != "epochs"} | {"steps": 3} for phase in PHASES]

    def batches(epoch: int, seed: int) -> Any:
        for start in range(0, 24, 8):
            yield {name: array[start : start + 8] for name, array in TRAIN.items()}

    told: list[str] = []
    found = experiment(
        tmp_path / "out",
        recipe(phase=steps),
        data=batches,
        select_data=cnn_data(20, seed=4),
        seeds=1,
        listener=lambda event: told.append(str(event.get("text", ""))),
    )
    assert {r.arm for r in found.document.results} == {name for name in NAMES if not name.startswith("drop")}
    assert any("the arm drop-suspects is left out" in text for text in told)


def test_an_arm_that_nothing_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no arm is left of drop-suspects"):
        experiment(tmp_path / "out", recipe(phase=PHASES[:2]), kinds=("drop-suspects",))


def test_a_model_whose_loss_is_not_finite_is_refused_and_leaves_the_folder_free(tmp_path: Path) -> None:
    write_cnn(tmp_path / "model.onnx")
    test = TEST | {"image": np.full_like(TEST["image"], 3e38)}  # which overflows
    for _ in range(2):
        with pytest.raises(DsdError, match="not finite as it came"):
            experiment(tmp_path / "out", eval_data=test, monitor="loss")
        assert not (tmp_path / "out").exists()


def test_ways_to_a_sparse_network_stand_beside_dsd_with_what_they_leave(dsd_ort: Command, held_out: Path) -> None:
    (held_out / "recipe.toml").write_text(
        (held_out / "recipe.toml").read_text() + '[[phase]]\nkind = "dense"\nepochs = 1\nlearning_rate = 0.02\n'
    )
    options = ("--sparsity", "0.6", "--arms", "dense-only,dsd,acdc,gradual,one-shot", "--threads", 1, "-o", "out")
    answer = dsd_ort(*EXPERIMENT, *options)
    assert answer.status == 0, answer
    found = json.loads((held_out / "out" / "experiment.json").read_text())
    density = {result["arm"]: result["density"] for result in found["results"]}
    kept = 1 - (round(180 * 0.6) + round(15 * 0.6)) / 195
    assert list(density) == ["dense-only", "dsd-0.6", "acdc-0.6", "gradual-0.6", "one-shot-0.6"]
    assert density["gradual-0.6"] == density["one-shot-0.6"] == pytest.approx(kept)
    assert min(density["dsd-0.6"], density["acdc-0.6"]) > kept
    assert "non-zero" in answer.out and f"{100 * kept:.1f} %" in answer.out
    for title in ("AC/DC 60 %", "pruned gradually 60 %", "pruned at once 60 %"):
        assert f"│ {title}" in answer.out
    assert dsd_ort(*EXPERIMENT, *options).out == answer.out


def test_updates_that_are_left_out_are_counted_in_every_arm(dsd_ort: Command, held_out: Path) -> None:
    bad = {name: array.copy() for name, array in TRAIN.items()}
    bad["image"][3] = 3e38  # overflows in the first convolution
    np.savez(held_out / "data.npz", **bad)
    options = ("--sparsity", "0.3,0.6", "--threads", 1, "--on-nan", "skip", "--keep-checkpoints", 2, "-o", "out")
    answer = dsd_ort(*EXPERIMENT, *options)
    assert answer.status == 0, answer.err
    results = json.loads((held_out / "out" / "experiment.json").read_text())["results"]
    assert {result["arm"]: result["skipped"] for result in results}["dsd-0.3"] == 2, "one an epoch"
    assert "updates that were not finite were left out: dense only, seed 0: " in answer.out
    assert all((run.parent / "checkpoint.1.safetensors").exists() for run in held_out.rglob("runs/*/*/journal.jsonl"))
