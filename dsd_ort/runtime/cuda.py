"""Whether sessions on CUDA can be opened with this build of ONNX Runtime, and what is missing.

The provider of 1.19.2 ends the whole process where it finds CUDA's libraries and no driver.  Therefore everything is
looked at in this order, and a session on CUDA is opened only behind the last step:

1. the provider is part of the build,
2. the driver is there, answers, and is new enough,
3. the device is there, and of a kind that the build has code for,
4. the libraries load.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dsd_ort.errors import InstallationError
from dsd_ort.runtime.devices import Gpu, dotted, driver_version, gpus, no_device, start_driver
from dsd_ort.runtime.libraries import EXTRA, RELEASES, Loaded, Release, load

PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Build:
    """The ONNX Runtime whose files are here, as it says itself."""

    package: str
    version: str
    cuda: str
    """The release of CUDA that it was built with; empty where it has no provider for it."""

    @property
    def release(self) -> Release | None:
        """What it takes; None where it has no provider, or one for a release that is not known here."""
        major = self.cuda.partition(".")[0]
        return next((release for release in RELEASES if str(release.major) == major), None)


@cache
def build() -> Build | None:
    """The ONNX Runtime of this environment, or None where there is none whose files are sound."""
    try:
        info = importlib.import_module("onnxruntime.capi.build_and_package_info")
        capi = Path(str(info.__file__)).parent
    except (ImportError, OSError):
        return None
    cuda = str(getattr(info, "cuda_version", "")) if (capi / "libonnxruntime_providers_cuda.so").is_file() else ""
    if not re.match(r"\d+", cuda):
        cuda = ""
    return Build(str(getattr(info, "package_name", "onnxruntime")), str(getattr(info, "__version__", "")), cuda)


def require(index: int = 0) -> Gpu:
    """Makes sure that sessions on CUDA device *index* can be opened, and loads what they take; cheap when repeated.

    Raises:
        InstallationError: the first thing that is missing, and what to do.
    """
    release = require_provider()
    require_driver(release)
    gpu = require_gpu(index, release)
    require_libraries(load(release))
    return gpu


def require_provider() -> Release:
    """What the installed ONNX Runtime takes for CUDA.

    Raises:
        InstallationError: it has no provider for it, or one for a release of CUDA that is not known here.
    """
    found = build()
    if found is None:
        raise InstallationError("ONNX Runtime is not installed, or its files are not sound", fix="dsd-ort doctor")
    if not found.cuda:
        raise InstallationError(
            "this build of ONNX Runtime has no CUDA provider",
            where=f"{found.package} {found.version}",
            fix=_with(found),
        )
    if found.release is None:
        raise InstallationError(
            f"this build of ONNX Runtime is for CUDA {found.cuda}, which this version of dsd-ort does not know",
            where=f"{found.package} {found.version}",
            fix="install a build for CUDA " + ", ".join(str(release.major) for release in RELEASES),
        )
    return found.release


def _with(found: Build) -> str:
    """How to have the CUDA provider in place of the build that was *found* without one."""
    if sys.platform != "linux":
        return "use --device cpu: CUDA is supported on Linux"
    training = found.package.startswith("onnxruntime-training") and sys.version_info < (3, 12)
    return f"pip uninstall -y {found.package} && " + (
        EXTRA if training else 'pip install "onnxruntime-gpu[cuda,cudnn]"'
    )


def require_driver(release: Release) -> int:
    """Starts a driver that *release* runs on, and gives the release of CUDA up to which it serves, as 12040 for 12.4.

    Raises:
        InstallationError: there is no driver, it does not start, or it is too old.
    """
    version = start_driver()
    if version < 1000 * release.major:
        raise InstallationError(
            f"the NVIDIA driver is too old: it serves CUDA up to {dotted(version)}, "
            f"and this build of ONNX Runtime needs {release.major}.0",
            where=f"driver {driver_version() or 'of unknown version'}",
            fix=f"install NVIDIA's driver {release.driver} or newer",
        )
    return version


def require_gpu(index: int, release: Release) -> Gpu:
    """Device *index*, when the driver was started.

    Raises:
        InstallationError: there is no such device, or *release* has no code for it.
    """
    there = gpus()
    if not there:
        raise no_device()
    if index >= len(there):
        raise InstallationError(
            f"there is no device cuda:{index}",
            where="found: " + ", ".join(f"cuda:{gpu.index} ({gpu.name})" for gpu in there),
            fix="use --device " + " or ".join(f"cuda:{gpu.index}" for gpu in there),
        )
    gpu = there[index]
    oldest, newest = release.capabilities
    if gpu.capability < oldest or (newest is not None and gpu.capability > newest):
        span = (
            f"from {oldest[0]}.{oldest[1]} on"
            if newest is None
            else f"{oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}"
        )
        new = gpu.capability > oldest
        raise InstallationError(
            f"{gpu.name} is too {'new' if new else 'old'} for this build of ONNX Runtime: its compute capability is "
            f"{gpu.capability[0]}.{gpu.capability[1]}, and code is there for {span}",
            where=f"cuda:{index}",
            fix="train the run folder with onnxruntime-gpu, in an environment of its own"
            if new
            else "use --device cpu",
        )
    return gpu


def require_libraries(loaded: Iterable[Loaded]) -> None:
    """Refuses what :func:`dsd_ort.runtime.libraries.load` could not find.

    Raises:
        InstallationError: required libraries are missing; all of them are named.
    """
    failed = [one for one in loaded if one.library.required and one.path is None]
    if not failed:
        return
    missing = [one.library for one in failed]
    errors = [one.error for one in failed if one.error]
    found = build()
    release = found.cuda if found else ""
    packages = dict.fromkeys(library.package for library in missing)
    raise InstallationError(
        f"{'a library' if len(missing) == 1 else f'{len(missing)} libraries'} of CUDA {release} cannot be loaded: "
        + ", ".join(library.file for library in missing),
        where="; ".join(errors) or "LD_LIBRARY_PATH, site-packages (nvidia/*/lib) and the system's libraries",
        fix=EXTRA if release.startswith("11.") else "pip install " + " ".join(f'"{package}"' for package in packages),
    )
