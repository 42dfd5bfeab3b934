"""What there is to train with in this environment, and what to install."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
from collections.abc import Callable
from typing import Any

import msgspec

from dsd_ort import runtime
from dsd_ort.errors import InstallationError
from dsd_ort.run import ranks
from dsd_ort.runtime import cuda, devices, libraries
from dsd_ort.version import __version__


class Advice(msgspec.Struct, frozen=True):
    """What is missing for a goal, and how to have it."""

    goal: str
    what: str
    where: str | None
    fix: str | None


class Gpu(msgspec.Struct, frozen=True):
    """A CUDA device, as its driver describes it; memory in bytes, what is free where the driver tells."""

    device: str
    """As ``--device`` takes it."""
    name: str
    memory: int
    free: int | None
    capability: str


class Library(msgspec.Struct, frozen=True):
    """A library of CUDA."""

    file: str
    path: str | None
    """The file that it was loaded from; None where it is missing."""
    required: bool
    """Otherwise only some models take it."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What :func:`doctor` found."""

    dsd_ort: str
    python: str
    distributions: dict[str, str]
    """Of ONNX Runtime → version; one is right."""
    prepares: bool
    """It differentiates models, for ``prepare`` and ``check``: any does that trains."""
    trains: bool
    """It trains what is prepared."""
    training_build: bool
    """It is ONNX Runtime's training build, with faster kernels for gradients, and a gradient builder of its own."""
    providers: tuple[str, ...]
    """That the build has, whatever else they take."""
    cuda: str
    """The release of CUDA that the build takes; empty where it has no provider for it."""
    driver: str | None
    """The version of NVIDIA's driver, where it tells; None where there is none that works."""
    driver_serves: str | None
    """The release of CUDA up to which it does."""
    gpus: tuple[Gpu, ...]
    libraries: tuple[Library, ...]
    """Of CUDA, that the build takes."""
    mpi: str | None
    """The MPI library by which several processes share a training, through the host's memory; None without one."""
    device: str | None
    """That ``--device auto`` takes; None where nothing trains."""
    why: str
    advice: tuple[Advice, ...]
    """What is missing, and how to have it."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return dict(msgspec.to_builtins(self))


def doctor() -> Diagnosis:
    """What was found of ONNX Runtime, CUDA's driver, devices and libraries, and what to install.

    Never raises for what is missing; loads CUDA's libraries where ONNX Runtime has a provider for them.
    """
    advice: list[Advice] = []

    def works(goal: str, require: Callable[[], object]) -> bool:
        try:
            require()
        except InstallationError as error:
            advice.append(Advice(goal, error.what, error.where, error.fix))
            return False
        return True

    trains = works("to prepare and train", runtime.require_runtime)
    build = cuda.build() if trains else None  # of two distributions' files, nothing is imported
    serves, gpus = _driver()
    loaded: tuple[libraries.Loaded, ...] = ()
    if build is not None and build.release is not None:
        release = build.release
        if works("to train on CUDA", lambda: cuda.require_driver(release)):
            works("to train on CUDA", lambda: cuda.require_gpu(0, release))
        loaded = libraries.load(release)
        works("to train on CUDA", lambda: cuda.require_libraries(loaded))
    elif trains and gpus:
        works("to train on CUDA", cuda.require_provider)
    device = runtime.choose_device("auto") if trains else None
    mpi = list[str | None]()
    works("to train by several processes", lambda: mpi.append(ranks.library()))
    return Diagnosis(
        dsd_ort=__version__,
        python=f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        distributions={name: importlib.metadata.version(name) for name in runtime.distributions()},
        prepares=trains,
        trains=trains,
        training_build=trains and runtime.trains(),
        providers=tuple(importlib.import_module("onnxruntime").get_available_providers()) if trains else (),
        cuda=build.cuda if build else "",
        driver=None if serves is None else devices.driver_version() or "of unknown version",
        driver_serves=None if serves is None else devices.dotted(serves),
        gpus=gpus,
        libraries=tuple(Library(one.library.file, one.path, one.library.required) for one in loaded),
        mpi=mpi[0] if mpi else None,
        device=str(device) if device else None,
        why=device.why if device else "nothing can train here",
        advice=tuple(advice),
    )


def _driver() -> tuple[int | None, tuple[Gpu, ...]]:
    """Up to which release of CUDA the driver serves, None where there is none that works, and its devices."""
    try:
        serves, found = devices.start_driver(), devices.gpus()
    except InstallationError:
        return None, ()
    return serves, tuple(
        Gpu(
            f"cuda:{gpu.index}",
            gpu.name,
            gpu.memory,
            devices.free_memory(gpu.index),
            ".".join(map(str, gpu.capability)),
        )
        for gpu in found
    )
