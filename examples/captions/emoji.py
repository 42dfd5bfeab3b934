"""Emoji and their names as captions, from the npm package ``emoji-datasource-google``.

A caption is the emoji's name in lower case (``face with tears of joy``).  Pictures that share a caption, or that are one
emoji in several skin tones, are siblings and stay on one side of a split; pictures in other skin tones are there to
train on, and never to measure on.  Words that fewer than three training captions have are one word, UNKNOWN.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsd_ort.data import images
from dsd_ort.errors import DataError

SIZE = 64
START = END = 0
UNKNOWN = 1
PADDING = -1
"""Of labels; of words, which a model must be able to look up, it is END."""
_LEAST = 5
_FIX = "npm install emoji-datasource-google@16.0.0, and give node_modules/emoji-datasource-google"

Arrays = dict[str, np.ndarray]


_TONES = {"1F3FB": "light", "1F3FC": "medium light", "1F3FD": "medium", "1F3FE": "medium dark", "1F3FF": "dark"}


class Emoji(NamedTuple):
    """A picture and its name."""

    picture: Path
    name: tuple[str, ...]
    tones: tuple[str, ...]

    @property
    def words(self): return self.name + self.tones


def _in_words(tones: str) -> tuple[str, ...]:
    """``1F3FE`` is "medium dark skin tone", as Unicode names it; "" is no word."""
    return tuple(word for tone in tones.split("-") if tone for word in (*_TONES[tone].split(), "skin", "tone"))


class Split(NamedTuple):
    """Captions to train on and to measure on, as arrays, and what the words are called."""

    train: Arrays
    test: Arrays
    vocabulary: list[str]


def read(package: Path) -> list[Emoji]:
    """All emoji of the package, in its order.

    Raises:
        DataError: *package* is not that package.
    """
    listing = package / "emoji.json"
    if not listing.is_file():
        raise DataError("emoji-datasource-google is not there", where=str(listing), fix=_FIX)
    emoji = []
    for entry in json.loads(listing.read_text("utf-8")):
        words = tuple(re.findall(r"[a-z0-9]+", entry["name"].lower()))
        for tones, one in {"": entry, **entry.get("skin_variations", {})}.items():
            picture = package / "img" / "google" / str(SIZE) / one["image"]
            if words and one["has_img_google"] and picture.is_file():
                emoji.append(Emoji(picture, words, _in_words(tones)))
    return emoji


def split(emoji: list[Emoji], *, held_out: bool = False) -> Split:
    """An eighth of the captions to measure on and the others to train on.

    With *held_out*, the second eighth to measure on and those behind it to train on: to choose a recipe by.
    """
    captions = sorted({one.name for one in emoji})
    order = np.random.default_rng(0).permutation(len(captions))
    eighth = {captions[place]: rank % 8 for rank, place in enumerate(order)}
    measured = 1 if held_out else 0
    test = [one for one in emoji if eighth[one.name] == measured]
    train = [one for one in emoji if eighth[one.name] > measured]
    counts = Counter(word for words in {one.words for one in train} for word in words)
    vocabulary = ["<end>", "<unknown>", *sorted(word for word, count in counts.items() if count >= _LEAST)]
    longest = max(len(one.words) for one in emoji)
    return Split(*(_arrays(side, vocabulary, longest) for side in (train, test)), vocabulary)


def _arrays(emoji: list[Emoji], vocabulary: list[str], longest: int) -> Arrays:
    """``image u8[N, 64, 64, 3]``, ``words i64[N, longest + 1]`` from START on, ``label`` the same up to END."""
    numbers = {word: number for number, word in enumerate(vocabulary)}
    label = np.full((len(emoji), longest + 1), PADDING)
    for row, one in zip(label, emoji, strict=True):
        row[: len(one.words) + 1] = [*(numbers.get(word, UNKNOWN) for word in one.words), END]
    words = np.roll(np.where(label == PADDING, END, label), 1, axis=1)
    words[:, 0] = START
    return {"image": np.stack([images.read(one.picture, "RGB") for one in emoji]), "words": words, "label": label}
