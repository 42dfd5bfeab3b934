"""Recordings of Tux Paint's stamps with their texts, from Debian's package ``tuxpaint-stamps-default``.

A stamp ``X`` has a line ``es.utf8=Una rana.`` in ``X.txt``, and a person who says it in ``X_desc_es.ogg``.  Left out
are texts with digits, which are not written as they are spoken, recordings longer than eight seconds, and those that
are shorter than their text can be said in.  A text is lower case letters and single spaces.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from dsd_ort.data import audio
from dsd_ort.errors import DataError
from examples.parts import parts

ALPHABET = "_ abcdefghijklmnopqrstuvwxyzáéíñóúü"
"""The blank, then what texts are written with."""
LONGEST = 8.0
"""Seconds."""
FASTEST = 25.0
"""Characters that a person says in a second."""


class Stamp(NamedTuple):
    """A recording, what is said in it, and its length in seconds."""

    recording: Path
    text: str
    seconds: float


def read(folder: Path, language: str = "es") -> list[Stamp]:
    """The stamps of *folder* that have a recording in *language*, in the order of their paths.

    Raises:
        DataError: there are none.
    """
    suffix = f"_desc_{language}.ogg"
    stamps = []
    for recording in sorted(folder.rglob(f"*{suffix}")):
        described = recording.with_name(recording.name.removesuffix(suffix) + ".txt")
        if described.exists() and (text := _text(described, language)):
            seconds = audio.seconds(recording)
            if len(text) / FASTEST <= seconds <= LONGEST:
                stamps.append(Stamp(recording, text, seconds))
    if not stamps:
        fix = "apt-get install tuxpaint-stamps-default, or say where the stamps are"
        raise DataError("there are no recordings of stamps", where=str(folder), fix=fix)
    return stamps


def _text(path: Path, language: str) -> str | None:
    found = re.search(rf"^{language}\.utf8=(.*)$", path.read_text("utf-8"), re.MULTILINE)
    if found is None or re.search(r"\d", found[1]):
        return None
    return " ".join("".join(c if c in ALPHABET[2:] else " " for c in found[1].lower()).split())


def split(stamps: list[Stamp], *, held_out: bool = False) -> tuple[list[Stamp], list[Stamp]]:
    """Nine tenths to train on, and a tenth to measure on; no text is on both sides.

    With *held_out*, the second tenth to measure on and those behind it to train on: to choose a recipe by.
    """
    tenth = parts((stamp.text for stamp in stamps), 10)
    measured = 1 if held_out else 0
    test = [stamp for stamp in stamps if tenth[stamp.text] == measured]
    return [stamp for stamp in stamps if tenth[stamp.text] > measured], test


def write(stamps: list[Stamp], manifest: Path) -> Path:
    """A manifest of the recordings, one JSON object a line."""
    lines = [
        json.dumps({"audio_filepath": str(s.recording.resolve()), "text": s.text, "duration": s.seconds})
        for s in stamps
    ]
    manifest.write_text("\n".join(lines) + "\n", "utf-8")
    return manifest
