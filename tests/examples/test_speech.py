"""The speech example on a few made-up stamps: what is left out, honest splits, and the whole job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from dsd_ort.errors import DataError
from dsd_ort.recipe import Recipe
from examples.speech import __main__ as job
from examples.speech import stamps
from tests.examples.test_captions import shortened


def folder(root: Path, texts: list[str], *, seconds: float = 1.0) -> Path:
    """Stamps with these texts, each with a recording of noise."""
    rng = np.random.default_rng(0)
    for i, text in enumerate(texts):
        place = root / f"group{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:02}.txt").write_text(f"A thing.\nes.utf8={text}\nfr.utf8=Une chose.\n", "utf-8")
        samples = 0.1 * rng.standard_normal(int(seconds * 22050))
        soundfile.write(place / f"{i:02}_desc_es.ogg", samples, 22050)
    return root


def test_texts_are_letters_and_what_cannot_be_learned_is_left_out(tmp_path: Path) -> None:
    kept, digits = "¡Una araña  pequeña, «José»!", "Una moneda de 5 céntimos."
    found = stamps.read(folder(tmp_path, [kept, digits, "una " * 20, ""]))
    assert [stamp.text for stamp in found] == ["una araña pequeña josé"]
    assert found[0].seconds == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("held_out", [False, True])
def test_no_text_is_on_both_sides(tmp_path: Path, held_out: bool) -> None:
    texts = [f"Una {'abcdefghij'[i % 10]}{'abcdefghij'[i % 7]}." for i in range(40)]
    found = stamps.read(folder(tmp_path, texts, seconds=0.5))
    train, test = ({stamp.text for stamp in side} for side in stamps.split(found, held_out=held_out))
    assert train and test and train.isdisjoint(test)
    assert test.isdisjoint({stamp.text for stamp in stamps.split(found, held_out=not held_out)[1]})


def test_a_folder_without_stamps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="apt-get install tuxpaint-stamps-default"):
        stamps.read(tmp_path)


def test_the_whole_job_goes_from_recordings_to_transcripts_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job.Recipe, "load", shortened(Recipe.load))
    monkeypatch.setattr(job, "WIDTH", 16)
    data = folder(tmp_path / "stamps", [f"Una {'abcdefghij'[i]}." for i in range(10)], seconds=0.6)
    arguments = ["-o", str(tmp_path / "out"), "--data", str(data), "--threads", "1"]
    job.speech.main(arguments, standalone_mode=False)
    first = capsys.readouterr().out
    for text in ("DSD", "5 dense", "dense only", "best path", "prefix beam of 32"):
        assert text in first
    assert (tmp_path / "out" / "final.onnx").exists()
    assert "→" in (tmp_path / "out" / "transcripts.txt").read_text("utf-8")
    job.speech.main(arguments, standalone_mode=False)
    assert capsys.readouterr().out == first
