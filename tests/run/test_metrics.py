from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.errors import InstallationError, RecipeError
from dsd_ort.recipe import FITTING_METRICS, Loss
from dsd_ort.run.metrics import HIGHER_IS_BETTER, METRICS, Answers, Meter, better, default_metrics, require_packages

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], np.float32)
CTC = Loss(name="ctc")


def measured(name: str, output: np.ndarray, label: np.ndarray, loss: Loss | None = None, **more: Any) -> tuple:
    return METRICS[name](Answers(output, label, loss or Loss(), **more))


def log_softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis, keepdims=True))


def path(*classes: int, of: int = 4) -> np.ndarray:
    """Logits f32[1, T, C] whose best path is this one."""
    logits = np.zeros((1, len(classes), of), np.float32)
    logits[0, range(len(classes)), classes] = 9
    return logits


def test_top_1_counts_the_highest_score() -> None:
    assert measured("top-1", SCORES, np.array([1, 0, 0])) == (2.0, 3)


def test_top_5_counts_a_label_among_the_five_highest() -> None:
    scores = np.arange(20, dtype=np.float32).reshape(2, 10)
    assert measured("top-5", scores, np.array([5, 4])) == (1.0, 2)


def test_labels_to_ignore_do_not_count() -> None:
    assert measured("top-1", SCORES, np.array([1, -100, 2]), Loss(ignore_index=-100)) == (2.0, 2)


def test_a_constant_or_broken_output_is_never_right() -> None:
    assert measured("top-1", np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0])) == (0.0, 4)
    assert measured("top-1", np.full((2, 3), np.nan, np.float32), np.array([0, 1])) == (0.0, 2)


def test_top_1_of_sequences_counts_every_position() -> None:
    scores = np.stack([SCORES, SCORES]).transpose(0, 2, 1)  # [2, 3 classes, 3 positions]
    assert measured("top-1", scores, np.array([[1, 0, 2], [0, 0, 0]])) == (4.0, 6)


@pytest.mark.parametrize("axis", [2, -1])
def test_top_1_follows_the_class_axis(axis: int) -> None:
    scores = np.stack([SCORES, SCORES])
    assert measured("top-1", scores, np.array([[1, 0, 2], [0, 0, 0]]), Loss(class_axis=axis)) == (4.0, 6)
    assert measured("top-1", scores[..., :2, :], np.array([[1, 0], [1, 1]]), Loss(class_axis=axis)) == (3.0, 4)


def test_mean_error_is_the_mean_absolute_difference() -> None:
    value, count = measured("mean-error", np.array([[1.0], [3.0]]), np.array([[2.0], [1.0]]), Loss(name="mse"))
    assert value / count == 1.5


def test_a_meter_weighs_batches_by_their_examples() -> None:
    meter = Meter(["loss", "top-1"], Loss())
    meter.add(SCORES, np.array([1, 0, 2]), 1.0)
    meter.add(SCORES[:1], np.array([0]), 3.0)
    assert meter.result() == pytest.approx({"loss": 1.5, "top-1": 0.75})


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("weights", [None, (1.0, 0.0, 2.5)])
def test_the_loss_of_all_data_is_that_of_one_batch_however_it_is_cut(axis: int, weights: tuple | None) -> None:
    """Cross-entropy is a mean over labels that count, by their class weights, and batches differ in those."""
    random = np.random.default_rng(0)
    logits = random.standard_normal((5, 3, 4) if axis == 1 else (5, 4, 3))
    labels = np.where(random.random((5, 4)) < 0.4, -1, random.integers(0, 3, (5, 4)))
    loss = Loss(class_axis=axis, ignore_index=-1, class_weights=weights)

    def cross_entropy(part: slice) -> float:
        valid = labels[part] >= 0
        own = np.moveaxis(log_softmax(logits[part], axis), axis, -1)[valid, labels[part][valid]]
        weight = np.array(weights or [1.0] * 3)[labels[part][valid]]
        return float(-(weight * own).sum() / weight.sum()) if weight.sum() else 0.0

    meter = Meter(["loss"], loss)
    for part in (slice(0, 1), slice(1, 4), slice(4, 5)):
        meter.add(logits[part], labels[part], cross_entropy(part))
    assert meter.result()["loss"] == pytest.approx(cross_entropy(slice(None)), rel=1e-12)


def test_the_loss_of_ctc_is_weighed_by_examples_and_of_values_by_values() -> None:
    labels = np.array([[1, 2, 3], [1, -1, -1]])
    assert measured("loss", np.zeros((2, 9, 4)), labels, CTC, value=1.5) == (3.0, 2)
    assert measured("loss", np.zeros((2, 5)), np.zeros((2, 5)), Loss(name="mse"), value=1.5) == (15.0, 10)


def test_a_batch_without_labels_that_count_weighs_nothing() -> None:
    meter = Meter(["loss", "top-1", "perplexity"], Loss(ignore_index=-1))
    meter.add(SCORES, np.array([-1, -1, -1]), math.nan)
    assert meter.result() == {}
    meter.add(SCORES, np.array([1, 0, 2]), 0.5)
    assert meter.result()["loss"] == 0.5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, -1]), st.integers(1, 5))
def test_perplexity_is_that_of_all_tokens_however_they_are_cut(seed: int, axis: int, size: int) -> None:
    random = np.random.default_rng(seed)
    logits = (3 * random.standard_normal((5, 4, 3))).astype(np.float32)
    labels = np.where(random.random((5, 4)) < 0.3, -1, random.integers(0, 3, (5, 4)))
    labels[0, 0] = 1
    valid = labels >= 0
    wanted = np.exp(-log_softmax(logits, -1)[valid, labels[valid]].mean())
    meter = Meter(["perplexity"], Loss(class_axis=axis, ignore_index=-1))
    for i in range(0, 5, size):
        meter.add(
            logits[i : i + size] if axis == -1 else logits[i : i + size].swapaxes(1, 2), labels[i : i + size], 0.0
        )
    assert meter.result()["perplexity"] == pytest.approx(wanted, rel=1e-6)


def test_perplexity_of_chance_is_the_number_of_classes_also_behind_a_softmax() -> None:
    labels = np.arange(8) % 4
    for output in (np.zeros((8, 4)), np.full((8, 4), 0.25, np.float32), np.log(np.full((8, 4), 0.25))):
        meter = Meter(["perplexity"], Loss())
        meter.add(output, labels, 0.0)
        assert meter.result()["perplexity"] == pytest.approx(4)


def test_a_broken_output_has_no_perplexity_and_a_hopeless_one_an_infinite_one() -> None:
    for value, check in ((np.nan, math.isnan), (np.inf, math.isnan), (-1e30, math.isinf)):
        meter = Meter(["perplexity", "top-1", "top-5"], Loss())
        meter.add(np.array([[value, 0.0, 1.0]], np.float32), np.array([0]), 0.0)
        assert check(meter.result()["perplexity"])


def test_cer_is_edits_over_the_labels_length_and_may_exceed_one() -> None:
    meter = Meter(["cer"], CTC)
    meter.add(path(1, 1, 0, 1, 2), np.array([[1, 2, -1]]), 0.0)
    assert meter.result() == {"cer": 0.5}
    meter.add(path(3, 0, 3, 1, 0), np.array([[-1, -1, -1]]), 0.0)
    assert meter.result() == {"cer": 2.0}, "1 insertion, and 3 where nothing should be said"


@pytest.mark.parametrize(("time", "classes"), [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (1, -1), (0, None)])
def test_cer_follows_time_axis_class_axis_blank_and_lengths(time: int, classes: int | None) -> None:
    logits = np.concatenate([path(3, 1, 1, 2), path(2, 2, 3, 3)])  # of N, T, C
    last = 2 if classes is None else classes % 3
    axes = {3 - time - last: 0, time: 1, last: 2}
    output = logits.transpose([axes[i] for i in range(3)])
    loss = Loss(name="ctc", time_axis=time, class_axis=classes, blank=3, ignore_index=-7)
    labels = np.array([[1, 2], [2, -7]])
    assert measured("cer", output, labels, loss) == (0, 3)
    assert measured("cer", output, labels, loss, lengths=np.array([3, 2])) == (1, 3)


def test_cer_without_an_alphabet_takes_each_class_for_a_character() -> None:
    assert measured("cer", path(70000, 32, of=70001), np.array([[70000, 32]]), CTC) == (0, 2)


def test_cer_with_an_alphabet_is_of_its_text() -> None:
    label = np.array([[1, 2, -1]])
    assert measured("cer", path(1, 3), label, CTC, alphabet=["", "th", "e", "en"]) == (1, 3)


def test_wer_is_of_words_between_the_alphabets_spaces() -> None:
    # "a bb c" said for "a b"
    output, label = path(1, 3, 2, 0, 2, 3, 4, of=5), np.array([[1, 3, 2]])
    assert measured("wer", output, label, CTC, alphabet="_ab c") == (2, 2)
    meter = Meter(["wer", "cer"], CTC, "_ab c")
    meter.add(output, label, 0.0, None)
    assert meter.result() == {"wer": 1.0, "cer": 1.0}


def test_wer_without_an_alphabet_or_with_a_short_one_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"the metric 'wer' needs data.alphabet, to know words") as caught:
        measured("wer", path(1), np.array([[1]]), CTC)
    assert caught.value.fix == 'give the text of each class, as alphabet = "_ abc…"'
    for name in ("cer", "wer"):
        with pytest.raises(RecipeError, match=r"data.alphabet has 3 classes, and the model 4") as caught:
            measured(name, path(1), np.array([[1]]), CTC, alphabet="_ab")
        assert caught.value.fix is not None
        assert caught.value.fix.startswith("give the text of every class")


def test_a_broken_output_says_something_and_ends_no_evaluation() -> None:
    for value in (np.nan, np.inf, -np.inf):
        output = np.full((1, 5, 4), value, np.float32)
        assert measured("cer", output, np.array([[1, 2]]), CTC)[1] == 2


def test_a_missing_package_is_found_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    require_packages(["loss", "cer", "wer"])
    monkeypatch.setitem(sys.modules, "jiwer", None)
    require_packages(["loss", "perplexity"])
    with pytest.raises(InstallationError, match="jiwer is not installed"):
        require_packages(["loss", "wer"])


def test_better_knows_the_direction_of_each_metric() -> None:
    assert better("loss", 1.0, None)
    assert better("loss", 1.0, 2.0)
    assert not better("loss", 2.0, 2.0)
    assert better("top-1", 0.9, 0.8)
    assert not better("top-1", float("nan"), 0.8)
    assert better("loss", 9.0, float("nan")), "one bad evaluation does not hold the place of the best for ever"
    assert all(better(name, 1.0, 2.0) for name in ("perplexity", "cer", "wer", "mean-error"))


def test_the_metrics_fit_the_loss() -> None:
    assert "top-1" in default_metrics([Loss()])
    assert default_metrics([Loss(name="mse")]) == ["loss", "mean-error"]
    assert default_metrics([Loss(name="bce-with-logits")]) == ["loss"]


def test_every_metric_that_a_recipe_may_name_is_there() -> None:
    named = {name for fitting in FITTING_METRICS.values() for name in fitting}
    assert named == set(METRICS) == set(HIGHER_IS_BETTER)
