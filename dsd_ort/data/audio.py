"""Recordings → features, as the recipe's ``[data.audio]`` says::

    x[n]      the mean of the channels, in [-1, 1], at sample_rate
    X[t, k] = Σ_n w[n]·x[t·hop + n]·exp(-2πi·k·n/W)     n, the samples of a window, 0 … W - 1;  k = 0 … ⌊W/2⌋
    w[n]    = ½ - ½·cos(2πn/W)                          Hann's window
    log-spectrogram   y = log(|X|² + 10⁻¹⁰)                 f32[T, ⌊W/2⌋ + 1]
    log-mel           y = log(|X|²·Mᵀ + 10⁻¹⁰)              f32[T, mels]
    normalise         (y - mean over t) / (deviation over t + 10⁻⁵)

T = ⌊(S - W) / hop⌋ + 1: no frame reaches past the recording's end, and a recording that is shorter than one window is
filled up with silence.

M has *mels* triangles on the scale of Slaney, ``mel(f) = 3f/200`` below 1000 Hz and ``15 + 27·ln(f/1000)/ln 6.4`` from
there on: from 0 to half the rate, equally spaced in mels, each of area 1 hertz.  Source: M. Slaney, "Auditory Toolbox",
1998; the matrix is that of ``librosa.filters.mel`` with its defaults, and of Whisper.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsd_ort.data.resample import resample
from dsd_ort.data.source_forms import unreadable
from dsd_ort.errors import DataError, InstallationError, RecipeError
from dsd_ort.recipe import Audio

FLOOR, SPREAD = 1e-10, 1e-5

SAMPLES = 1 << 28
"""Of one recording, all channels together: an hour and a half at 48 kHz."""
_FRAMES = 4096  # that are computed at once


def features(recording: str | Path | npt.NDArray[Any], audio: Audio | None = None) -> npt.NDArray[np.float32]:
    """f32[T, F], or f32[F, T] with ``layout = "ft"``: what training saw of such a recording.

    Args:
        recording: an audio file, or samples f[S] at ``sample_rate``.
        audio: the recipe's ``data.audio``.

    Raises:
        DataError: the file cannot be read, or holds no sound.
        InstallationError: soundfile is missing.
        RecipeError: more bands of log-mel than the window tells apart.
    """
    audio = audio or Audio()
    samples = recording if isinstance(recording, np.ndarray) else read(Path(recording), audio.sample_rate)
    bands = _bands(np.asarray(samples, np.float64), audio)
    if audio.normalise:
        bands = (bands - bands.mean(axis=0)) / (bands.std(axis=0) + SPREAD)
    return np.ascontiguousarray(bands if audio.layout == "tf" else bands.T, np.float32)


def read(path: Path, rate: int) -> npt.NDArray[np.float32]:
    """The mean of a recording's channels, f32[S] at *rate* hertz.

    Raises:
        DataError: it cannot be read, or holds no sound.
        InstallationError: soundfile is missing.
    """
    soundfile = require_soundfile(str(path))
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames * file.channels > SAMPLES:
                what = f"the recording has {file.frames:,} samples of {file.channels} channels; {SAMPLES:,} is the most"
                raise DataError(what, where=str(path), fix="cut it into sentences")
            samples, own_rate = file.read(dtype="float32", always_2d=True), file.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error
    if not len(samples):
        raise DataError("the recording holds no sound", where=str(path), fix="remove it, or record it again")
    return resample(samples.mean(axis=1), own_rate, rate)


def seconds(path: Path) -> float:
    """How long a recording is; only its header is read.

    Raises:
        DataError: it cannot be read.
    """
    soundfile = require_soundfile(str(path))
    try:
        return float(soundfile.info(path).duration)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error


def samples_of(audio: Audio) -> tuple[int, int]:
    """The samples of a window, and from one to the next."""
    return round(audio.window * audio.sample_rate), round(audio.hop * audio.sample_rate)


@lru_cache(maxsize=8)
def mel_filters(rate: int, window: int, mels: int) -> npt.NDArray[np.float64]:
    """M, f64[mels, ⌊window/2⌋ + 1].

    Raises:
        RecipeError: a triangle lies between two frequencies of the window and would always be silent.
    """
    frequencies = np.arange(window // 2 + 1) * rate / window
    edges = _hertz(np.linspace(0, _mel(np.array(rate / 2)), mels + 2))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre))
    filters: npt.NDArray[np.float64] = np.maximum(triangles, 0) * 2 / (high - low)
    if empty := int((filters.sum(axis=1) == 0).sum()):
        raise RecipeError(
            f"data.audio.mels = {mels} is too many: {empty} bands lie between two frequencies of a window of "
            f"{window} samples",
            where="recipe, data.audio",
            fix="set fewer mels, or a longer window",
        )
    return filters


def _bands(samples: npt.NDArray[np.float64], audio: Audio) -> npt.NDArray[np.float64]:
    """The logarithms, f64[T, F]; some frames at a time, since they overlap and would take much memory."""
    window, hop = samples_of(audio)
    samples = np.pad(samples, (0, max(0, window - samples.size)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    parts = []
    for start in range(0, len(frames), _FRAMES):
        power = np.abs(np.fft.rfft(frames[start : start + _FRAMES] * hann, axis=1)) ** 2
        if audio.features == "log-mel":
            power = power @ mel_filters(audio.sample_rate, window, audio.mels).T
        parts.append(np.log(power + FLOOR))
    return np.concatenate(parts)


def _mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = 15 + 27 * np.log(np.maximum(hertz, 1000) / 1000) / np.log(6.4)
    return np.where(hertz < 1000, 3 * hertz / 200, above)


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return unreadable("recording", path, reason, "remove it, or write it again as wav or flac")


def require_soundfile(where: str) -> Any:
    """The module soundfile.

    Raises:
        InstallationError: it, or the library under it, is missing.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:
        what = "the data is recordings, and soundfile, which reads them, is not installed or finds no libsndfile"
        raise InstallationError(what, where=where, fix='pip install "dsd-ort[audio]"') from error
    return soundfile
