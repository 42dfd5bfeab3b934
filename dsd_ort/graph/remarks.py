"""What people should know of a model's stored weights before they are trained."""

from __future__ import annotations

from collections.abc import Iterator

from dsd_ort.model.source import Source
from dsd_ort.notes import Note


def remarks(source: Source) -> Iterator[Note]:
    """Notes of *source*: entries that are not finite."""
    for name, numbers in source.numbers.items():
        kinds = {"NaN": numbers.nans, "infinite": numbers.not_finite.size - numbers.nans}
        if found := [f"{count:,} {kind}" for kind, count in kinds.items() if count]:
            entries = "entry" if numbers.not_finite.size == 1 else "entries"
            stays = "stays as it is" if entries == "entry" else "stay as they are"
            yield _note(f"{name!r} has {' and '.join(found)} {entries}: not trained, {stays}")


def _note(words: str) -> Note:
    return Note(kind="weights", words=words)
