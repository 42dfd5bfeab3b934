"""Fourier transforms as matrix products: they are linear, and a complex number is two real ones, on the last axis."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.rewrite.site import Replacement, Site


def _matrix(read: int, length: int, parts: int, *, inverse: bool, onesided: bool) -> npt.NDArray[np.float32]:
    """The transform of *length* points, of which the first *read* are not zero, as [read·parts, bins·2]; *parts* is 1
    for real input and 2 for complex.  X_k = Σ_j x_j·e^{∓2πi·jk/n}, divided by n in the inverse.
    """
    bins = length // 2 + 1 if onesided else length
    wave = np.exp((2j if inverse else -2j) * np.pi * (np.outer(np.arange(read), np.arange(bins)) % length) / length)
    wave = wave / length if inverse else wave
    of_part = np.stack([wave * unit for unit in (1, 1j)[:parts]], axis=1)  # what 1 and i at place j become
    return np.stack([of_part.real, of_part.imag], axis=-1).reshape(read * parts, bins * 2).astype(np.float32)


def dft(site: Site) -> ir.Value:
    """The product with a Fourier matrix"""
    x = site.input(0)
    attributes = site.node.attributes
    inverse, onesided = attributes.get_int("inverse", 0), attributes.get_int("onesided", 0)
    if inverse and onesided:
        raise site.refusal("with inverse and onesided is not in ONNX Runtime", "mirror the spectrum, and invert it all")
    rank, parts = site.rank(x), site.size(x, -1)
    axis = attributes.get_int("axis", 1) % rank
    signal = site.size(x, axis)
    length = signal if site.optional(1) is None else int(site.known(site.optional(1), "length").item())
    read = min(signal, length)
    matrix = _matrix(read, length, parts, inverse=bool(inverse), onesided=bool(onesided))
    if axis != rank - 2:
        perm = [i for i in range(rank) if i != axis]
        perm.insert(rank - 2, axis)
        back = np.argsort(perm).tolist()
        return site.Transpose(_transformed(site, site.Transpose(x, perm=perm), signal, read, matrix), perm=back)
    return _transformed(site, x, signal, read, matrix)


def _transformed(site: Site, x: ir.Value, signal: int, read: int, matrix: npt.NDArray[np.float32]) -> ir.Value:
    """*x*, [batch…, signal, parts], as [batch…, bins, 2]."""
    if read < signal:
        x = site.Slice(x, [0], [read], [-2])
    batch = site.Shape(x, end=-2)
    flat = site.Reshape(x, site.Concat(batch, [matrix.shape[0]], axis=0))
    return site.Reshape(site.MatMul(flat, matrix), site.Concat(batch, [matrix.shape[1] // 2, 2], axis=0))


def stft(site: Site) -> ir.Value:
    """Frames by Gather, times the window, times a Fourier matrix"""
    x, window = site.input(0), site.optional(2)
    step = int(site.known(site.input(1), "step").item())
    if site.optional(3) is not None:
        length = int(site.known(site.optional(3), "frame length").item())
    else:
        length = site.size(x, 1) if window is None else site.size(window, 0)
    real = site.rank(x) == 2
    parts = 1 if real else site.size(x, -1)
    signal = site.Squeeze(site.Shape(x, start=1, end=2), [0])
    starts = site.Range(0, site.Add(site.Sub(signal, length), 1), step)
    frames = site.Gather(
        site.Unsqueeze(x, [-1]) if real else x, site.Add(site.Unsqueeze(starts, [1]), np.arange(length)), axis=1
    )
    if window is not None:
        frames = site.Mul(frames, site.Reshape(window, [length, 1]))
    onesided = bool(site.node.attributes.get_int("onesided", 1))
    matrix = _matrix(length, length, parts, inverse=False, onesided=onesided)
    site.node.outputs[0].shape = None  # ONNX infers all bins where the frame length is named.
    return _transformed(site, frames, length, length, matrix)


def dft_of_axis(site: Site) -> Replacement:
    """The same with its axis as an attribute (opset 20)"""
    axis = -2 if site.optional(2) is None else int(site.known(site.optional(2), "axis").item())
    return site.DFT(site.input(0), site.optional(1), **site.attributes(), axis=axis)
