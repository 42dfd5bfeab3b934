"""Recordings and what is said in them: a manifest, or a folder with a text beside each.

A manifest has one JSON object a line (NeMo's, Deep Speech 2's); other keys and empty lines are passed over::

    {"audio_filepath": "a/1.flac", "text": "the cat", "duration": 1.8}

``audio_filepath`` is relative to the manifest's folder.  ``duration``, in seconds, may be left out; it serves bucketing
only, which then reads the header of the recording.  In a folder, ``1.wav`` (or .flac, .ogg, …) goes with ``1.txt``.

An example is ``features`` f32[T, F] (:mod:`dsd_ort.data.audio`), ``lengths`` i64[], which is T, and ``label`` i64[U]:
the text's characters, or the longest entries that fit, as their places in ``data.alphabet``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np

from dsd_ort.data import audio
from dsd_ort.data.cache import Cache
from dsd_ort.data.source_forms import Examples, Files
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.recipe import Audio, Data

SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})


@dataclass(frozen=True)
class Recording:
    """One line of a manifest, or one pair of files."""

    path: Path
    name: str
    """As the manifest has it; relative to its folder, or to that of the recordings."""
    text: str
    duration: float | None
    where: str
    """Of the text."""


def is_manifest(path: Path) -> bool:
    return path.suffix in (".json", ".jsonl") and path.is_file()


def is_recordings_folder(path: Path) -> bool:
    return path.is_dir() and any(_is_recording(file) and file.with_suffix(".txt").exists() for file in path.iterdir())


def open_manifest(path: Path, fields: Sequence[Field], data: Data) -> Examples:
    """The recordings of a manifest.

    Raises:
        DataError: a line that is no such object, a file that is not there, or a text that the alphabet does not have.
    """
    return _examples(list(_lines(path)), path.parent, str(path), fields, data)


def open_recordings_folder(path: Path, fields: Sequence[Field], data: Data) -> Examples:
    """The recordings of a folder, in the order of their names.

    Raises:
        DataError: a recording without a text, or a text that the alphabet does not have.
    """
    files = sorted(path.iterdir(), key=lambda p: p.name)
    return _examples([_pair(file) for file in files if _is_recording(file)], path, str(path), fields, data)


class Recordings:
    """Example *i*: ``features``, ``lengths`` and ``label``."""

    def __init__(self, items: Sequence[Recording], settings: Audio, encode: Callable[[str, str], np.ndarray]) -> None:
        self.items, self.settings, self.encode = items, settings, encode
        self._cache = Cache()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        item, values = self.items[index], self._cache.get(index, self._features)
        frames = values.shape[0 if self.settings.layout == "tf" else 1]
        return {
            "features": values,
            "lengths": np.asarray(frames, np.int64),
            "label": self.encode(item.text, item.where),
        }

    def lengths(self) -> list[float]:
        """Seconds."""
        return [audio.seconds(r.path) if r.duration is None else r.duration for r in self.items]

    def title(self, index: int) -> str:
        return f"recording {self.items[index].path.name}"

    def _features(self, index: int) -> np.ndarray:
        return audio.features(self.items[index].path, self.settings)


def encode(text: str, where: str, *, alphabet: Sequence[str], blank: int | None = None) -> np.ndarray:
    """The classes of a text, i64[U]: at each place the longest entry of *alphabet* that fits, but not ctc's blank.

    Raises:
        DataError: a character that the alphabet does not have.
    """
    classes = {entry: number for number, entry in enumerate(alphabet) if entry and number != blank}
    pattern = re.compile("|".join(map(re.escape, sorted(classes, key=len, reverse=True))))
    labels, place = [], 0
    while place < len(text):
        match = pattern.match(text, place)
        if not match:
            raise DataError(
                f"the text has {text[place]!r}, which data.alphabet does not have, as its character {place + 1}",
                where=where,
                fix="add it to the alphabet, or write the text with what is there (it may be a matter of upper case)",
            )
        labels.append(classes[match[0]])
        place = match.end()
    return np.array(labels, np.int64)


def _examples(items: list[Recording], folder: Path, where: str, fields: Sequence[Field], data: Data) -> Examples:
    audio.require_soundfile(where)
    label = next((field for field in fields if field.label and field.classes is not None), None)
    _refuse_alphabet(data.alphabet, label.classes if label else None)
    to_classes = partial(encode, alphabet=data.alphabet, blank=label.blank if label else None)
    for item in items:
        to_classes(item.text, item.where)
    window, _ = audio.samples_of(data.audio)
    if data.audio.features == "log-mel":
        audio.mel_filters(data.audio.sample_rate, window, data.audio.mels)
    recordings = Recordings(items, data.audio, to_classes)
    bands = (
        f'in [data.audio], features = "log-mel" gives mels = {data.audio.mels} bands and "log-spectrogram" '
        f'{window // 2 + 1}, ⌊window · sample_rate / 2⌋ + 1; layout = "tf" is [frames, bands], "ft" [bands, frames]'
    )
    return Examples(
        recordings,
        where,
        title=recordings.title,
        lengths=recordings.lengths,
        hints={"features": bands},
        own_names=True,
        files=Files(folder, [item.name for item in items], [item.text for item in items]),
        parallel=True,
    )


def _refuse_alphabet(alphabet: Sequence[str], classes: int | None) -> None:
    fix = 'give the text of each class, from class 0 on and with one for the blank, as alphabet = "_ abc…"'
    if not alphabet:
        raise DataError("recordings with texts need an alphabet", where="recipe, data.alphabet", fix=fix)
    if classes is not None and len(alphabet) != classes:
        what = f"data.alphabet has {len(alphabet)} entries, but the model has {classes} classes"
        raise DataError(what, where="recipe, data.alphabet", fix=fix)


def _lines(path: Path) -> Iterator[Recording]:
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError("the manifest is not text in UTF-8", where=str(path), fix="write it in UTF-8") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _recording(line, path.parent, f"{path}, line {number}")


def _recording(line: str, folder: Path, where: str) -> Recording:
    def refuse(what: str) -> NoReturn:
        fix = 'write one object a line, as {"audio_filepath": "a.wav", "text": "the cat", "duration": 1.8}'
        raise DataError(what, where=where, fix=fix)

    try:
        entry: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        refuse(f"the line is not JSON: {error}")
    if not isinstance(entry, dict):
        refuse("the line is no JSON object")
    for key in ("audio_filepath", "text"):
        if not isinstance(entry.get(key), str):
            refuse(f"the line has no text under {key!r}")
    duration = entry.get("duration")
    if duration is not None and (isinstance(duration, bool) or not isinstance(duration, (int, float))):
        refuse("the duration is no number")
    file = folder / entry["audio_filepath"]
    if not file.is_file():
        fix = "mend the path, which is relative to the manifest's folder, or remove the line"
        raise DataError(f"there is no recording {entry['audio_filepath']!r}", where=where, fix=fix)
    return Recording(file, entry["audio_filepath"], entry["text"], duration, where)


def _pair(file: Path) -> Recording:
    text = file.with_suffix(".txt")
    try:
        return Recording(file, file.name, text.read_text("utf-8-sig").strip(), None, str(text))
    except FileNotFoundError as error:
        fix = f"write what is said into {text.name}, or remove the recording"
        raise DataError(f"the recording has no text: there is no {text.name}", where=str(file), fix=fix) from error
    except UnicodeDecodeError as error:
        raise DataError("the text is not in UTF-8", where=str(text), fix="write it in UTF-8") from error


def _is_recording(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
