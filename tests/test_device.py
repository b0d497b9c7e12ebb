"""Which device runs networks."""

from __future__ import annotations

import contextlib

import pytest
import torch

from inspector.device import Driver, check_driver, choose_device, choose_devices, is_out_of_memory, read_driver
from inspector.errors import ConfigError, DriverError
from inspector.transient import is_transient


@pytest.mark.parametrize("device", ["cuda:99", "tpu"])
def test_device_is_refused_when_this_machine_has_none_such(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device: must be .*, got '{device}'"):
        choose_device(device)


@pytest.mark.parametrize("version", ["13.0", None])
def test_gpu_that_is_not_there_may_be_there_later_unless_this_build_knows_none(
    monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    monkeypatch.setattr("torch.version.cuda", version)
    with pytest.raises(ConfigError) as error:
        choose_device("cuda:99")
    assert is_transient(error.value) == (version is not None)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("full"), True),
        (MemoryError("full"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
    ],
)
def test_memory_is_told_from_other_faults_whichever_library_says_it(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory


OLD = Driver("535.183.01", 12)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One GPU, counted by NVML; torch built for CUDA 13."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    return monkeypatch


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_driver_that_is_too_old_is_named_with_the_one_needed(gpu: pytest.MonkeyPatch, device: str) -> None:
    gpu.setattr("inspector.device.read_driver", lambda: OLD)
    words = r"CUDA 13\.0, which needs NVIDIA's driver 580\..* or later, .* has 535\.183\.01"
    with pytest.raises(DriverError, match=words) as error:
        choose_device(device)
    assert error.value.field == ("device",)
    assert not is_transient(error.value)  # a restart brings no driver
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("built_for", "driver"),
    [("13.0", Driver("580.65.06", 13)), ("12.6", OLD), ("12.8", Driver("580.65.06", 13)), ("13.0", None), (None, OLD)],
)
def test_driver_is_accepted_when_its_cuda_is_as_new_or_cannot_be_asked(
    gpu: pytest.MonkeyPatch, built_for: str | None, driver: Driver | None
) -> None:
    gpu.setattr("torch.version.cuda", built_for)
    gpu.setattr("inspector.device.read_driver", lambda: driver)
    check_driver(driver)
    assert choose_device("auto") == torch.device("cuda")


def test_driver_of_a_cuda_not_known_yet_is_refused_without_a_number(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr("torch.version.cuda", "14.1")
    with pytest.raises(DriverError, match="needs NVIDIA's newer driver"):
        check_driver(OLD)


def test_driver_says_its_version_and_cuda_when_nvml_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "535.183.01")
    monkeypatch.setattr(pynvml, "nvmlSystemGetCudaDriverVersion_v2", lambda: 12020)
    assert read_driver() == OLD


def test_driver_is_unknown_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")

    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert read_driver() is None


# ---------------------------------------------------------------- several


def test_each_of_several_gpus_is_named_as_the_file_names_it_and_is_current_only_beside_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("inspector.device.read_driver", lambda: None)
    current: list[torch.device] = []
    monkeypatch.setattr("torch.cuda.device", lambda device: current.append(device) or contextlib.nullcontext())
    devices = choose_devices(["cuda:1", "cuda:0"])
    assert [(device.name, device.is_only) for device in devices] == [("cuda:1", False), ("cuda:0", False)]
    (only,) = choose_devices(["cuda:1"])
    assert (only.name, only.is_only) == ("cuda:1", True)
    for device in (*devices, only):
        with device.as_current():
            pass
    assert current == [torch.device("cuda:1"), torch.device("cuda:0")]


def test_workers_on_one_cpu_are_numbered() -> None:
    assert [device.name for device in choose_devices(["cpu", "cpu"])] == ["cpu:0", "cpu:1"]
    assert [device.name for device in choose_devices(["cpu"])] == ["cpu"]


def test_one_of_several_devices_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"device: must be a device of this machine, .*, got 'cuda:99'"):
        choose_devices(["cpu", "cuda:99"])
