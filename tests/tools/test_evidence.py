"""The commands of ``tools.evidence`` measure what they say, at a small size."""

from __future__ import annotations

from pathlib import Path

from tools.evidence.suspects import ARMS, measure


def test_suspects_are_counted_by_what_is_known_of_the_labels(tmp_path: Path) -> None:
    row = measure(0, tmp_path, epochs=(12, 8, 1))
    assert row["wrong"] == 337
    assert row["truly wrong"] > 0.75 * row["suspects"] > 150
    assert all(0 < row[arm] < 40 for arm in ARMS)
