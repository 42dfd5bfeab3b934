"""The evidence: its page says what its rows say, and its rows are measured as it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dsd_ort.statistics import student_interval
from examples.parts import parts
from tools.evidence import folds, page, pictures, wrong_labels
from tools.evidence.pictures import SETS
from tools.evidence.rows import Row, Rows
from tools.evidence.summary import DENSE, DROPPED, DSD, groups, word
from tools.evidence.tasks import TASKS

ROOT = Path(__file__).parent.parent.parent


def row(seed: int, dense: float, dsd: dict[str, tuple[float, float]], *, share: float = 0.3) -> Row:
    """A seed whose arms of DSD have an error on right labels and one on those that choose."""
    arms = {name: {"error": error, "select error": select} for name, (error, select) in dsd.items()}
    return {
        **{"task": "t", "noise": "drawn", "share": share, "seed": seed, "auto": False},
        "arms": {DENSE: {"error": dense, "select error": 50.0}, **arms},
    }


def test_the_page_is_written_from_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert page.PAGE.read_text("utf-8") == page.page(), "python -m tools.evidence.page writes it again"


def test_the_sparsity_is_chosen_by_labels_as_wrong_as_the_others_and_not_by_right_ones() -> None:
    rows = [
        row(0, 20.0, {"dsd-0.5": (10.0, 40.0), "dsd-0.9": (15.0, 30.0)}),
        row(1, 21.0, {"dsd-0.5": (17.0, 30.0), "dsd-0.9": (9.0, 40.0)}),
        row(2, 22.0, {"dsd-0.5": (19.0, 30.0), "dsd-0.9": (9.0, 31.0)}),
        row(2, 22.0, {"dsd-0.5": (19.0, 30.0)}, share=0.1),
    ]
    [group, other] = groups(rows)
    assert other.rows == (rows[3],)
    assert group.errors(DSD) == [15.0, 17.0, 19.0] and group.chosen(DSD) == [0.9, 0.5, 0.5]
    assert group.sparsities == ["0.5", "0.9"] and group.best() == "0.9"
    found = group.against(DSD, DENSE)
    assert found.mean == -4.0 and found.interval == student_interval(np.array([-5.0, -4.0, -3.0]))
    assert word(found) == "better"


def test_a_row_that_was_held_tells_nothing_of_time() -> None:
    def timed(seed: int, seconds: float) -> Row:
        made = row(seed, 20.0, {"dsd-0.5": (10.0, 40.0)})
        made["arms"][DENSE]["seconds"], made["arms"]["dsd-0.5"]["seconds"] = 10.0, seconds
        return made

    rows = [*(timed(seed, 11.0) for seed in range(3)), *(timed(seed, 90.0) | {"held": True} for seed in range(3, 8))]
    [group] = groups(rows)
    assert group.seconds() == 1.1 and len(group.errors(DSD)) == 8
    assert "1.10 times" in page.cost([group], [])


def test_beside_pytorch_stand_the_same_seeds() -> None:
    def made(seed: int, dense: float, dsd: float) -> Row:
        found = row(seed, dense, {"dsd-0.9": (dsd, 0.0)})
        found["arms"]["dsd-0.9"]["fits"] = 0.71
        return found

    own = [made(seed, dense, 12.0) for seed, dense in ((0, 20.0), (1, 30.0), (2, 99.0))]
    theirs = [made(seed, dense, 11.0) for seed, dense in ((0, 21.0), (1, 27.0), (3, 99.0))]
    *_, dense_only, pruned = page.in_pytorch(theirs, groups(own))
    assert dense_only.startswith("| t | 30 % | 2 | dense only | 25.0 | 24.0 | +1.0 | too few |")
    assert pruned.startswith("| t | 30 % | 2 | DSD 90 % | 12.0 | 11.0 | +1.0 ") and pruned.endswith("| 71 | 71 |")


def test_what_is_wrong_is_known_and_what_chooses_is_as_wrong() -> None:
    right = pictures.labelled("digits", "drawn", 0, 3)
    assert np.array_equal(right.train["label"], right.truth)
    drawn, next_ = (pictures.labelled("digits", noise, 0.3, 3) for noise in pictures.NOISES)
    for data, share in ((drawn, 0.27), (next_, 0.3)):
        assert np.array_equal(data.truth, right.truth)
        assert np.array_equal(data.train["image"], right.train["image"])
        for part, truth in ((data.train, right.truth), (data.select, right.select["label"])):
            assert np.mean(part["label"] != truth) == pytest.approx(share, abs=0.06)
        assert np.array_equal(data.test["label"], right.test["label"])
    wrong = next_.train["label"] != next_.truth
    assert np.array_equal(next_.train["label"][wrong], (next_.truth[wrong] + 1) % 10)


@pytest.mark.parametrize("count", [6, 37])
def test_every_group_measures_in_one_fold_and_is_trained_on_in_no_other_role_there(count: int) -> None:
    of = parts((f"text {number}" for number in range(count)), folds.PARTS)
    measured = []
    for fold in range(folds.FOLDS):
        sides = {group: folds._sides(of, fold)(group) for group in of}
        measured += [group for group, side in sides.items() if side == 2]
        assert set(sides.values()) <= {0, 1, 2}
        assert count < 10 or {0, 1, 2} == set(sides.values())
    assert sorted(measured) == sorted(of)


def test_nothing_is_measured_twice_and_all_of_it_is_kept(tmp_path: Path) -> None:
    rows, calls = Rows(tmp_path / "new" / "rows.json", ("task", "seed")), []

    def one(about: Row) -> Row:
        calls.append(about["seed"])
        if about["seed"] == 2:
            raise KeyboardInterrupt
        return {"error": 1.5, "minutes": 2.0}

    wanted = [{"task": "t", "seed": seed} for seed in (1, 0, 2)]
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            rows.measure(wanted, one)
    assert calls == [1, 0, 2, 2]
    assert [found["seed"] for found in json.loads(rows.path.read_text())] == [0, 1]


def test_a_task_is_measured_with_its_controls_and_its_suspects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS["digits-mlp-256"]._replace(epochs=(12, 3, 1), sparsities=(0.5, 0.9))
    monkeypatch.setitem(wrong_labels.TASKS, "digits-mlp-256", task)
    about = {"task": "digits-mlp-256", "noise": "drawn", "share": 0.3, "seed": 0, "auto": False}
    found = about | wrong_labels.measure(about, tmp_path, 1)
    assert found["weights"] == 64 * 256 + 256 * 256 + 256 * 10 and found["wrong"] == 298
    [group] = groups([found])
    assert group.sparsities == ["0.5", "0.9"] and {DENSE, f"{DROPPED}-0.9"} < set(found["arms"])
    arm = found["arms"]["dsd-0.9"]
    assert 0.85 < arm["area"] < 1 and arm["truly wrong"] > 0.7 * arm["suspects"] > 100
    assert arm["fits"] == pytest.approx(1 - arm["suspects"] / 1030, abs=1e-4)
    assert not list(tmp_path.iterdir())
    # A row that lacks a sparsity gets what it would have had.
    fewer = {name: arm for name, arm in found["arms"].items() if not name.endswith("-0.5")}
    rows = Rows(tmp_path / "rows.json", wrong_labels.WRONG_LABELS.names)
    rows.add(found | {"arms": fewer})
    monkeypatch.setattr(wrong_labels, "WRONG_LABELS", rows)
    whole = wrong_labels.completed(about, tmp_path, 1)
    assert [*whole["arms"]] == [*found["arms"]] and not task.left(whole)
    assert task.left(found | {"arms": fewer}) == (0.5,)
    assert not task.left(found | {"arms": fewer, "diverged": ["dsd-0.5"]}), "it would diverge again"
    for name, arm in found["arms"].items():
        assert {**whole["arms"][name], "seconds": 0} == {**arm, "seconds": 0}


@pytest.mark.slow
def test_a_gpus_task_goes_all_the_way_at_a_small_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-20 on pictures that are drawn, as CIFAR-10 is not here everywhere."""
    rng = np.random.default_rng(0)
    drawn = {"image": rng.integers(0, 256, (128, 3, 32, 32), np.uint8), "label": rng.integers(0, 10, 128)}
    some = SETS["cifar10-whole"]._replace(read=lambda _: drawn, train=96, select=32)
    monkeypatch.setitem(SETS, "cifar10-whole", some)
    about = {"task": "cifar10-resnet20", "noise": "drawn", "share": 0.2, "seed": 0, "auto": False}
    found = wrong_labels.measure(about, tmp_path, 2, small=True)
    assert {"dsd-0.3", "dsd-0.5", "dsd-0.8", DENSE} < {*found["arms"]} and not found["diverged"]
    assert found["weights"] == 268_336
