"""Emoji and their names as captions, from the npm package ``emoji-datasource-google``.

A caption is the emoji's name in lower case, and behind it the skin tone that Unicode gives its variations: ``woman
running``, ``woman running medium dark skin tone``.  Emoji of one name, in whatever tones, are siblings: they stay on
one side of a split, so that no name that is measured was trained on.  Words that few names have are one word, UNKNOWN.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsd_ort.data import images
from dsd_ort.errors import DataError
from examples.parts import parts

SIZE = 64
START = END = 0
UNKNOWN = 1
PADDING = -1
"""Of labels; of words, which a model must be able to look up, it is END."""
LEAST = 5
"""Captions that a word must be in, as NeuralTalk has it; those that differ only in tones count as one."""
TONES = {"1F3FB": "light", "1F3FC": "medium light", "1F3FD": "medium", "1F3FE": "medium dark", "1F3FF": "dark"}

Arrays = dict[str, np.ndarray]


class Emoji(NamedTuple):
    """A picture, its name, and the words of its skin tones."""

    picture: Path
    name: tuple[str, ...]
    tones: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        return self.name + self.tones

    @property
    def title(self) -> str:
        """What siblings have in common."""
        return " ".join(self.name)


class Split(NamedTuple):
    """Captions to train on and to measure on, as arrays, and what the words are called."""

    train: Arrays
    test: Arrays
    vocabulary: list[str]

    def text(self, words: Iterable[int]) -> str:
        """The words of a caption."""
        return " ".join(self.vocabulary[word] for word in words)


def read(package: Path) -> list[Emoji]:
    """All emoji of the package, in its order.

    Raises:
        DataError: *package* is not that package.
    """
    listing = package / "emoji.json"
    if not listing.is_file():
        fix = "npm install emoji-datasource-google@16.0.0, and give --data node_modules/emoji-datasource-google"
        raise DataError("emoji-datasource-google is not there", where=str(listing), fix=fix)
    emoji = []
    for entry in json.loads(listing.read_text("utf-8")):
        name = tuple(re.findall(r"[a-z0-9]+", entry["name"].lower()))
        for tones, one in {"": entry, **entry.get("skin_variations", {})}.items():
            picture = package / "img" / "google" / str(SIZE) / one["image"]
            if name and one["has_img_google"] and picture.is_file():
                emoji.append(Emoji(picture, name, _in_words(tones)))
    return emoji


def _in_words(tones: str) -> tuple[str, ...]:
    """``1F3FE`` is "medium dark skin tone"; there are two where two people are seen."""
    return tuple(word for tone in tones.split("-") if tone for word in (*TONES[tone].split(), "skin", "tone"))


def split(emoji: list[Emoji], *, held_out: bool = False) -> Split:
    """An eighth of the names to measure on and the others to train on.

    With *held_out*, the second eighth to measure on and those behind it to train on: to choose a recipe by.
    """
    eighth = parts((one.title for one in emoji), 8)
    measured = 1 if held_out else 0
    train = [one for one in emoji if eighth[one.title] > measured]
    test = [one for one in emoji if eighth[one.title] == measured]
    words = vocabulary(train)
    longest = max(len(one.words) for one in emoji)
    return Split(*(arrays(side, words, longest) for side in (train, test)), words)


def vocabulary(train: list[Emoji]) -> list[str]:
    """The words that a captioner of *train* has, by number."""
    counts = Counter(word for words in {one.name for one in train} for word in words)
    common = {word for word, count in counts.items() if count >= LEAST}
    toned = {word for one in train for word in one.tones}
    return ["<end>", "<unknown>", *sorted(common | toned)]


def arrays(emoji: list[Emoji], vocabulary: list[str], longest: int) -> Arrays:
    """``image u8[N, 64, 64, 3]``, ``words i64[N, longest + 1]`` from START on, ``label`` the same up to END."""
    numbers = {word: number for number, word in enumerate(vocabulary)}
    label = np.full((len(emoji), longest + 1), PADDING)
    for row, one in zip(label, emoji, strict=True):
        row[: len(one.words) + 1] = [*(numbers.get(word, UNKNOWN) for word in one.words), END]
    words = np.roll(np.where(label == PADDING, END, label), 1, axis=1)
    words[:, 0] = START
    return {"image": np.stack([images.read(one.picture, "RGB") for one in emoji]), "words": words, "label": label}
