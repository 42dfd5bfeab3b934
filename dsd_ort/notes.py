"""What is told to people of a model that is trained: records, from the rule that knows it to the screen and into JSON.

A run folder keeps them in its manifest.  Older ones hold sentences there; :func:`formerly` is what still reads these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["rewrite", "training", "evaluation", "recipe", "weights", "constants", "file"]
"""What a note is about: a node that training computes otherwise; training as a whole; what measures weights; what the
recipe leaves unsaid; stored tensors, and what training does not do to them; those that count as constants; what is
wrong or unusual in the file."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """One thing that people should know of a model."""

    kind: Kind
    node: str | None = None
    """Operator and name of the node of a rewrite: ``AveragePool 'pool1'``."""
    words: str


def listing(names: Sequence[str]) -> str:
    """*names* for people, the first few of many: ``'a', 'b' and 7 more``."""
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def plain(text: str) -> str:
    r"""*text* as one line that can be printed anywhere: all else in it is an escape, ``\x1b``, ``\n``, ``\u202e``.

    So names out of files command no terminal, begin no line of their own, and turn nobody's reading direction.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


_SHOWN = 4
_REWRITE = re.compile(r"""(\w+ (?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")): (.*)""", re.DOTALL)
"""Operator, name as ``repr`` quotes it, and words: a colon in the name is inside of the quotes."""
_BEGINNINGS: dict[str, Kind] = {"evaluated in ": "evaluation", "ctc counts ": "recipe"}


def formerly(sentence: str) -> Note:
    """The note that a manifest holds as *sentence*, as they all did before there were records."""
    if found := _REWRITE.fullmatch(sentence):
        return Note(kind="rewrite", node=found[1], words=found[2])
    kinds = (kind for beginning, kind in _BEGINNINGS.items() if sentence.startswith(beginning))
    return Note(kind=next(kinds, "training"), words=sentence)
