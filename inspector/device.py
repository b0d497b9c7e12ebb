"""The device that runs networks: which one, and what its errors mean."""

from __future__ import annotations

import torch

from inspector.errors import ConfigError, DeviceFaultError, DeviceOutOfMemoryError


def choose_device(device: str) -> torch.device:
    """`auto` → the first CUDA device, or the CPU; anything else as named.

    Raises:
        ConfigError: no such device on this machine.
    """
    count = torch.cuda.device_count()
    if device == "auto":
        return torch.device("cuda" if count else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device: must be auto, cpu, cuda or cuda:N, got {device!r}", field=("device",)) from error
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise ConfigError(
            f"device: must be on this machine, which has {count} of CUDA, got {device!r}",
            field=("device",),
            transient=torch.version.cuda is not None,  # its driver may not be loaded yet, or it fell off the bus
        )
    return chosen


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
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: the device's, or the host's on a CPU. Libraries say so in words of their own."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(message in str(error) for message in _MEMORY_MESSAGES)
