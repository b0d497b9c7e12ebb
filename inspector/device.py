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
            f"device: must be a device of this machine, which has {count} CUDA device(s), got {device!r}",
            field=("device",),
            transient=torch.version.cuda is not None,  # its driver may not be loaded yet, or it fell off the bus
        )
    return chosen


def translate_fault(error: RuntimeError | MemoryError) -> DeviceOutOfMemoryError | DeviceFaultError:
    """The error to raise for what torch raised."""
    if is_out_of_memory(error):
        return DeviceOutOfMemoryError(f"device out of memory even at the smallest batch tried: {error}")
    return DeviceFaultError(f"device: {error}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: the device's, or the host's on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
