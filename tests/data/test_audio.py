"""Features against sums and slopes written down from the formulas, and resampling against sines."""

from __future__ import annotations

import numpy as np
import pytest

from dsd_ort.data import audio
from dsd_ort.data.resample import resample
from dsd_ort.errors import RecipeError
from dsd_ort.recipe import Audio

SAMPLES = np.random.default_rng(0).standard_normal(3000) * 0.1
SHORT = {"sample_rate": 8000, "window": 0.02, "hop": 0.01, "mels": 20, "normalise": False}  # 160 and 80 samples


def spectrum(samples, window, hop):
    """|X|², by the matrix of the discrete Fourier transform."""
    n, k = np.arange(window), np.arange(window // 2 + 1)
    matrix = np.exp(-2j * np.pi * np.outer(n, k) / window)
    hann = np.sin(np.pi * n / window) ** 2
    starts = range(0, len(samples) - window + 1, hop)
    return np.abs(np.stack([(samples[s : s + window] * hann) @ matrix for s in starts])) ** 2


def test_a_log_spectrogram_is_the_logarithm_of_the_power_of_each_frequency():
    got = audio.features(SAMPLES, Audio(features="log-spectrogram", **SHORT))
    assert got.shape == (36, 81)  # (3000 - 160) // 80 + 1 frames
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.log(spectrum(SAMPLES, 160, 80) + 1e-10), rtol=0, atol=2e-6)


def test_a_long_recording_is_computed_in_pieces_with_the_same_result(monkeypatch):
    whole = audio.features(SAMPLES, Audio(**SHORT))
    monkeypatch.setattr(audio, "_FRAMES", 7)
    np.testing.assert_array_equal(audio.features(SAMPLES, Audio(**SHORT)), whole)


def mel(hertz):
    return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)


def test_log_mel_is_the_logarithm_of_triangles_on_slaneys_scale():
    """Each triangle is drawn by interpolation between edges that are looked up on a fine table of the scale."""
    table = np.linspace(0, 4000, 400001)
    edges = np.interp(np.linspace(0, mel(4000), 22), [mel(f) for f in table], table)
    frequencies = np.linspace(0, 4000, 81)
    expected = np.stack([
        np.interp(frequencies, [a, b, c], [0, 2 / (c - a), 0], left=0, right=0)
        for a, b, c in zip(edges, edges[1:], edges[2:])  # noqa: B905
    ])  # fmt: skip
    np.testing.assert_allclose(audio.mel_filters(8000, 160, 20), expected, atol=1e-8)
    got = audio.features(SAMPLES, Audio(features="log-mel", **SHORT))
    np.testing.assert_allclose(got, np.log(spectrum(SAMPLES, 160, 80) @ expected.T + 1e-10), rtol=0, atol=1e-5)


def test_a_tone_is_loudest_in_the_band_around_it():
    tone = np.sin(2 * np.pi * 1500 * np.arange(8000) / 8000)
    spectrogram = audio.features(tone, Audio(features="log-spectrogram", **SHORT))
    assert (spectrogram.argmax(axis=1) == 30).all()  # 1500 / 50 hertz a bin
    bands = audio.features(tone, Audio(**SHORT))
    assert (bands.argmax(axis=1) == audio.mel_filters(8000, 160, 20)[:, 30].argmax()).all()


def test_normalised_bands_have_mean_0_and_deviation_1():
    got = audio.features(SAMPLES, Audio(**{**SHORT, "normalise": True}))
    np.testing.assert_allclose(got.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(got.std(axis=0), 1, atol=1e-4)
    assert not audio.features(np.zeros(3000), Audio()).any(), "silence is no noise"


def test_the_other_layout_is_the_transpose():
    frames, bands = (audio.features(SAMPLES, Audio(layout=layout, **SHORT)) for layout in ("tf", "ft"))
    assert bands.flags.c_contiguous
    np.testing.assert_array_equal(frames, bands.T)


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (159, 1), (160, 1), (239, 1), (240, 2), (320, 3)])
def test_there_is_a_frame_for_each_hop_that_fits_and_at_least_one(samples, frames):
    assert audio.features(SAMPLES[:samples], Audio(**SHORT)).shape == (frames, 20)


def test_the_defaults_are_whispers_80_bands_each_of_which_hears_something():
    filters = audio.mel_filters(16000, 400, 80)
    assert filters.shape == (80, 201)
    assert filters.sum(axis=1).min() > 0


def test_more_bands_than_the_window_tells_apart_are_refused():
    with pytest.raises(RecipeError) as caught:
        audio.features(SAMPLES, Audio(**{**SHORT, "mels": 128}))
    assert caught.value.what == (
        "data.audio.mels = 128 is too many: 18 bands lie between two frequencies of a window of 160 samples"
    )
    assert caught.value.fix == "set fewer mels, or a longer window"


RATES = [(44100, 16000), (8000, 16000), (48000, 16000), (22050, 16000), (16000, 8000), (11025, 44100)]


@pytest.mark.parametrize(("rate", "target"), RATES)
def test_resampled_sines_are_sines(rate, target):
    """In the middle, where no silence of the ends reaches; up to 0.85 of what both rates can hold."""
    for share in (0.02, 0.5, 0.85):
        hertz = share * min(rate, target) / 2
        got = resample(np.sin(2 * np.pi * hertz * np.arange(rate // 4) / rate + 0.3), rate, target)
        assert len(got) == -(-(rate // 4) * target // rate)
        expected = np.sin(2 * np.pi * hertz * np.arange(len(got)) / target + 0.3)
        np.testing.assert_allclose(got[400:-400], expected[400:-400], atol=1e-4)


@pytest.mark.parametrize(("rate", "target"), [pair for pair in RATES if pair[0] > pair[1]])
def test_what_the_lower_rate_cannot_hold_is_gone(rate, target):
    """Otherwise it would come back as another tone."""
    tone = np.sin(2 * np.pi * 1.06 * target / 2 * np.arange(rate // 4) / rate)
    assert np.abs(resample(tone, rate, target)[400:-400]).max() < 1e-4


def test_a_constant_stays_one_and_the_same_rate_changes_nothing():
    np.testing.assert_allclose(resample(np.ones(4410, np.float32), 44100, 16000)[200:-200], 1, atol=1e-6)
    assert resample(SAMPLES, 8000, 8000) is SAMPLES
    assert resample(SAMPLES.astype(np.float32), 8000, 11025).dtype == np.float32
