"""What the station's GPU is doing, from the driver (NVML). A sick one may take seconds to answer: for a sampler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from inspector.device import Device

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One look; None is what the driver does not tell.

    Attributes:
        index: as the station file counts: 0 for cuda:0.
        reserved_bytes: what this process's network holds; the rest is of the whole GPU, all programs together.
    """

    index: str = ""
    reserved_bytes: int | None = None
    utilisation_ratio: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


class GpuReader:
    """Reads one device; of a CPU there is nothing to tell. For one thread."""

    def __init__(self, device: torch.device) -> None:
        """The driver is first queried by `read`."""
        self._device = device
        self._index = device.index or 0
        self._nvml: Any = None
        self._handle: Any = None
        self._is_missed = False

    def read(self) -> GpuSample:
        """Query the driver now."""
        if self._device.type != "cuda" or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            return GpuSample(reserved_bytes=0)  # what loads the recipes initialises CUDA
        reserved_bytes = torch.cuda.memory_reserved(self._index)
        if self._handle is None and not self._open():
            return GpuSample(str(self._index), reserved_bytes)
        nvml = self._nvml
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo)
        utilisation = self._ask(nvml.nvmlDeviceGetUtilizationRates)
        temperature = self._ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)
        milliwatts = self._ask(nvml.nvmlDeviceGetPowerUsage)
        if all(answer is None for answer in (memory, utilisation, temperature, milliwatts)):
            self._handle = None  # lost, or the driver was changed: found anew at the next look
        return GpuSample(
            str(self._index),
            reserved_bytes,
            utilisation_ratio=None if utilisation is None else utilisation.gpu / 100,
            memory_used_bytes=None if memory is None else memory.used,
            memory_total_bytes=None if memory is None else memory.total,
            temperature_celsius=temperature,
            power_watts=None if milliwatts is None else milliwatts / 1000,
        )

    def _open(self) -> bool:
        """Find the device by its UUID: the driver counts also those that CUDA_VISIBLE_DEVICES hides."""
        try:
            import pynvml

            self._nvml = pynvml
            pynvml.nvmlInit()
            uuid = torch.cuda.get_device_properties(self._index).uuid
            self._handle = _find(pynvml, str(uuid))
        except Exception as error:  # noqa: BLE001 (no library, no driver, no such device: no figures)
            if not self._is_missed:
                logger.info("no GPU metrics, the driver does not provide them: %s", error)
            self._is_missed = True
            return False
        self._is_missed = False
        return True

    def _ask(self, question: Callable[..., Any], *more: Any) -> Any:
        """The answer, or None: not every GPU has every one, and a part of one (MIG) has few."""
        try:
            return question(self._handle, *more)
        except self._nvml.NVMLError:
            return None


def build_gpu_readers(devices: Sequence[Device]) -> Callable[[], dict[str, GpuSample]]:
    """What looks at each of a station's devices, by its name."""
    readers = {device.name: GpuReader(device.of_torch) for device in devices}
    return lambda: {name: reader.read() for name, reader in readers.items()}


def _find(nvml: Any, uuid: str) -> Any:
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except nvml.NVMLError:
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
