"""The device that runs networks: which one, and what its errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from inspector.errors import ConfigError, DeviceFaultError, DeviceOutOfMemoryError, DriverError

DRIVERS_NEEDED = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""NVIDIA's oldest driver for Linux by CUDA's major version: within one, newer minor versions run on it as well.

From the release notes of the CUDA Toolkit, "CUDA Toolkit and Minimum Required Driver Version".
"""


@dataclass(frozen=True, slots=True)
class Driver:
    """What the GPU's driver says of itself: its version, and the newest major version of CUDA that it runs."""

    version: str
    cuda_major: int


def choose_device(device: str) -> torch.device:
    """`auto` → the first CUDA device, or the CPU; anything else as named.

    Raises:
        DriverError: the GPU's driver is too old for this build of torch.
        ConfigError: no such device on this machine.
    """
    count = torch.cuda.device_count()
    if device == "auto":
        if count:  # counted by NVML, which any driver has: it does not say that CUDA starts on it
            check_driver(read_driver())
        return torch.device("cuda" if count else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device: must be auto, cpu, cuda or cuda:N, got {device!r}", field=("device",)) from error
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise ConfigError(
            f"device: must be a device of this machine, which has {count} CUDA device(s), got {device!r}",
            field=("device",),
            transient=torch.version.cuda is not None,  # its driver may not be loaded yet, or it fell off the bus
        )
    if chosen.type == "cuda":
        check_driver(read_driver())
    return chosen


@dataclass(frozen=True, slots=True)
class Device:
    """One of a station's devices.

    Attributes:
        name: for people; no other of the station has it.
        of_torch: as torch has it.
        is_only: the station has no other.
    """

    name: str
    of_torch: torch.device
    is_only: bool = True

    def as_current(self) -> contextlib.AbstractContextManager[object]:
        """For the calling thread, one of several GPUs where no other is named: else that is the first of all."""
        is_one_gpu = self.of_torch.type == "cuda" and not self.is_only
        return torch.cuda.device(self.of_torch) if is_one_gpu else contextlib.nullcontext()


def choose_devices(names: Sequence[str]) -> tuple[Device, ...]:
    """The devices of a station, each as `choose_device` does; workers on one CPU are `cpu:0`, `cpu:1`. Raises as it."""
    chosen = [choose_device(name) for name in names]
    is_only = len(names) == 1
    return tuple(
        Device(str(each) if chosen.count(each) == 1 else f"{each}:{place}", each, is_only)
        for place, each in enumerate(chosen)
    )


def read_driver() -> Driver | None:
    """The GPU's driver, asked by NVML; None: it cannot be asked."""
    try:
        import pynvml

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        return Driver(str(version), pynvml.nvmlSystemGetCudaDriverVersion_v2() // 1000)
    except Exception:  # noqa: BLE001 (no library, no driver: whoever uses the device will be told)
        return None


def check_driver(driver: Driver | None) -> None:
    """See that the driver runs this build of torch; one that cannot be asked is left to try.

    Raises:
        DriverError: it is too old.
    """
    built_for = torch.version.cuda
    if driver is None or built_for is None:
        return
    major = int(built_for.partition(".")[0])
    if driver.cuda_major < major:
        needed = DRIVERS_NEEDED.get(major)
        wanted = f"driver {needed} or later" if needed else "newer driver"
        raise DriverError(
            f"device: this torch is built for CUDA {built_for}, which needs NVIDIA's {wanted}, and this machine "
            f"has {driver.version}, for CUDA {driver.cuda_major}; see docs/line-engineer/install.md, GPU, or write "
            "device: cpu",
            field=("device",),
        )


def translate_fault(error: RuntimeError | MemoryError) -> DeviceOutOfMemoryError | DeviceFaultError:
    """The error to raise for what torch raised."""
    if is_out_of_memory(error):
        return DeviceOutOfMemoryError(f"device out of memory even at the smallest batch tried: {error}")
    return DeviceFaultError(f"device: {error}")


_MEMORY_MESSAGES = (
    "can't allocate memory",  # torch on the host
    "CUDA out of memory",  # wrapped by a compiler
    "CUDA error: out of memory",  # the driver, outside torch's allocator
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",  # both from cuDNN 9 on
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: the device's, or the host's on a CPU. Libraries say so in words of their own."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(message in str(error) for message in _MEMORY_MESSAGES)


@contextlib.contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads for a while; None: as many as before."""
    # The count is each thread's own, but a thread begins with that of whoever set one last: threads that live beside
    # another detector's look at theirs first thing.
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
