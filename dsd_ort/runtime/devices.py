"""NVIDIA's driver and the devices that it drives, as they describe themselves."""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

from dsd_ort.errors import InstallationError
from dsd_ort.runtime import driver

ENVIRONMENT = {
    "CUDA_MODULE_LOADING": "LAZY",  # kernels are loaded, and for new devices compiled, when first used
    "CUDA_CACHE_MAXSIZE": str(4 << 30),  # bytes of compiled kernels that the driver keeps: ONNX Runtime has many
}
"""What is set before the driver starts, where it is not set already."""


@dataclass(frozen=True)
class Gpu:
    """A device, as its driver describes it."""

    index: int
    name: str
    memory: int
    """Bytes."""
    capability: tuple[int, int]


def start_driver() -> int:
    """Starts the driver, and gives the release of CUDA up to which it serves, as 12040 for 12.4.

    Raises:
        InstallationError: there is none, or it does not start.
    """
    version = ctypes.c_int()
    try:
        _start()
        driver.call("cuDriverGetVersion", ctypes.byref(version))
    except driver.DriverError as error:
        raise _unusable(error) from error
    except (OSError, AttributeError) as error:
        raise InstallationError(
            "no NVIDIA driver was found",
            where=str(error),
            fix="install NVIDIA's driver; in a container, pass the GPU on, as docker run --gpus all does",
        ) from error
    return version.value


def likely() -> bool:
    """Is there anything of NVIDIA's on this machine: its driver, or a device on the bus that it is missing for?

    A container that no device was handed to sees the latter.
    """
    try:
        _start()
    except driver.DriverError:
        return True
    except (OSError, AttributeError):
        return any(_display(device) for device in _BUS.glob("*/vendor"))
    return True


def _start() -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    driver.call("cuInit", 0)


_BUS = Path("/sys/bus/pci/devices")


def _display(vendor: Path) -> bool:
    """Is it an NVIDIA device (PCI vendor 10de) for display or computing (PCI class 03)?"""
    try:
        return vendor.read_text().strip() == "0x10de" and vendor.with_name("class").read_text().startswith("0x03")
    except OSError:
        return False


_NO_DEVICE = 100
_STATES = {  # CUresult → what it means, and what to do
    34: (
        "the NVIDIA driver's place is taken by a stub",
        "take the CUDA toolkit's folder 'stubs' out of LD_LIBRARY_PATH",
    ),
    _NO_DEVICE: (
        "no NVIDIA device was found",
        "see whether nvidia-smi lists one, and whether CUDA_VISIBLE_DEVICES hides it",
    ),
    802: (
        "the NVIDIA devices are not ready yet",
        "wait, or start the fabric manager: systemctl start nvidia-fabricmanager",
    ),
    803: (
        "the NVIDIA driver's library does not fit its kernel module",
        "restart the machine after an update of the driver",
    ),
}


def no_device() -> InstallationError:
    """The driver works, and drives nothing."""
    what, fix = _STATES[_NO_DEVICE]
    return InstallationError(what, where=driver.LIBRARY, fix=fix)


def _unusable(error: driver.DriverError) -> InstallationError:
    what = f"the NVIDIA driver does not work: {error}"
    what, fix = _STATES.get(error.status, (what, "see whether nvidia-smi works; restart the machine if not"))
    return InstallationError(what, where=driver.LIBRARY, fix=fix)


def gpus() -> tuple[Gpu, ...]:
    """All devices, when the driver was started.

    Raises:
        InstallationError: the driver does not tell of them.
    """
    count, device = ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    major, minor = ctypes.c_int(), ctypes.c_int()
    found = []
    try:
        driver.call("cuDeviceGetCount", ctypes.byref(count))
        for index in range(count.value):
            driver.call("cuDeviceGet", ctypes.byref(device), index)
            driver.call("cuDeviceGetName", name, len(name), device)
            driver.call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
            driver.call("cuDeviceGetAttribute", ctypes.byref(major), 75, device)
            driver.call("cuDeviceGetAttribute", ctypes.byref(minor), 76, device)
            found.append(Gpu(index, name.value.decode(errors="replace"), memory.value, (major.value, minor.value)))
    except driver.DriverError as error:
        raise _unusable(error) from error
    return tuple(found)


def free_memory(index: int) -> int | None:
    """Bytes of a device that nobody uses, when the driver was started; None where it does not say.

    It takes a context for the moment, and so some memory itself.
    """
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    try:
        driver.call("cuDeviceGet", ctypes.byref(device), index)
        driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        try:
            driver.call("cuCtxPushCurrent_v2", context)
            driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
            driver.call("cuCtxPopCurrent_v2", ctypes.byref(context))
        finally:
            driver.call("cuDevicePrimaryCtxRelease_v2", device)
    except driver.DriverError:
        return None
    return free.value


def dotted(version: int) -> str:
    """A release of CUDA as people write it: 12040 is 12.4."""
    return f"{version // 1000}.{version % 1000 // 10}"


def driver_version() -> str | None:
    """The driver's own version, as 550.54.15, where the kernel module tells it."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text("utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", text)
    return found.group() if found else None
