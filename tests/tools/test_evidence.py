"""The commands of ``tools.evidence`` measure what they say, at a small size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dsd_ort.statistics import roc_area
from tools.evidence import cleanlab, default_recipe, sparse
from tools.evidence.brought import TASKS
from tools.evidence.suspects import ARMS, measure, with_wrong_labels


def test_suspects_are_counted_by_what_is_known_of_the_labels(tmp_path: Path) -> None:
    row = measure(0, tmp_path, epochs=(12, 8, 1))
    assert row["wrong"] == 337
    assert row["truly wrong"] > 0.75 * row["suspects"] > 150
    assert all(0 < row[arm] < 40 for arm in ARMS)


def test_both_ways_to_find_wrong_labels_score_every_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanlab, "FAR", 12)
    monkeypatch.setattr(cleanlab, "SPARSE", ((0.9, 2),))
    data, wrong = with_wrong_labels(0, 0.1)
    [(loss, listed)] = cleanlab.sparse_losses(data, 0, tmp_path / "sparse").values()
    logp = cleanlab.out_of_sample(data, 0, 2, tmp_path / "fresh")
    assert logp.shape == (len(wrong), 10) and np.allclose(np.exp(logp).sum(1), 1)
    for score in (loss, -logp[np.arange(len(wrong)), data["label"]]):
        assert roc_area(score, wrong) > 0.9
    assert listed.dtype == bool and (listed & wrong).sum() > 0.7 * wrong.sum()


def test_a_model_that_is_brought_is_measured_before_and_after(tmp_path: Path) -> None:
    row = default_recipe.measure(TASKS["digits"](tmp_path, 0), tmp_path, ["fitted"])
    before, after = row["as it came"], row["fitted"]
    assert before["top-1"] > 0.9 and "safe" not in row
    assert after["loss"] - before["loss"] == pytest.approx(after["change"], abs=2e-5)
    assert after["interval"][0] <= after["change"] <= after["interval"][1] < 0.05


def test_ways_to_a_sparse_network_are_measured_with_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sparse.TASKS, "digits-mlp-256", sparse.TASKS["digits-mlp-256"]._replace(epochs=(4, 2, 1)))
    monkeypatch.setattr(sparse, "TOTALS", (0.8,))
    row = sparse.measure({"task": "digits-mlp-256", "share": 0.0, "seed": 0}, tmp_path, 1)
    assert list(row["arms"]) == list(sparse.ARMS) and row["diverged"] == []
    assert [row["arms"][f"{name}-0.9"]["density"] for name in ("gradual", "one-shot")] == [0.1, 0.1]
    found = row["totals"]["0.8"]
    assert found["training loss"][0] < found["training loss"][1], "the scan costs less at once"
    rows = [{"task": "digits-mlp-256", "share": 0.0, "seed": seed, **row} for seed in range(3)]
    arms, totals = list(sparse.ways(rows)), list(sparse.by_layer(rows))
    assert len(arms) == 1 + len(sparse.ARMS) and arms[1][4] == f"{row['arms']['dense-only']['error']:.1f}"
    assert {len(cells) for cells in arms} == {8} and {len(cells) for cells in totals} == {10}
    assert totals[1][6:8] == [f"{found['scan']:.1f}", f"{found['all alike']:.1f}"]
