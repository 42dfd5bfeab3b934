"""Lists of examples that are left out: as if the data had never had them, through stops and on any machine."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dsd_ort
from dsd_ort.errors import DataError, RunError, Stopped
from dsd_ort.graph.program import open_program
from dsd_ort.run.journal import read
from tests.models import cnn_data, write_cnn

DATA = cnn_data(50)
OUT = [0, 7, 8, 30, 49]
LEFT = {name: np.delete(value, OUT, 0) for name, value in DATA.items()}
PHASES = [
    {"kind": "dense", "epochs": 2, "learning_rate": 0.1},
    {"kind": "sparse", "sparsity": 0.4, "epochs": 1, "learning_rate": 0.05},
]


def recipe(**data: Any) -> dsd_ort.Recipe:
    return dsd_ort.Recipe.from_dict({"batch_size": 8, "phase": PHASES, "data": data})


def listing(path: Path, numbers: list[int]) -> Path:
    path.write_text("index\n" + "".join(f"{number}\n" for number in numbers))
    return path


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return listing(tmp_path / "suspects.csv", OUT)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cnn(tmp_path_factory.mktemp("model") / "model.onnx", dropout=True)


@pytest.fixture(scope="module")
def alone(model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run ends with on data that never had the examples."""
    run = tmp_path_factory.mktemp("alone") / "run"
    dsd_ort.prepare(model, run, recipe())
    dsd_ort.train(run, LEFT, threads=1)
    return exported(run)


def exported(run: Path) -> bytes:
    dsd_ort.export(run, run.with_suffix(".onnx"))
    return run.with_suffix(".onnx").read_bytes()


def stopped(run: Path, updates: int, **options: Any) -> None:
    asked = itertools.count(1)
    with pytest.raises(Stopped):
        dsd_ort.train(run, DATA, threads=1, stop=lambda: next(asked) >= updates, **options)


def test_it_is_as_if_the_data_had_never_had_them(model: Path, tmp_path: Path, listed: Path, alone: bytes) -> None:
    dsd_ort.prepare(model, tmp_path / "run", recipe())
    told: list[str] = []
    dsd_ort.train(
        tmp_path / "run", DATA, without=listed, threads=1, listener=lambda event: told.append(event.get("text", ""))
    )
    assert exported(tmp_path / "run") == alone
    assert "data: 45 of 50 examples" in told
    [event] = [event for event in read(tmp_path / "run") if event["event"] == "data"]
    assert event["examples"] == 50 and event["left"].startswith("45-")


@pytest.mark.parametrize("stop", [1, 9])
def test_a_run_that_goes_on_needs_the_list_no_more(
    model: Path, tmp_path: Path, listed: Path, alone: bytes, stop: int
) -> None:
    dsd_ort.prepare(model, tmp_path / "run", recipe())
    stopped(tmp_path / "run", stop, without=listed)
    listed.unlink()
    dsd_ort.train(tmp_path / "run", DATA, threads=1, resume=True)
    assert exported(tmp_path / "run") == alone


def test_the_list_of_a_recipe_comes_into_the_run_folder(
    model: Path, tmp_path: Path, listed: Path, alone: bytes
) -> None:
    dsd_ort.prepare(model, tmp_path / "run", recipe(without=str(listed)))
    assert open_program(tmp_path / "run").without == tmp_path / "run" / "without.csv"
    listed.unlink()
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    dsd_ort.train(tmp_path / "elsewhere", DATA, threads=1)
    assert exported(tmp_path / "elsewhere") == alone


def test_a_list_that_is_given_takes_the_place_of_the_recipes(
    model: Path, tmp_path: Path, listed: Path, alone: bytes
) -> None:
    dsd_ort.prepare(model, tmp_path / "run", recipe(without=str(listing(tmp_path / "other.csv", [1]))))
    stopped(tmp_path / "run", 3, without=listed)
    dsd_ort.train(tmp_path / "run", DATA, threads=1, resume=True)
    assert exported(tmp_path / "run") == alone


def test_a_recipes_path_is_relative_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    text = '[data]\nwithout = "suspects.csv"\n[[phase]]\nkind = "dense"\nepochs = 1\nlearning_rate = 0.1\n'
    (tmp_path / "there" / "recipe.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    found = dsd_ort.Recipe.load(Path("there") / "recipe.toml")
    assert found.data.without == str(Path("there") / "suspects.csv")
    assert dsd_ort.Recipe.load(tmp_path / "there" / "recipe.toml").data.without == str(
        tmp_path / "there" / "suspects.csv"
    )


def test_going_on_with_other_examples_is_refused(model: Path, tmp_path: Path, listed: Path) -> None:
    run = tmp_path / "run"
    dsd_ort.prepare(model, run, recipe())
    stopped(run, 3, without=listed)
    before = (run / "checkpoint.safetensors").read_bytes()
    fewer = {name: value[:49] for name, value in DATA.items()}
    changed = DATA | {"label": (DATA["label"] + 1) % 3}
    other = listing(tmp_path / "other.csv", [1, 2])
    for data, options in ((DATA, {"without": other}), (changed, {})):
        with pytest.raises(RunError, match="with other examples than it began with") as caught:
            dsd_ort.train(run, data, threads=1, resume=True, **options)
        assert str(run / "without.csv") in (caught.value.fix or "")
    with pytest.raises(DataError, match="there is no example '49'"):
        dsd_ort.train(run, fewer, threads=1, resume=True)
    (run / "without.csv").unlink()
    with pytest.raises(RunError, match="with other examples than it began with"):
        dsd_ort.train(run, DATA, threads=1, resume=True)
    assert (run / "checkpoint.safetensors").read_bytes() == before
    dsd_ort.train(run, DATA, threads=1, resume=True, without=listed)


def test_going_on_with_data_of_another_size_is_refused(model: Path, tmp_path: Path) -> None:
    dsd_ort.prepare(model, tmp_path / "run", recipe())
    stopped(tmp_path / "run", 3)
    with pytest.raises(RunError, match="with other examples than it began with"):
        dsd_ort.train(tmp_path / "run", LEFT, threads=1, resume=True)


def test_a_list_that_does_not_fit_leaves_the_run_as_it_was(model: Path, tmp_path: Path) -> None:
    dsd_ort.prepare(model, tmp_path / "run", recipe())
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    for wrong in (listing(tmp_path / "far.csv", [50]), listing(tmp_path / "all.csv", list(range(50)))):
        with pytest.raises(DataError):
            dsd_ort.train(tmp_path / "run", DATA, threads=1, without=wrong)
    with pytest.raises(DataError, match=r"the list of examples in data\.without cannot be read: No such file"):
        dsd_ort.prepare(model, tmp_path / "new", recipe(without=str(tmp_path / "none.csv")))
    assert not (tmp_path / "new").exists()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before


def test_both_trainings_of_a_comparison_leave_them_out(model: Path, tmp_path: Path, listed: Path) -> None:
    test = cnn_data(12, seed=2)
    wanted = recipe(without=str(listed))
    dsd_ort.compare(model, tmp_path / "both", wanted, DATA, test, threads=1)
    dsd_ort.compare(model, tmp_path / "alone", recipe(), LEFT, test, threads=1)
    for name in ("dsd", "dense-only"):
        assert exported(tmp_path / "both" / name) == exported(tmp_path / "alone" / name)
    listed.rename(tmp_path / "moved.csv")
    dsd_ort.compare(model, tmp_path / "both", recipe(without=str(tmp_path / "moved.csv")), DATA, test, threads=1)
    listing(tmp_path / "moved.csv", [3])
    for changed in (recipe(without=str(tmp_path / "moved.csv")), recipe()):
        with pytest.raises(RunError, match="another comparison: the list of examples that are left out differs"):
            dsd_ort.compare(model, tmp_path / "both", changed, DATA, test, threads=1)
