"""Which device runs networks."""

from __future__ import annotations

import pytest
import torch

from inspector.device import choose_device, is_out_of_memory
from inspector.errors import ConfigError
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
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
    ],
)
def test_memory_is_told_from_other_faults_whichever_library_says_it(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory
