"""Numbers that a formula made: how sampled lines, waves and bumps are told from what was learned.

A wave sampled at even distances, a·cos(ωt + φ), has x[t−1] + x[t+1] = 2·cos(ω) · x[t] whatever a, ω and φ are, and
nothing else has for |2·cos(ω)| ≤ 2; where this is 2, x is a straight line.  So the rows of a cosine or Fourier
transform are found without a look at which it is, and so are sinusoidal positions and the tables of rotary ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dsd_ort.file.payload import Floats

_MOST_STEPS = 64
"""Of a line; further on the rounding of ωt shows."""
_FIRST = 4
"""Rows that may be of another kind: padding, a class token."""
_SAME = 3e-4
"""Of a line's largest number, what rounding changes; in 16 bit ten times of it."""
_A_FEW = 16
"""Lines, evenly spread, that have to be waves before all are looked at."""
_TURNS = 1.999
"""Below it 2·cos(ω) bends within a few dozen steps."""


def are_waves(values: Floats, *, half: bool = False) -> bool:
    """Whether the lines along one of the axes of *values*, of two or more, are sampled waves, an eighth of them bent.

    Other lines may be straight: the lowest frequencies.  Also where rows of two kinds alternate, and where positions on
    a square stand in one row.
    """
    allowed = _SAME * (10 if half else 1)
    return any(_are_waves(lines, allowed) for whole in _unrolled(values) for lines in _lines(whole))


def _unrolled(values: Floats) -> Iterator[Floats]:
    """*values*, and where an axis may be a square in one row, its rows and columns."""
    yield values
    for axis, count in enumerate(values.shape):
        side = math.isqrt(count)
        for first in {count - side * side, 1, 0} if side > 3 else ():
            side = math.isqrt(count - first)
            if side * side == count - first:
                rest = np.take(values, range(first, count), axis)
                yield rest.reshape(*values.shape[:axis], side, side, *values.shape[axis + 1 :])


def _lines(values: Floats) -> Iterator[Floats]:
    """The lines ``[t, n]`` along each axis; their beginnings, and these without the first or every other row."""
    for axis, count in enumerate(values.shape):
        lines = np.moveaxis(values, axis, 0).reshape(count, -1)
        yield lines[:_MOST_STEPS]
        yield lines[_FIRST : _FIRST + _MOST_STEPS]
        yield lines[:_MOST_STEPS:2]


def _are_waves(lines: npt.NDArray[np.floating], allowed: float) -> bool:
    """Whether nine of ten of the lines ``[t, n]``, and of the entries that say something, are waves."""
    steps, count = lines.shape
    if steps < 4 or count < 2 or (steps - 3) * count < 8:
        return False
    if count >= 2 * _A_FEW and not _are_waves(lines[:, :: count // _A_FEW | 1], allowed):
        return False
    lines = lines.astype(np.float64)
    size = np.abs(lines).max(axis=0)
    lines, size = lines[:, size > 0], size[size > 0]
    if lines.shape[1] < 2:
        return False
    inner, around = lines[1:-1], lines[:-2] + lines[2:]
    known = np.abs(inner).max(axis=0) >= 0.3 * size
    if known.mean() < 0.9:
        return False
    inner, around, size = inner[:, known], around[:, known], size[known]
    largest = np.argsort(np.abs(inner), axis=0)[-3:]  # of three, one may stand where two waves meet
    sums, middles = (np.take_along_axis(values, largest, axis=0) for values in (around, inner))
    doubled = np.median(np.divide(sums, middles, out=np.zeros_like(sums), where=middles != 0), axis=0)
    counts = np.maximum(np.abs(inner), np.abs(around)) > 0.01 * size
    fits = np.abs(around - doubled * inner) <= allowed * size
    waves = np.abs(doubled) <= 2 + 10 * allowed
    bent = waves & (np.abs(doubled) < _TURNS) & (counts.sum(axis=0) >= 2)
    share = (fits & counts).sum() / max(1, counts.sum())
    return bool(share >= 0.9 and waves.mean() >= 0.9 and bent.mean() >= 0.125)


def is_even_line(line: Floats) -> bool:
    """Whether the numbers of a line ``[n]``, n ≥ 3, have one distance from each other, and it is not 0."""
    distances = np.diff(line.astype(np.float64))
    if distances.size < 2 or not distances.any():
        return False
    return bool(np.ptp(distances) <= 1e-5 * np.abs(line).max())


def is_grid(values: Floats) -> bool:
    """Whether they are at even distances along an axis, on each line of its own, as biases of attention that fall with
    the distance are; on several lines of three, numbers may be so by chance.
    """
    if values.ndim < 2:
        return values.ndim == 1 and is_even_line(values)
    lines = (np.moveaxis(values, axis, -1).reshape(-1, n) for axis, n in enumerate(values.shape) if n > 3)
    return any(all(map(is_even_line, each)) for each in lines)


def are_frequencies(line: Floats) -> bool:
    """Whether a line ``[n]``, n ≥ 4, is a geometric series, or falls from exactly 1, as frequencies of positions do."""
    if line.size < 4 or not (line > 0).all():
        return False
    ratios = line[1:].astype(np.float64) / line[:-1]
    series = np.ptp(ratios) <= 1e-4 * ratios.mean() and abs(ratios.mean() - 1) > 1e-3
    return bool(series or (line[0] == 1 and (ratios < 1).all()))


def is_blur(values: Floats) -> bool:
    """Whether ``[n, m]`` is the product of two windows, of three taps or more."""
    if values.ndim != 2 or not values.sum():
        return False
    rows, columns = values.sum(axis=1), values.sum(axis=0)
    apart = np.abs(np.outer(rows, columns) / values.sum() - values).max()
    return bool(apart <= 1e-5 * np.abs(values).max()) and is_window(rows, 3) and is_window(columns, 3)


def is_window(line: Floats, least: int = 4) -> bool:
    """Whether a line ``[n]``, n ≥ *least*, rises once and falls as it rose: a window, or a blur."""
    if line.size < least or (line < 0).any() or np.ptp(line) == 0:
        return False
    size = 1e-5 * float(line.max())
    ends = (line, line[1:]) if line.size > 3 else (line,)  # a periodic window begins with what would follow its end
    return any(np.abs(part - part[::-1]).max() <= size and _rises_once(part) for part in ends)


def _rises_once(line: Floats) -> bool:
    peak = int(line.argmax())
    size = 1e-6 * float(line.max())
    steps = np.diff(line)
    return bool((steps[:peak] >= -size).all() and (steps[peak:] <= size).all())


def is_bank(values: Floats) -> bool:
    """Whether the columns or rows of ``[n, m]`` rise once from 0 and fall, one behind the other; half of all is 0."""
    if values.ndim != 2 or (values < 0).any() or 2 * np.count_nonzero(values) > values.size:
        return False
    return _is_bank(values) or _is_bank(values.T)


def _is_bank(values: Floats) -> bool:
    bands = values[:, values.any(axis=0)]
    peaks = bands.argmax(axis=0)
    wide = (np.count_nonzero(bands, axis=0) > 1).sum()
    if bands.shape[1] < 3 or wide < 2 or (np.diff(peaks) < 0).any() or np.ptp(peaks) == 0:
        return False
    return all(_rises_once(band) for band in bands.T)


def are_round(values: Floats) -> bool:
    """Whether all numbers are written with four bits behind a power of two, as learned ones have all that there are."""
    mantissas = np.frexp(values)[0] * 16
    return bool((mantissas == np.round(mantissas)).all())


def is_repeated(values: Floats, *, half: bool = False) -> bool:
    """Whether the numbers that are not 0 occur twice or more on average, as learned ones never do."""
    values = values[values != 0]
    most = values.size // 2
    if half:  # of which there are only a few thousand about the size of weights
        most = min(most, 256)
    return values.size > 1 and np.unique(values).size <= most
