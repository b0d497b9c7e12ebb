"""The GPU's figures, from a driver that is there, sick, or not there at all."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inspector.service.telemetry.gpu import GpuReader, GpuSample

CUDA1 = torch.device("cuda", 1)


class FakeNvml:
    """Three GPUs, of which PyTorch was shown the last two: UUIDs b and c. Stands for the module `pynvml`."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        """As NVML's."""

    def __init__(self) -> None:
        self.uuids = ["GPU-a", "GPU-b", "GPU-c"]
        self.without: set[str] = set()
        self.inits = 0

    def nvmlInit(self) -> None:  # noqa: N802 (NVML's name)
        self._say("init")
        self.inits += 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        if uuid not in self.uuids:
            raise self.NVMLError("not found")
        return self.uuids.index(uuid)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return self._say("memory", SimpleNamespace(used=100 + handle, total=1000 + handle))

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        return self._say("utilisation", SimpleNamespace(gpu=40 + handle))

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> Any:  # noqa: N802
        return self._say("temperature", 60 + handle)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> Any:  # noqa: N802
        return self._say("power", 250_500 + handle)

    def _say(self, what: str, answer: Any = None) -> Any:
        if what in self.without:
            raise self.NVMLError("not supported")
        return answer


EVERYTHING = {"memory", "utilisation", "temperature", "power"}
AS_ASKED = GpuSample("1", 77, 0.42, 102, 1002, 62, 250.502)


@pytest.fixture(autouse=True)
def torch_with_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: 76 + index)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="bc"[index]))


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_figures_are_those_of_the_stations_device_when_the_driver_counts_others_too(nvml: FakeNvml) -> None:
    assert GpuReader(CUDA1).read() == AS_ASKED
    assert GpuReader(torch.device("cuda")).read().memory_used_bytes == 101


def test_driver_is_opened_once_when_read_again(nvml: FakeNvml) -> None:
    reader = GpuReader(CUDA1)
    assert reader.read() == reader.read() == AS_ASKED
    assert nvml.inits == 1


@pytest.mark.parametrize(
    ("without", "field"),
    [
        ("utilisation", "utilisation_ratio"),
        ("memory", "memory_used_bytes"),
        ("temperature", "temperature_celsius"),
        ("power", "power_watts"),
    ],
)
def test_one_figure_is_absent_when_the_driver_does_not_tell_it(nvml: FakeNvml, without: str, field: str) -> None:
    nvml.without = {without}
    sample = GpuReader(CUDA1).read()
    assert getattr(sample, field) is None
    assert sum(getattr(sample, name) is None for name in GpuSample.__slots__) == (2 if without == "memory" else 1)


def test_part_of_a_gpu_is_found_by_its_own_prefix(nvml: FakeNvml) -> None:
    nvml.uuids[2] = "MIG-c"
    assert GpuReader(CUDA1).read() == AS_ASKED


def test_device_is_found_anew_when_it_was_lost(nvml: FakeNvml) -> None:
    reader = GpuReader(CUDA1)
    reader.read()
    nvml.without = EVERYTHING
    assert reader.read() == GpuSample("1", 77)
    nvml.without = set()
    assert reader.read() == AS_ASKED
    assert nvml.inits == 2


@pytest.mark.parametrize("missing", ["module", "driver", "device"])
def test_there_is_one_line_and_no_error_when_there_is_no_driver(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    caplog.set_level(logging.INFO)
    if missing == "module":
        monkeypatch.setitem(sys.modules, "pynvml", None)  # an import of it fails
    elif missing == "driver":
        nvml.without = {"init"}
    else:
        nvml.uuids = []
    reader = GpuReader(CUDA1)
    assert [reader.read() for _ in range(3)] == [GpuSample("1", 77)] * 3
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_driver_is_not_asked_before_cuda_runs_nor_for_a_cpu(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    assert GpuReader(torch.device("cpu")).read() == GpuSample(reserved_bytes=0)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert GpuReader(CUDA1).read() == GpuSample(reserved_bytes=0)
    assert nvml.inits == 0


def test_library_has_the_names_that_are_called() -> None:
    import pynvml

    for name in [name for name in vars(FakeNvml) if name.startswith(("nvml", "NVML"))]:
        assert hasattr(pynvml, name), name
