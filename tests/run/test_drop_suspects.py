"""A dense phase that drops what the sparse network before it does not believe, fixed when it begins."""

from __future__ import annotations

import csv
import itertools
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dsd_ort
from dsd_ort.data import open_data
from dsd_ort.errors import DataError, RecipeError, RunError, Stopped
from dsd_ort.graph.program import open_program
from dsd_ort.recipe import Recipe
from dsd_ort.run import examples
from dsd_ort.run.journal import read
from tests.models import cnn_data, write_cnn

WRONG = np.random.default_rng(3).choice(120, 12, replace=False)
DATA = cnn_data(120)
DATA["label"][WRONG] = (DATA["label"][WRONG] + 1) % 3
DENSE = {"kind": "dense", "epochs": 8, "learning_rate": 0.05}
SPARSE = {"kind": "sparse", "sparsity": 0.5, "epochs": 4, "learning_rate": 0.05}
DROPS = {"kind": "dense", "epochs": 2, "learning_rate": 0.01, "drop_suspects": True}
LIST = "suspects-phase-3.csv"


def recipe(*phases: dict[str, Any], **more: Any) -> Recipe:
    return Recipe.from_dict({"batch_size": 8, "phase": list(phases or (DENSE, SPARSE, DROPS)), **more})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cnn(tmp_path_factory.mktemp("model") / "model.onnx", dropout=True)


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(model, tmp_path_factory.mktemp("finished") / "run", recipe())


def trained(model: Path, run: Path, wanted: Recipe, data: Any = DATA, **options: Any) -> Path:
    dsd_ort.prepare(model, run, wanted)
    dsd_ort.train(run, data, threads=1, **options)
    return run


def exported(run: Path) -> bytes:
    dsd_ort.export(run, run.with_suffix(".onnx"))
    return run.with_suffix(".onnx").read_bytes()


def listed(path: Path) -> list[int]:
    return [int(row["index"]) for row in csv.DictReader(path.read_text().splitlines())]


def event(run: Path) -> dict[str, Any]:
    [found] = [event for event in read(run) if event["event"] == "suspects"]
    return {key: value for key, value in found.items() if key != "time"}


def test_the_phase_trains_without_them_and_the_run_lists_them(finished: Path, tmp_path: Path) -> None:
    suspects = listed(finished / LIST)
    assert len({*suspects} & {*WRONG.tolist()}) >= 6
    told = event(finished)
    assert (told["phase"], told["suspects"], told["examples"]) == (3, len(suspects), 120)
    assert told["left"].startswith(f"{120 - len(suspects)}-")
    steps = [e["step"] for e in read(finished) if e["event"] == "phase-end"]
    assert steps == [120, 180, 180 + 2 * -(-(120 - len(suspects)) // 8)]
    dsd_ort.suspects(finished, DATA, output=tmp_path / "asked.csv", threads=1)
    assert (tmp_path / "asked.csv").read_bytes() == (finished / LIST).read_bytes(), "what the command lists too"


def test_it_is_as_if_the_phase_had_a_list(model: Path, tmp_path: Path) -> None:
    """After a sparse phase without a step, nothing else has happened."""
    pruned = SPARSE | {"epochs": 0}
    run = trained(model, tmp_path / "run", recipe(pruned, DROPS))
    plain = {key: value for key, value in DROPS.items() if key != "drop_suspects"}
    other = trained(model, tmp_path / "other", recipe(pruned, plain), without=run / "suspects-phase-2.csv")
    assert exported(run) == exported(other)
    assert exported(trained(model, tmp_path / "all", recipe(pruned, plain))) != exported(run)


def test_the_sparse_network_counts_as_it_was_at_its_end(model: Path, tmp_path: Path) -> None:
    """Not what a dense phase between has made of it."""
    between = {"kind": "dense", "epochs": 4, "learning_rate": 0.05}
    run = trained(model, tmp_path / "run", recipe(DENSE, SPARSE, between, DROPS))
    dsd_ort.suspects(run, DATA, output=tmp_path / "asked.csv", threads=1)
    assert (tmp_path / "asked.csv").read_bytes() == (run / "suspects-phase-4.csv").read_bytes()


def test_what_is_left_out_already_is_not_looked_at(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("index\n" + "".join(f"{n}\n" for n in range(100)))
    run = trained(model, tmp_path / "run", recipe(SPARSE | {"epochs": 0}, DROPS), without=tmp_path / "out.csv")
    suspects = listed(run / "suspects-phase-2.csv")
    assert suspects and min(suspects) >= 100, "numbers are those of the whole data"
    told = event(run)
    assert (told["examples"], told["suspects"]) == (20, len(suspects))
    assert told["left"].startswith(f"{20 - len(suspects)}-")


@pytest.mark.parametrize("stop", [178, 179, 190])
def test_stopped_and_resumed_it_ends_with_the_same_bytes(
    model: Path, finished: Path, tmp_path: Path, stop: int
) -> None:
    run, asked = tmp_path / "run", itertools.count(1)
    dsd_ort.prepare(model, run, recipe())
    with pytest.raises(Stopped):
        dsd_ort.train(run, DATA, threads=1, stop=lambda: next(asked) >= stop)
    dsd_ort.train(run, DATA, threads=1, resume=True)
    assert exported(run) == exported(finished)
    assert (run / LIST).read_bytes() == (finished / LIST).read_bytes()
    assert event(run) == event(finished)


KILLED_LATER = """
import os, signal, sys
from dsd_ort.run.phases import Trainer
from tests.run.test_drop_suspects import DATA
import dsd_ort
save, updates = Trainer._save_if_due, int(sys.argv[2])
def killed(self):
    save(self)
    if self.state.position.step == updates:
        os.kill(os.getpid(), signal.SIGKILL)
Trainer._save_if_due = killed
dsd_ort.train(sys.argv[1], DATA, threads=1, checkpoint_seconds=float(sys.argv[3]))
"""


@pytest.mark.parametrize("seconds", ["0", "300"])
@pytest.mark.parametrize("updates", [181, 195])
def test_killed_within_the_phase_it_ends_with_the_same_bytes(
    model: Path, finished: Path, tmp_path: Path, updates: int, seconds: str
) -> None:
    """With a checkpoint that knows the list, or with one of before it was made."""
    run = tmp_path / "run"
    dsd_ort.prepare(model, run, recipe())
    command = [sys.executable, "-c", KILLED_LATER, str(run), str(updates), seconds]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    dsd_ort.train(run, DATA, threads=1, resume=True)
    assert exported(run) == exported(finished)
    assert (run / LIST).read_bytes() == (finished / LIST).read_bytes()
    assert event(run) == event(finished)


KILLED = """
import os, signal, sys
from dsd_ort.run import examples
from tests.run.test_drop_suspects import DATA
import dsd_ort
write = examples.write
def killed(*arguments):
    if sys.argv[2] == "after":
        write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
examples.write = killed
dsd_ort.train(sys.argv[1], DATA, threads=1)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_the_list_it_ends_with_the_same_bytes(
    model: Path, finished: Path, tmp_path: Path, when: str
) -> None:
    """SIGKILL before or behind the list's writing: no checkpoint of the phase knows it, and it is made again."""
    run = tmp_path / "run"
    dsd_ort.prepare(model, run, recipe())
    command = [sys.executable, "-c", KILLED, str(run), when]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert (run / LIST).exists() == (when == "after")
    assert not [e for e in read(run) if e["event"] == "suspects"]
    dsd_ort.train(run, DATA, threads=1, resume=True)
    assert exported(run) == exported(finished)
    assert not list(run.rglob(".*"))


def test_a_list_that_was_changed_or_removed_is_noticed(model: Path, tmp_path: Path) -> None:
    run, asked = tmp_path / "run", itertools.count(1)
    dsd_ort.prepare(model, run, recipe())
    with pytest.raises(Stopped):
        dsd_ort.train(run, DATA, threads=1, stop=lambda: next(asked) >= 185)
    content = (run / LIST).read_text()
    (run / LIST).write_text("".join(content.splitlines(keepends=True)[:-1]))
    with pytest.raises(RunError, match="the list of suspects was changed after phase 3 began") as caught:
        dsd_ort.train(run, DATA, threads=1, resume=True)
    assert caught.value.where == str(run / LIST)
    (run / LIST).unlink()
    with pytest.raises(DataError, match="the list cannot be read"):
        dsd_ort.train(run, DATA, threads=1, resume=True)
    (run / LIST).write_text(content)
    dsd_ort.train(run, DATA, threads=1, resume=True)


def test_a_network_that_believes_nothing_leaves_nothing(model: Path, tmp_path: Path) -> None:
    still = {"kind": "sparse", "sparsity": 0.5, "epochs": 0, "learning_rate": 0.0}
    run = trained(model, tmp_path / "run", recipe(still))
    doubted = listed_by(run)
    data = {name: value[doubted] for name, value in DATA.items()}
    with pytest.raises(RunError, match="believes none of the examples, so phase 2 has none") as caught:
        trained(model, tmp_path / "none", recipe(still, DROPS), data)
    assert "a lower sparsity or without drop_suspects" in (caught.value.fix or "")


def listed_by(run: Path) -> list[int]:
    return [suspect.index for suspect in dsd_ort.suspects(run, DATA, threads=1).found]


def test_dense_only_drops_nothing(model: Path, tmp_path: Path) -> None:
    assert not any(phase.drop_suspects for phase in recipe().dense_only().phase)
    found = dsd_ort.compare(model, tmp_path / "both", recipe(), DATA, cnn_data(20, seed=2), threads=1)
    assert len(found.rows) == 6
    assert (tmp_path / "both" / "dsd" / LIST).exists()
    assert not (tmp_path / "both" / "dense-only" / LIST).exists()


@pytest.mark.parametrize(
    ("phases", "more", "what"),
    [
        ([DENSE, DROPS], {}, "phase[1].drop_suspects has no sparse phase before it"),
        ([DROPS, SPARSE, DENSE], {}, "phase[0].drop_suspects has no sparse phase before it"),
        ([DENSE, SPARSE | {"drop_suspects": True}], {}, "phase[1].drop_suspects is set in a sparse phase"),
        ([SPARSE, DROPS], {"loss": {"name": "mse"}}, "phase[1].drop_suspects does not fit the loss 'mse'"),
    ],
)
def test_recipes_in_which_nobody_doubts_a_label_are_refused(
    phases: list[dict[str, Any]], more: dict[str, Any], what: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(*phases, **more)
    assert what in caught.value.what and caught.value.fix


def test_streams_have_no_numbers_to_drop(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import numpy\ndef batches(epoch, seed):\n    yield dict(numpy.load('data.npz'))\n"
    (tmp_path / "streamed.py").write_text(code)
    np.savez(tmp_path / "data.npz", **DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    steps = [{key: value for key, value in p.items() if key != "epochs"} | {"steps": 1} for p in (SPARSE, DROPS)]
    dsd_ort.prepare(model, tmp_path / "run", recipe(*steps))
    with pytest.raises(DataError, match="its examples have no numbers"):
        dsd_ort.train(tmp_path / "run", "streamed:batches", threads=1)
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists(), "before anything is trained"


def test_a_run_counts_its_examples_by_the_data(finished: Path) -> None:
    program = open_program(finished)
    fields = [*program.manifest.inputs, *program.manifest.labels]
    left = examples.Examples(program, open_data(DATA, fields, program.recipe.data))
    assert left.of_phase(1) is left.of_phase(2) is left.left is left.whole
    assert left.of_phase(3).examples == 120 - len(listed(finished / LIST))
