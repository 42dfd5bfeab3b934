from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import soundfile

from dsd_ort.data import Batches, Field, audio, open_data
from dsd_ort.data.recordings import encode
from dsd_ort.errors import DataError, InstallationError
from dsd_ort.recipe import Audio, Data

FIELDS = [
    Field("features", "float32", ("N", "T", 12)),
    Field("lengths", "int64", ("N",)),
    Field("label", "int64", ("N", None), label=True, classes=5, ignore_index=-1, blank=0),
]
DATA = Data(alphabet="_ abc", audio=Audio(sample_rate=8000, mels=12))
LINES = [  # samples, text
    (1600, "a cab"),
    (2400, "b"),
    (900, ""),
]
FIX = 'write one object a line, as {"audio_filepath": "a.wav", "text": "the cat", "duration": 1.8}'


def sound(samples, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples)


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "audio").mkdir()
    lines = []
    for i, (samples, text) in enumerate(LINES):
        soundfile.write(tmp_path / "audio" / f"{i}.wav", sound(samples, i), 8000, subtype="FLOAT")
        lines.append(json.dumps({"audio_filepath": f"audio/{i}.wav", "text": text, "speaker": 7}))
    path = tmp_path / "train.jsonl"
    path.write_text("\n\n".join(lines) + "\n")
    return path


def assert_holds(dataset):
    batch = dataset.gather(np.arange(3))
    assert list(batch) == ["features", "lengths", "label"]
    assert batch["lengths"].tolist() == [18, 28, 9]  # (samples - 200) // 80 + 1
    assert batch["label"].tolist() == [[2, 1, 4, 2, 3], [3, -1, -1, -1, -1], [-1, -1, -1, -1, -1]]
    for i, (frames, (samples, _)) in enumerate(zip(batch["lengths"], LINES, strict=True)):
        expected = audio.features(sound(samples, i).astype(np.float32), DATA.audio)
        np.testing.assert_array_equal(batch["features"][i, :frames], expected)
        assert not batch["features"][i, frames:].any()


def test_a_manifest_gives_features_lengths_and_labels(manifest):
    dataset = open_data(manifest, FIELDS, DATA)
    assert_holds(dataset)
    assert dataset.notes == ()
    manifest.rename(manifest.with_suffix(".json"))
    assert_holds(open_data(manifest.with_suffix(".json"), FIELDS, DATA))


def test_a_folder_of_recordings_with_texts_gives_the_same(manifest):
    folder = manifest.parent / "audio"
    for i, (_, text) in enumerate(LINES):
        (folder / f"{i}.txt").write_text(f"{text}\n")
    assert_holds(open_data(folder, FIELDS, DATA))


def test_other_names_of_the_models_inputs_match_by_position(manifest):
    fields = [Field("x", "float32", ("N", "T", 12)), Field("x_lens", "int64", ("N",)), FIELDS[2]]
    dataset = open_data(manifest, fields, DATA)
    assert dataset.gather(np.arange(3))["x_lens"].tolist() == [18, 28, 9]
    assert dataset.notes == ("array 'features' feeds input 'x'", "array 'lengths' feeds input 'x_lens'")
    assert open_data(manifest, [fields[0], FIELDS[2]], DATA).notes == (
        "array 'features' feeds input 'x'",
        "not used: 'lengths'",
    )


def test_a_model_may_want_frequency_first_and_a_channel(manifest):
    fields = [Field("x", "float32", ("N", 1, 12, "T")), FIELDS[2]]
    data = Data(alphabet=DATA.alphabet, audio=Audio(sample_rate=8000, mels=12, layout="ft"))
    assert open_data(manifest, fields, data).gather(np.arange(3))["x"].shape == (3, 1, 12, 28)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_recordings_are_mixed_and_resampled(tmp_path, ending):
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(22050) / 22050)
    soundfile.write(tmp_path / f"1.{ending}", np.stack([tone, np.zeros_like(tone)], axis=1), 22050)
    samples = audio.read(tmp_path / f"1.{ending}", 16000)
    assert samples.dtype == np.float32
    expected = 0.25 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    np.testing.assert_allclose(samples[1000:-1000], expected[1000:-1000], atol=0.05 if ending == "ogg" else 1e-4)
    assert audio.seconds(tmp_path / f"1.{ending}") == 1.0
    assert audio.features(tmp_path / f"1.{ending}").shape == (98, 80)


def test_buckets_sort_by_the_durations_of_the_manifest_or_of_the_files(manifest):
    dataset = open_data(manifest, FIELDS, DATA)
    np.testing.assert_allclose(dataset.lengths, [0.2, 0.3, 0.1125])
    entries = [json.loads(line) for line in manifest.read_text().splitlines() if line]
    for entry, seconds in zip(entries, (3, 2, 1.5), strict=True):
        entry["duration"] = seconds
    manifest.write_text("\n".join(map(json.dumps, entries)))
    dataset = open_data(manifest, FIELDS, DATA)
    assert dataset.lengths.tolist() == [3, 2, 1.5]
    sizes = [len(b["lengths"]) for b in Batches(dataset, 2, bucket=True)]
    assert sorted(sizes) == [1, 2]


def test_a_recording_is_read_once_while_there_is_room(manifest):
    dataset = open_data(manifest, FIELDS, DATA)
    assert_holds(dataset)
    for file in (manifest.parent / "audio").iterdir():
        file.unlink()
    assert_holds(dataset)


def test_the_alphabet_may_have_entries_of_several_characters_and_the_blank_is_none():
    assert encode("chat", "", alphabet=("_", "c", "ch", "a", "t")).tolist() == [2, 3, 4]
    assert encode("", "", alphabet="ab").tolist() == []
    assert encode("a", "", alphabet=("", "a")).tolist() == [1]
    with pytest.raises(DataError, match="the text has '_'"):
        encode("a_", "", alphabet="_a", blank=0)


def refusal(spec, fields=FIELDS, data=DATA):
    with pytest.raises(DataError) as caught:
        open_data(spec, fields, data).gather(np.arange(3))
    return caught.value.what, caught.value.where, caught.value.fix


@pytest.mark.parametrize(
    ("line", "what", "fix"),
    [
        ("{", "the line is not JSON: Input data was truncated", FIX),
        ("[1]", "the line is no JSON object", FIX),
        ('{"text": "a"}', "the line has no text under 'audio_filepath'", FIX),
        ('{"audio_filepath": "audio/0.wav", "text": 3}', "the line has no text under 'text'", FIX),
        ('{"audio_filepath": "audio/0.wav", "text": "a", "duration": "1"}', "the duration is no number", FIX),
        (
            '{"audio_filepath": "0.wav", "text": "a"}',
            "there is no recording '0.wav'",
            "mend the path, which is relative to the manifest's folder, or remove the line",
        ),
        (
            '{"audio_filepath": "audio/0.wav", "text": "a Cab"}',
            "the text has 'C', which data.alphabet does not have, as its character 3",
            "add it to the alphabet, or write the text with what is there (it may be a matter of upper case)",
        ),
    ],
)
def test_a_wrong_line_is_named(manifest, line, what, fix):
    right = '{"audio_filepath": "audio/0.wav", "text": "a", "note": "\u2028 ends no line"}'
    manifest.write_text(f"{right}\n{line}", "utf-8")
    assert refusal(manifest) == (what, f"{manifest}, line 2", fix)


def test_a_manifest_that_is_no_text_or_empty(manifest):
    manifest.write_bytes(b"\xff\xfe{}")
    assert refusal(manifest) == ("the manifest is not text in UTF-8", str(manifest), "write it in UTF-8")
    manifest.write_text("\n")
    assert refusal(manifest) == ("there are no examples", str(manifest), "give data with at least one example")


def test_a_recording_without_a_text_is_named(manifest):
    folder = manifest.parent / "audio"
    (folder / "0.txt").write_text("a")
    what, fix = "the recording has no text: there is no 1.txt", "write what is said into 1.txt, or remove the recording"
    assert refusal(folder) == (what, str(folder / "1.wav"), fix)


@pytest.mark.parametrize(
    ("alphabet", "what"),
    [
        ("", "recordings with texts need an alphabet"),
        (" abc", "data.alphabet has 4 entries, but the model has 5 classes"),  # the blank was forgotten
    ],
)
def test_an_alphabet_that_does_not_fit_the_model(manifest, alphabet, what):
    fix = 'give the text of each class, from class 0 on and with one for the blank, as alphabet = "_ abc…"'
    assert refusal(manifest, data=Data(alphabet=alphabet, audio=DATA.audio)) == (what, "recipe, data.alphabet", fix)


def test_bands_that_the_model_does_not_take(manifest):
    fields = [Field("features", "float32", ("N", "T", 101)), *FIELDS[1:]]
    assert refusal(manifest, fields) == (
        "array 'features' has shape [1, 18, 12], but input 'features' takes [N, T, 101]: axis 2 is 12, not 101",
        str(manifest),
        'in [data.audio], features = "log-mel" gives mels = 12 bands and "log-spectrogram" 101, '
        '⌊window · sample_rate / 2⌋ + 1; layout = "tf" is [frames, bands], "ft" [bands, frames]',
    )


@pytest.mark.parametrize("content", [b"", b"hello" * 50])
def test_a_damaged_recording_is_named(manifest, content):
    path = manifest.parent / "audio" / "1.wav"
    path.write_bytes(content)
    what, where, fix = refusal(manifest)
    assert what.startswith("the recording cannot be read: ")
    assert (where, fix) == (str(path), "remove it, or write it again as wav or flac")
    with pytest.raises(DataError, match="the recording cannot be read"):
        audio.seconds(path)


def test_a_recording_without_sound_is_named(manifest):
    path = manifest.parent / "audio" / "0.wav"
    soundfile.write(path, np.zeros(0), 8000)
    assert refusal(manifest) == ("the recording holds no sound", str(path), "remove it, or record it again")


def test_without_soundfile_the_way_to_it_is_told(manifest, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(InstallationError) as caught:
        open_data(manifest, FIELDS, DATA)
    assert caught.value.what == (
        "the data is recordings, and soundfile, which reads them, is not installed or finds no libsndfile"
    )
    assert caught.value.fix == 'pip install "dsd-ort[audio]"'
