from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from dsd_ort import decode
from dsd_ort.decode import Captioner, Hypothesis
from dsd_ort.errors import DataError, ModelError

START, END, LIMIT = 1, 2, 3
ASKED = {"start": START, "end": END, "limit": LIMIT}
RANDOM = np.random.default_rng(3)
TABLE = 2 * RANDOM.standard_normal((5, 5)).astype(np.float32)
LOOK = 2 * RANDOM.standard_normal((4, 5)).astype(np.float32)
IMAGES = RANDOM.standard_normal((3, 4)).astype(np.float32)

BIGRAMS = """
<ir_version: 8, opset_import: ["" : 17]>
bigrams (float[N, 4] image, int64[N, T] words) => (float[N, T, 5] logits) <int64[1] one = {1}> {
    seen = MatMul (image, look)
    all = Unsqueeze (seen, one)
    follows = Gather (table, words)
    logits = Add (follows, all)
}
"""
"""The next word depends on the image and the word before it."""


def bigrams(text: str = BIGRAMS) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    for name, array in {"table": TABLE, "look": LOOK}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def exact(image: np.ndarray) -> dict[tuple[int, ...], float]:
    """Sentences → log p, all that there are."""
    logits = TABLE + image @ LOOK
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    inner = [word for word in range(5) if word != END]
    every = (s for n in range(LIMIT + 1) for s in itertools.product(inner, repeat=n))
    return {s: sum(logp[a, b] for a, b in itertools.pairwise((START, *s, END))) for s in every}


def scores_of(found: list[Hypothesis]) -> dict[tuple[int, ...], float]:
    return {tuple(hypothesis.labels): hypothesis.score for hypothesis in found}


def test_an_onnx_file_says_its_best_sentences(tmp_path: Path) -> None:
    path = tmp_path / "captions.onnx"
    path.write_bytes(bigrams().SerializeToString())
    found = Captioner(path, words="words", output="logits").beam({"image": IMAGES}, width=100, **ASKED)
    for image, hypotheses in zip(IMAGES, found, strict=True):
        assert scores_of(hypotheses) == pytest.approx(exact(image), abs=1e-5)


def test_greedy_takes_the_likeliest_word_each_time() -> None:
    for image, said in zip(IMAGES, Captioner(bigrams()).greedy({"image": IMAGES}, **ASKED), strict=True):
        word, wanted = START, []
        while len(wanted) < LIMIT and (word := int((TABLE[word] + image @ LOOK).argmax())) != END:
            wanted.append(word)
        assert said == wanted


def test_a_softmax_at_the_models_end_changes_nothing() -> None:
    text = BIGRAMS.replace("logits = Add (follows, all)", "sum = Add (follows, all) logits = Softmax (sum)")
    asked = {**ASKED, "width": 100, "alpha": 0.7}
    plain, ended = (Captioner(bigrams(t)).beam({"image": IMAGES}, **asked) for t in (BIGRAMS, text))
    for a, b in zip(plain, ended, strict=True):
        assert scores_of(a) == pytest.approx(scores_of(b), abs=1e-5)


def test_words_are_padded_where_the_model_fixes_their_number() -> None:
    fixed = Captioner(bigrams(BIGRAMS.replace("T]", "4]").replace("N, T, 5", "N, 4, 5")))
    free = Captioner(bigrams())
    assert fixed.greedy({"image": IMAGES}, **ASKED) == free.greedy({"image": IMAGES}, **ASKED)
    assert fixed.beam({"image": IMAGES}, **ASKED) == free.beam({"image": IMAGES}, **ASKED)
    with pytest.raises(DataError, match="the model takes 4 words, and 5 are said") as caught:
        fixed.beam({"image": IMAGES}, start=START, end=END, limit=4, width=100)
    assert caught.value.fix == "give limit=3 or less, or export the model with a symbolic length"


def test_inputs_are_taken_in_another_precision_but_not_of_another_kind() -> None:
    narrow = Captioner(bigrams(BIGRAMS.replace("int64[N, T]", "int32[N, T]")))
    wide = {"image": IMAGES.astype(np.float64)}
    assert narrow.greedy(wide, **ASKED) == Captioner(bigrams()).greedy({"image": IMAGES}, **ASKED)
    with pytest.raises(DataError, match="the input 'image' holds complex128, and the model takes float32") as caught:
        narrow.greedy({"image": IMAGES.astype(complex)}, **ASKED)
    assert "astype('float32')" in (caught.value.fix or "")


def test_a_language_model_takes_nothing_but_words() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    words (int64[N, T] words) => (float[N, T, 5] logits) { logits = Gather (table, words) }
    """
    (found,) = Captioner(bigrams(text)).beam({}, width=100, **ASKED)
    assert scores_of(found) == pytest.approx(exact(np.zeros(4)), abs=1e-5)


def test_a_model_without_the_input_or_output_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="the model has no input 'word'") as caught:
        Captioner(bigrams(), words="word")
    assert caught.value.fix == "did you mean 'words'?"
    with pytest.raises(ModelError, match="the model has no input 'tokens'") as caught:
        Captioner(bigrams(), words="tokens")
    assert caught.value.fix == "give words=, one of image, words"
    with pytest.raises(ModelError, match="the model has no output 'scores'"):
        Captioner(bigrams(), output="scores")
    two = BIGRAMS.replace("logits) <", "logits, float[N, 5] seen) <")
    with pytest.raises(ModelError, match="the model has 2 outputs: logits, seen") as caught:
        Captioner(bigrams(two))
    assert caught.value.fix == 'name the one that has the scores, as output="…"'
    assert Captioner(bigrams(two), output="logits").greedy({"image": IMAGES}, **ASKED)


def test_a_file_that_is_not_there_or_no_model_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        Captioner(tmp_path / "none.onnx")
    assert "none.onnx" in (caught.value.where or "")


def test_inputs_that_are_not_the_models_are_refused_by_name() -> None:
    captioner = Captioner(bigrams())
    with pytest.raises(DataError, match="the model's input 'image' is not given") as caught:
        captioner.greedy({}, **ASKED)
    assert caught.value.fix == "give image beside words"
    with pytest.raises(DataError, match="the model has no input 'images' beside its words") as caught:
        captioner.beam({"images": IMAGES}, **ASKED)
    assert caught.value.fix == "did you mean 'image'?"
    with pytest.raises(DataError, match="no input 'words' beside its words"):
        captioner.beam({"image": IMAGES, "words": np.zeros((3, 1), np.int64)}, **ASKED)
    with pytest.raises(DataError, match="the batch cannot be run") as caught:
        captioner.greedy({"image": IMAGES[:, :2]}, **ASKED)
    assert "onnxruntime_src" not in str(caught.value)


def test_an_output_that_scores_no_words_is_refused() -> None:
    two = BIGRAMS.replace("logits) <", "logits, float[N, 5] seen) <")
    with pytest.raises(DataError, match=r"for words of the shape \[3, 1\] the scores have the shape \[3, 1\]"):
        Captioner(bigrams(two), output="seen").greedy({"image": IMAGES}, **ASKED)


def test_what_users_need_is_in_one_place() -> None:
    assert set(decode.__all__) == {"Captioner", "Hypothesis", "ctc", "scores", "words"}


SECOND = """
<ir_version: 8, opset_import: ["" : 17]>
bigrams (float[N, 4] image, int64[T, N] words) => (float[T, N, 5] logits) {
    seen = MatMul (image, look)
    follows = Gather (table, words)
    logits = Add (follows, seen)
}
"""
"""The same with the words one below the other."""


@pytest.mark.parametrize("steps", ["T", "4"])
@pytest.mark.parametrize("batch", ["N", "batch", "s0"])
def test_examples_may_stand_side_by_side_where_names_say_so(batch: str, steps: str) -> None:
    text = SECOND.replace("[T, N", f"[{steps}, {batch}").replace("[N,", f"[{batch},")
    model = Captioner(bigrams(text))
    assert model.axes == {"words": 1, "logits": 1}
    for ours, theirs in zip(
        model.beam({"image": IMAGES}, **ASKED), Captioner(bigrams()).beam({"image": IMAGES}, **ASKED), strict=True
    ):
        assert scores_of(ours) == pytest.approx(scores_of(theirs), abs=1e-5)
    assert model.greedy({"image": IMAGES}, **ASKED) == Captioner(bigrams()).greedy({"image": IMAGES}, **ASKED)
