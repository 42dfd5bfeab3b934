"""A learning-rate range test: what it measures is what a training would have, and what it chooses follows from that."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dsd_ort
from dsd_ort.data import open_data, split
from dsd_ort.errors import DivergedError, RecipeError
from dsd_ort.graph.prepare import prepare
from dsd_ort.recipe import Recipe
from dsd_ort.run.range_test import HOPELESS, RATES, UPDATES, Point, UntestableError
from tests.models import cnn_data, write_cnn

DATA = cnn_data(200)
BATCH = 8


def recipe(kind: str = "sparse", **more: Any) -> Recipe:
    first = {"kind": kind, "steps": UPDATES, "learning_rate": 0.01} | ({"sparsity": 0.5} if kind == "sparse" else {})
    last = {"kind": "dense", "epochs": 1, "learning_rate": {"schedule": "cosine", "initial": 1e-3, "final": 1e-4}}
    return Recipe.from_dict({"batch_size": BATCH, "phase": [first, last], **more})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cnn(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def fitted(model: Path) -> dsd_ort.FittedRates:
    return dsd_ort.fit_rates(model, recipe(), DATA, threads=1)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_point_is_the_loss_of_a_training_at_this_rate(model: Path, tmp_path: Path, kind: str, optimizer: str) -> None:
    """The same batches on the other nine tenths, measured on the tenth."""
    wanted = recipe(kind, optimizer={"name": optimizer, "accumulate": 2})
    found = dsd_ort.fit_rates(model, wanted, DATA, threads=1)
    program = prepare(model, tmp_path / "fields", wanted)
    rest, part = split(open_data(DATA, [*program.manifest.inputs, *program.manifest.labels]), 16 / 200, seed=0)
    train, held_back = ({name: array[side.indices] for name, array in DATA.items()} for side in (rest, part))
    assert found.curve.held_back == 16, "whole batches"
    for point in found.curve.points[1:5:3]:
        run = tmp_path / f"{point.rate}"
        dsd_ort.prepare(model, run, wanted.at_rate(point.rate))
        dsd_ort.train(run, train, until=1, threads=1)
        assert dsd_ort.evaluate(run, held_back, threads=1)["loss"] == pytest.approx(point.loss, rel=1e-6)


def test_the_lowest_loss_chooses_and_phases_keep_their_ratios(fitted: dsd_ort.FittedRates) -> None:
    losses = [point.loss for point in fitted.curve.points]
    assert fitted.rate == fitted.curve.points[int(np.argmin(losses))].rate
    assert RATES[0] < fitted.rate < 1 and losses[0] > min(losses) < fitted.curve.start
    sparse, dense = fitted.recipe.phase
    assert sparse.learning_rate == fitted.rate
    assert dense.schedule.initial == pytest.approx(fitted.rate / 10)
    assert dense.schedule.final == pytest.approx(fitted.rate / 100)
    assert fitted.recipe.at_rate(0.01) == recipe(), "nothing else is changed"
    assert f"a learning rate of {fitted.rate:g} lowers the loss on 16 examples" in fitted.why


def test_the_curve_ends_where_a_rate_ruins_the_model(fitted: dsd_ort.FittedRates, model: Path) -> None:
    told: list[Point] = []
    found = dsd_ort.fit_rates(model, recipe(), {**DATA, "image": DATA["image"] * 1e4}, threads=1, listener=told.append)
    assert tuple(told) == found.curve.points
    *good, last = told
    assert len(told) < len(RATES) and last.loss > HOPELESS * min(point.loss for point in good)
    assert [point.rate for point in told] == list(RATES[: len(told)])


def test_plain_values_say_what_is_not_finite(fitted: dsd_ort.FittedRates) -> None:
    table = fitted.to_dict()
    assert Recipe.from_dict(table["recipe"]) == fitted.recipe
    assert [point["rate"] for point in table["curve"]["points"]] == [p.rate for p in fitted.curve.points]
    infinite = fitted.curve._replace(points=(*fitted.curve.points, Point(2.0, math.inf)))
    assert dsd_ort.FittedRates(fitted.recipe, infinite).to_dict()["curve"]["points"][-1]["loss"] is None


def test_where_no_rate_lowers_the_loss_it_says_so(fitted: dsd_ort.FittedRates) -> None:
    risen = fitted.curve._replace(start=min(p.loss for p in fitted.curve.points) / 2)
    assert "was chosen as no rate lowers the loss" in dsd_ort.FittedRates(fitted.recipe, risen).why


def test_a_list_of_examples_is_left_out(model: Path, tmp_path: Path) -> None:
    (tmp_path / "without.csv").write_text("index\n" + "\n".join(map(str, range(100))) + "\n")
    wanted = recipe(data={"without": str(tmp_path / "without.csv")}, metrics=["top-1"], monitor="top-1")
    found = dsd_ort.fit_rates(model, wanted, DATA, threads=1)
    assert found.curve.held_back == BATCH
    assert found.recipe.at_rate(0.01) == wanted


def stream() -> Any:
    yield cnn_data(8)


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (
            cnn_data(15),
            UntestableError,
            "15 examples are too few to test learning rates on, with a batch of 8",
        ),
        (lambda epoch, seed: stream(), UntestableError, "its examples have no numbers"),
        ({**DATA, "image": np.full_like(DATA["image"], 3e38)}, DivergedError, "of the model as it came is not finite"),
    ],
)
def test_what_cannot_be_tested_is_told(model: Path, data: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        dsd_ort.fit_rates(model, recipe(), data, threads=1)


def test_where_every_rate_diverges_none_is_chosen(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsd_ort.run.range_test.RATES", (1e20, 1e30))
    with pytest.raises(DivergedError, match=f"after {UPDATES} updates at a learning rate of 1e\\+20 is not finite"):
        dsd_ort.fit_rates(model, recipe("dense"), DATA, threads=1)


def test_rates_of_nothing_cannot_be_scaled(model: Path) -> None:
    nothing = Recipe.from_dict({"phase": [{"kind": "dense", "epochs": 1, "learning_rate": 0}]})
    with pytest.raises(RecipeError, match="all learning rates are 0"):
        dsd_ort.fit_rates(model, nothing, DATA, threads=1)
