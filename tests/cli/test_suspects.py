"""suspects: the examples that the sparse network of a run does not believe, as table, list, sheet and JSON."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from dsd_ort.run.journal import FILE
from tests.cli.conftest import Command
from tests.cli.test_bad_input import TRAIN, refuse
from tests.models import cnn_data

SUSPECTS = ("suspects", "run", "--data", "data.npz", "--threads", 1)
LONGER = ("--set=phase.0.epochs=10", "--set=phase.1.epochs=5", "--set=phase.1.sparsity=0.7")
SLOW = "--set=phase.1.learning_rate=0.01"


@pytest.fixture
def wrong(folder: Path, dsd_ort: Command) -> list[int]:
    """The numbers of examples whose labels are wrong; the trained run ``run`` knows those of all."""
    data = cnn_data(120)
    numbers = np.random.default_rng(3).choice(120, 12, replace=False)
    data["label"][numbers] = (data["label"][numbers] + 1) % 3
    np.savez(folder / "data.npz", **data)
    assert dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml", *LONGER, SLOW).status == 0
    assert dsd_ort(*TRAIN).status == 0
    return sorted(numbers.tolist())


def test_wrong_labels_are_found_listed_and_left_out(dsd_ort: Command, wrong: list[int], folder: Path) -> None:
    answer = dsd_ort(*SUSPECTS, "-o", "suspects.csv")
    assert answer.status == 0, answer
    rows = list(csv.DictReader((folder / "suspects.csv").read_text().splitlines()))
    found = {int(row["index"]) for row in rows}
    assert len(found & {*wrong}) >= 6 and len(found - {*wrong}) <= 1
    losses = [float(row["sparse_loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    true = cnn_data(120)["label"]
    assert all(int(row["believed"]) == true[int(row["index"])] for row in rows if int(row["index"]) in wrong)
    assert all(row["believed"] != row["given"] for row in rows)
    assert f"{len(rows)} of 120 examples are not believed by the network of sparse phase 2" in answer.out
    assert re.search(rf"│ +1 │ {rows[0]['index']} +│ {rows[0]['given']} +│ {rows[0]['believed']} ", answer.out)
    assert "hard and rare examples are not believed either: look before" in answer.out


def test_json_has_all_of_them_and_nothing_else_is_printed(dsd_ort: Command, wrong: list[int]) -> None:
    answer = dsd_ort(*SUSPECTS, "--json")
    assert (answer.status, answer.err) == (0, "")
    found = json.loads(answer.out)
    assert (found["phase"], found["examples"]) == (2, 120)
    assert len({suspect["index"] for suspect in found["suspects"]} & {*wrong}) >= 6
    assert {"rank", "file", "given", "believed", "probability", "dense_loss", "sparse_loss"} < set(found["suspects"][0])


def test_more_than_a_screen_are_counted(dsd_ort: Command, wrong: list[int], folder: Path) -> None:
    data = cnn_data(120)
    np.savez(folder / "data.npz", **(data | {"label": (data["label"] + 1) % 3}))
    answer = dsd_ort(*SUSPECTS)
    [(count, more)] = re.findall(r"(\d+) of 120 examples.*… and (\d+) more; -o lists all", answer.out, re.DOTALL)
    assert int(count) - 20 == int(more) > 60
    assert "next: dsd-ort suspects run --data data.npz -o suspects.csv" in answer.out


def test_pictures_in_folders_have_their_names_and_a_sheet(dsd_ort: Command, folder: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(12):
        path = folder / "pictures" / f"class{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(random.integers(0, 256, (6, 6), dtype=np.uint8)).save(path)
    assert dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml").status == 0
    assert dsd_ort("train", "run", "--data", "pictures", "--threads", 1).status == 0
    ask = ("suspects", "run", "--data", "pictures", "--threads", 1)
    answer = dsd_ort(*ask, "-o", "suspects.csv", "--sheet", "sheet.png")
    assert answer.status == 0, answer
    rows = list(csv.DictReader((folder / "suspects.csv").read_text().splitlines()))
    assert rows and all(row["file"] == f"class{row['given']}/{row['file'].partition('/')[2]}" for row in rows)
    assert rows[0]["file"] in answer.out
    with PIL.Image.open(folder / "sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_the_loop_train_suspect_train_on(dsd_ort: Command, wrong: list[int], folder: Path) -> None:
    """The list goes into a new run, by an option of three commands; the old run says that it leaves nothing out."""
    assert dsd_ort(*SUSPECTS, "-o", "suspects.csv").status == 0
    count = len((folder / "suspects.csv").read_text().splitlines()) - 1
    assert dsd_ort("prepare", "model.onnx", "-o", "second", "--recipe", "recipe.toml").status == 0
    answer = dsd_ort("train", "second", "--data", "data.npz", "--without", "suspects.csv", "--threads", 1)
    assert answer.status == 0 and f"note: data: {120 - count} of 120 examples" in answer.err
    given = ("--recipe", "recipe.toml", "--without", "suspects.csv")
    assert dsd_ort("prepare", "model.onnx", "-o", "third", *given).status == 0
    list_there = (folder / "third" / "without.csv").read_bytes()
    assert list_there == (folder / "second" / "without.csv").read_bytes() == (folder / "suspects.csv").read_bytes()
    data = ("--data", "data.npz", "--eval-data", "data.npz", "--threads", 1)
    assert dsd_ort("compare", "model.onnx", "-o", "both", *data, *given).status == 0
    assert (folder / "both" / "dense-only" / "without.csv").exists()
    assert dsd_ort("suspects", "second", "--data", "data.npz").status == 0, "asked of all of the data"


# --- bad input


def test_lists_that_cannot_be_left_out(dsd_ort: Command, prepared: Path) -> None:
    (prepared / "other.csv").write_text("index,data\n1,1287-9f86d081884c7d65\n")
    refuse(dsd_ort, prepared, (*TRAIN, "--without", "none.csv"), "the list cannot be read", "none.csv")
    refuse(dsd_ort, prepared, (*TRAIN, "--without", "other.csv"), "was made for other data", "remove its column 'data'")
    new = ("prepare", "model.onnx", "-o", "new", "--without", "none.csv")
    refuse(dsd_ort, prepared, new, "the list of examples in data.without cannot be read", "none.csv")
    refuse(dsd_ort, prepared, (*new[:-2], "--set", 'data.without=""'), "data.without is empty")


def test_a_run_without_a_sparse_phase(dsd_ort: Command, folder: Path) -> None:
    dense = ("--set", 'phase=[{kind="dense", epochs=1, learning_rate=0.1}]')
    assert dsd_ort("prepare", "model.onnx", "-o", "run", *dense).status == 0
    assert dsd_ort(*TRAIN).status == 0
    refuse(dsd_ort, folder, SUSPECTS, "the run has no sparse phase", "where: run", "train one with a sparse phase")


def test_a_sparse_phase_that_is_not_complete(dsd_ort: Command, prepared: Path) -> None:
    told = ("the sparse phase 2 of the run is not complete", "dsd-ort train run --data DATA   (with --resume")
    refuse(dsd_ort, prepared, SUSPECTS, *told)
    refuse(dsd_ort, prepared, (*SUSPECTS, "--phase", 1), "phase 1 of the run is no sparse one", "give 2")
    refuse(dsd_ort, prepared, (*SUSPECTS, "--phase", 7), "phase 7 of the run is no sparse one", "give 2")


def test_of_two_sparse_phases_the_complete_one_can_be_asked_for(dsd_ort: Command, trained: Path) -> None:
    more = ("--set", 'phase=[{kind="sparse", sparsity=0.2, epochs=1, learning_rate=0.1}, '
            '{kind="sparse", sparsity=0.4, epochs=9, learning_rate=1e30}]')  # fmt: skip
    assert dsd_ort("prepare", "model.onnx", "-o", "two", *more).status == 0
    assert dsd_ort("train", "two", "--data", "data.npz").status == 3
    ask = ("suspects", "two", "--data", "data.npz")
    refuse(dsd_ort, trained, ask, "the sparse phase 2 of the run is not complete", "or take --phase 1")
    assert dsd_ort(*ask, "--phase", 1).status == 0


def test_data_of_another_kind_or_size(dsd_ort: Command, trained: Path) -> None:
    data = cnn_data(20)
    np.savez(trained / "less.npz", **{name: value[:19] for name, value in data.items()})
    np.savez(trained / "other.npz", image=data["image"][:, :, :5], label=data["label"])
    (trained / "stream.py").write_text(
        "import numpy\ndef batches(epoch, seed):\n    yield dict(numpy.load('data.npz'))\n"
    )
    ask = ("suspects", "run", "--threads", 1, "--data")
    refuse(dsd_ort, trained, (*ask, "less.npz"), "the run was trained on 20 examples, and this has 19", "less.npz")
    refuse(dsd_ort, trained, (*ask, "other.npz"), "'image'")
    refuse(dsd_ort, trained, (*ask, "stream:batches"), "its examples have no numbers")
    journal = trained / "run" / FILE
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"event": "data"' not in line))
    assert dsd_ort(*ask, "less.npz").status == 0, "a run of an earlier version does not know"


def test_values_are_no_labels(dsd_ort: Command, folder: Path) -> None:
    assert dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml", "--loss", "mse").status == 0
    np.savez(folder / "data.npz", image=cnn_data(20)["image"], label=np.zeros((20, 3), np.float32))
    assert dsd_ort(*TRAIN).status == 0
    told = ("the run's loss is mse: its targets are values", "cross-entropy, bce-with-logits, ctc")
    refuse(dsd_ort, folder, SUSPECTS, *told)


def test_a_list_or_a_sheet_that_cannot_be_written(dsd_ort: Command, trained: Path) -> None:
    refuse(dsd_ort, trained, (*SUSPECTS, "-o", "none/suspects.csv"), "the list of examples cannot be written")
    refuse(dsd_ort, trained, (*SUSPECTS, "--sheet", "none/sheet.png"), "the sheet cannot be written")
