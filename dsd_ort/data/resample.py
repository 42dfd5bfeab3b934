"""Samples at another rate, by a windowed sinc.

With rates r → r', L/M = r'/r in lowest terms, and c = 0.95·min(1, L/M), output n lies between the inputs at t = n·M/L::

    y[n] = Σ_k x[k]·h(t - k) / Σ_k h(t - k)      h(τ) = sinc(c·τ)·κ(τ·c/32),   |τ| ≤ 32/c

κ is the Kaiser window of β = 9.  What is below 0.85 of the lower rate's half comes through to 10⁻⁴, and of what is
above 1.05 of it less than 10⁻⁴ is left.  t repeats its fractions after L outputs, so that there are L filters, each
applied to every M-th window of the input.  Source: J. O. Smith, "Digital Audio Resampling",
https://ccrma.stanford.edu/~jos/resample.
"""

from __future__ import annotations

import math

import numpy as np

ROLL_OFF, ZEROS, BETA = 0.95, 32, 9.0


def resample(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """f[S] at *rate* hertz → f[⌈S·target/rate⌉] at *target* hertz; silence is around them."""
    common = math.gcd(rate, target)
    up, down = target // common, rate // common
    if up == down or not samples.size:
        return samples
    cutoff = ROLL_OFF * min(1.0, up / down)
    half = math.ceil(ZEROS / cutoff)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(samples, half), 2 * half)
    out = np.empty(-(-samples.size * up // down), samples.dtype)
    for phase in range(min(up, out.size)):
        first, fraction = divmod(phase * down, up)
        offsets = np.arange(1 - half, half + 1) - fraction / up
        shape = np.sqrt(np.maximum(1 - (offsets * cutoff / ZEROS) ** 2, 0))
        taps = np.sinc(offsets * cutoff) * np.where(np.abs(offsets) * cutoff <= ZEROS, np.i0(BETA * shape), 0)
        places = out[phase::up]
        places[:] = windows[first + 1 :: down][: places.size] @ (taps / taps.sum()).astype(samples.dtype)
    return out
