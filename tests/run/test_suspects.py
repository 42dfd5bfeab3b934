"""Who is a suspect: those of whose labels the sparse network gives fewer than half, by its loss."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dsd_ort
from dsd_ort.data import Subset, open_data, without
from dsd_ort.errors import RunError
from dsd_ort.fields import Field
from dsd_ort.run.scoring import Scored
from dsd_ort.run.suspects import doubted, ranked, write
from tests.models import cnn_data, write_cnn

FIELDS = [Field("x", "float32", ("N", 2)), Field("label", "int64", ("N",), label=True, classes=4)]
DATA = open_data({"x": np.zeros((6, 2), np.float32), "label": np.array([0, 1, 2, 3, 0, 1])}, FIELDS)


def scored(agreed: Any, loss: Any, **more: Any) -> Scored:
    return Scored(np.array(loss, float), np.ones(len(loss)), np.array(agreed, float), **more)


def test_an_example_is_believed_where_half_of_its_labels_are() -> None:
    agreed = [0, 1, 0.5, 0.49, np.nan]
    np.testing.assert_array_equal(doubted(scored(agreed, np.zeros(5))), [True, False, False, True, False])


def test_the_largest_loss_of_the_sparse_network_comes_first() -> None:
    sparse = scored(
        [0, 1, 0, 0],
        [1.0, 9.0, 3.0, 1.0],
        given=np.array([0.0, 1.0, 1.0, 0.0]),
        believed=np.array([1.0, 1.0, 0.0, 1.0]),
        probability=np.array([0.7, 0.9, 0.8, 0.6]),
    )
    found = ranked(np.array([5, 0, 4, 2]), DATA, sparse, scored([1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4]))
    assert [(s.rank, s.index, s.sparse_loss, s.dense_loss) for s in found] == [
        (1, 4, 3.0, 0.3),
        (2, 5, 1.0, 0.1),
        (3, 2, 1.0, 0.4),
    ]
    assert (found[0].given, found[0].believed, found[0].probability, found[0].file) == (1, 0, 0.8, None)
    assert isinstance(found[0].given, int)


def test_the_list_is_what_data_is_left_out_by(tmp_path: Path) -> None:
    nothing = np.zeros(2)
    found = ranked(np.array([1, 4]), DATA, scored([0, 0], [2.0, 5.0]), scored([0, 0], nothing))
    write(tmp_path / "suspects.csv", found, DATA)
    rows = list(csv.DictReader((tmp_path / "suspects.csv").read_text().splitlines()))
    assert list(rows[0]) == [
        "rank",
        "index",
        "file",
        "given",
        "believed",
        "probability",
        "dense_loss",
        "sparse_loss",
        "data",
    ]
    assert [(row["index"], row["given"]) for row in rows] == [("4", ""), ("1", "")]
    assert {row["data"] for row in rows} == {DATA.digest}
    left = without(DATA, tmp_path / "suspects.csv")
    assert left.digest == Subset(DATA, np.array([0, 2, 3, 5])).digest
    write(tmp_path / "none.csv", [], DATA)
    assert without(DATA, tmp_path / "none.csv").examples == 6
    with pytest.raises(RunError, match="cannot be written: No such file or directory"):
        write(tmp_path / "no folder" / "suspects.csv", found, DATA)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none.csv", "suspects.csv"]


DENSE = {"kind": "dense", "epochs": 1, "learning_rate": 0.05}
SPARSE = {"kind": "sparse", "sparsity": 0.4, "epochs": 1, "learning_rate": 0.05}


@pytest.mark.parametrize(("phases", "number"), [([SPARSE, DENSE], 1), ([DENSE, SPARSE, SPARSE, DENSE], 3)])
def test_both_losses_are_those_of_the_networks_before_and_after(
    tmp_path: Path, phases: list[dict[str, Any]], number: int
) -> None:
    """Their mean over all examples is what evaluation says of the phases, or of the model as it came."""
    model, data = write_cnn(tmp_path / "model.onnx"), cnn_data(40)
    recipe = dsd_ort.Recipe.from_dict({"batch_size": 8, "phase": phases})
    dsd_ort.prepare(model, tmp_path / "run", recipe)
    dsd_ort.train(tmp_path / "run", data, threads=1)
    said = dsd_ort.evaluate(tmp_path / "run", data, phase=number, threads=1)
    rotated = data | {"label": (data["label"] + 1) % 3}
    found = [dsd_ort.suspects(tmp_path / "run", each, threads=1) for each in (data, rotated)]
    assert found[0].phase == number and found[0].examples == 40
    assert len(found[0].found) == round(40 * (1 - said["top-1"]))
    everyone = {s.index: s for s in found[1].found}  # a wrong label that the network believes is no suspect
    measured = dsd_ort.evaluate(tmp_path / "run", rotated, phase=number, threads=1)
    assert len(everyone) == round(40 * (1 - measured["top-1"])) > 20
    ones = {name: value[sorted(everyone)] for name, value in rotated.items()}
    assert np.mean([s.sparse_loss for s in everyone.values()]) == pytest.approx(
        dsd_ort.evaluate(tmp_path / "run", ones, phase=number, threads=1)["loss"], rel=1e-5
    )
    before = {"phase": 1} if number > 1 else {"recipe": recipe}
    came = dsd_ort.evaluate(tmp_path / "run" if number > 1 else model, ones, threads=1, **before)
    assert np.mean([s.dense_loss for s in everyone.values()]) == pytest.approx(came["loss"], rel=1e-5)
