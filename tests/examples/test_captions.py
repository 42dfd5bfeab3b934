"""The captions example on a package of a few emoji: honest splits, and the whole job, stopped and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from dsd_ort.errors import DataError
from dsd_ort.recipe import Recipe
from examples.captions import __main__ as job
from examples.captions import emoji


def package(folder: Path, *, names: int = 24) -> Path:
    """A package of that many names; every third one comes in two skin tones too."""
    rng = np.random.default_rng(0)
    pictures = folder / "img" / "google" / "64"
    pictures.mkdir(parents=True)
    entries = []
    for i in range(names):
        tones = ("1F3FB", "1F3FE-1F3FF") if i % 3 == 0 else ()
        for image in (f"{i}.png", *(f"{i}-{tone}.png" for tone in tones)):
            PIL.Image.fromarray(rng.integers(0, 255, (64, 64, 4), np.uint8), "RGBA").save(pictures / image)
        variations = {tone: {"image": f"{i}-{tone}.png", "has_img_google": True} for tone in tones}
        name = f"{['MAN', 'WOMAN'][i % 2]} Running-{i}"
        entries.append({"name": name, "image": f"{i}.png", "has_img_google": True, "skin_variations": variations})
    entries.append({"name": "NOWHERE", "image": "none.png", "has_img_google": False})
    (folder / "emoji.json").write_text(json.dumps(entries))
    return folder


def test_a_caption_is_a_name_and_its_tones(tmp_path: Path) -> None:
    found = emoji.read(package(tmp_path, names=2))
    assert [" ".join(one.words) for one in found] == [
        "man running 0",
        "man running 0 light skin tone",
        "man running 0 medium dark skin tone dark skin tone",
        "woman running 1",
    ]


@pytest.mark.parametrize("held_out", [False, True])
def test_no_name_is_on_both_sides_whatever_its_tones(tmp_path: Path, held_out: bool) -> None:
    found = emoji.read(package(tmp_path))
    split = emoji.split(found, held_out=held_out)
    pixels = [{picture.tobytes() for picture in side["image"]} for side in (split.train, split.test)]
    sides = [{one.name for one in found if emoji.images.read(one.picture, "RGB").tobytes() in side} for side in pixels]
    assert all(sides) and sides[0].isdisjoint(sides[1])
    assert len(sides[0]) + len(sides[1]) == (24 - 3 if held_out else 24)
    other = emoji.split(found, held_out=not held_out)
    assert not pixels[1] & {picture.tobytes() for picture in other.test["image"]}


def test_labels_are_the_words_that_follow_and_rare_ones_are_unknown(tmp_path: Path) -> None:
    split = emoji.split(emoji.read(package(tmp_path)))
    for words, label in zip(split.train["words"], split.train["label"], strict=True):
        length = int((label != emoji.PADDING).sum())
        assert words[0] == emoji.START and label[length - 1] == emoji.END
        np.testing.assert_array_equal(words[1:length], label[: length - 1])
        assert label[2] == emoji.UNKNOWN, "each number is in one name only"
    assert split.text(split.train["label"][0][:2]) in ("man running", "woman running")


def test_a_folder_that_is_not_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="npm install"):
        emoji.read(tmp_path)


def test_the_whole_job_goes_from_pictures_to_captions_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job.Recipe, "load", shortened(Recipe.load))
    arguments = ["-o", str(tmp_path / "out"), "--data", str(package(tmp_path / "package")), "--threads", "1"]
    job.captions.main(arguments, standalone_mode=False)
    first = capsys.readouterr().out
    for text in ("as it came", "sparse", "dense only", "blank pictures: perplexity", "BLEU-4", "beam of 5"):
        assert text in first
    assert (tmp_path / "out" / "final.onnx").exists()
    assert "→" in (tmp_path / "out" / "captions.txt").read_text("utf-8")
    job.captions.main(arguments, standalone_mode=False)
    assert capsys.readouterr().out == first


def shortened(load):
    """Recipes of one epoch a phase."""

    def loaded(path):
        table = load(path).to_dict()
        return Recipe.from_dict(table | {"phase": [phase | {"epochs": 1} for phase in table["phase"]]})

    return loaded
