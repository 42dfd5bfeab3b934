"""The libraries of CUDA that builds of ONNX Runtime take: which, from which package, and loading them.

ONNX Runtime looks for them where the system's loader does, and so not among the packages of PyPI, which lay them under
``nvidia/*/lib``: all are loaded before the first session on CUDA, and the loader then takes those that are there.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path


@dataclass(frozen=True)
class Library:
    """A library of CUDA: its file, the package that has it, and whether sessions fail without it."""

    file: str
    package: str
    """As pip takes it."""
    required: bool = True


@dataclass(frozen=True)
class Release:
    """What builds for one major release of CUDA take.

    A release runs on every driver from the first of its major version on (CUDA Compatibility, NVIDIA, "Minor Version
    Compatibility"), also on all of later major versions.
    """

    major: int
    driver: str
    """The oldest one."""
    capabilities: tuple[tuple[int, int], tuple[int, int] | None]
    """Of devices, from and to (None: any newer one, whose driver compiles the kernels)."""
    libraries: tuple[Library, ...]
    """Each behind those that it needs itself."""


# NVRTC compiles kernels that cuDNN writes while it runs; cuDNN has others without it.
RELEASES = (
    # cuBLAS 11 and cuDNN 8 have code for devices up to Hopper, 9.0; the kernels of ONNX Runtime begin with Pascal, 6.0.
    Release(
        11,
        "450.80.02",
        ((6, 0), (9, 0)),
        (
            Library("libcudart.so.11.0", "nvidia-cuda-runtime-cu11==11.8.89"),
            Library("libnvrtc.so.11.2", "nvidia-cuda-nvrtc-cu11==11.8.89", required=False),
            Library("libcublasLt.so.11", "nvidia-cublas-cu11==11.11.3.6"),
            Library("libcublas.so.11", "nvidia-cublas-cu11==11.11.3.6"),
            Library("libcufft.so.10", "nvidia-cufft-cu11==10.9.0.58"),
            Library("libcurand.so.10", "nvidia-curand-cu11==10.3.0.86"),
            Library("libcudnn.so.8", "nvidia-cudnn-cu11==8.9.6.50"),  # the last with version 8
        ),
    ),
    Release(
        12,
        "525.60.13",
        ((5, 0), None),
        (
            Library("libcudart.so.12", "nvidia-cuda-runtime-cu12"),
            Library("libnvrtc.so.12", "nvidia-cuda-nvrtc-cu12", required=False),
            Library("libcublasLt.so.12", "nvidia-cublas-cu12"),
            Library("libcublas.so.12", "nvidia-cublas-cu12"),
            Library("libcufft.so.11", "nvidia-cufft-cu12"),
            Library("libcurand.so.10", "nvidia-curand-cu12"),
            Library("libcudnn.so.9", "nvidia-cudnn-cu12==9.*"),
        ),
    ),
    # The provider opens cuDNN, cuFFT and NVRTC when it first needs them: convolutions need cuDNN.
    Release(
        13,
        "580",
        ((7, 5), None),
        (
            Library("libcudart.so.13", "nvidia-cuda-runtime==13.*"),
            Library("libnvrtc.so.13", "nvidia-cuda-nvrtc==13.*", required=False),
            Library("libcublasLt.so.13", "nvidia-cublas==13.*"),
            Library("libcublas.so.13", "nvidia-cublas==13.*"),
            Library("libcufft.so.12", "nvidia-cufft==12.*", required=False),
            Library("libcurand.so.10", "nvidia-curand==10.*"),
            Library("libcudnn.so.9", "nvidia-cudnn-cu13==9.*"),
        ),
    ),
)

EXTRA = 'pip install "dsd-ort[cuda]"'
"""Brings the libraries of CUDA 11.8, for the training build."""


@dataclass(frozen=True)
class Loaded:
    """What became of loading a library."""

    library: Library
    path: str | None
    """The file that it came from; None where it could not be loaded."""
    error: str = ""
    """Of a file that is there and could not be loaded."""


def load(release: Release) -> tuple[Loaded, ...]:
    """Loads the libraries of *release* for all others to see, where they are not there already."""
    return tuple(map(_load, release.libraries))


def _load(library: Library) -> Loaded:
    file, failed = library.file, ""
    for path, mode in chain([(file, os.RTLD_NOLOAD)], zip(_places(file), repeat(0)), [(file, 0)]):
        try:
            return Loaded(library, _origin(ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL | mode)) or path)
        except OSError as error:  # noqa: PERF203
            failed = failed or (str(error) if path != file else "")
    return Loaded(library, None, failed)


def _places(file: str) -> Iterator[str]:
    """Files of that name in LD_LIBRARY_PATH, then in site-packages.

    In the order of the system's loader, by which the libraries find their own parts: so all of them are of one release.
    """
    folders = [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    found = importlib.util.find_spec("nvidia")
    for root in (found.submodule_search_locations if found else None) or ():
        folders += sorted(Path(root).glob("*/lib"))
    yield from (str(folder / file) for folder in folders if (folder / file).is_file())


class _LinkMap(ctypes.Structure):
    """The beginning of glibc's ``struct link_map``, which ``dlinfo`` gives for RTLD_DI_LINKMAP."""

    _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))


def _origin(library: ctypes.CDLL) -> str:
    link = ctypes.POINTER(_LinkMap)()
    try:
        ctypes.CDLL(None).dlinfo(ctypes.c_void_p(library._handle), 2, ctypes.byref(link))
        return os.fsdecode(link.contents.name or b"")
    except (AttributeError, ValueError):  # another C library than glibc
        return ""
