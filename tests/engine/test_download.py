"""Results off the device: behind what they rest on, and not behind what was queued later."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from inspector.engine.download import CudaDownloads, HostDownloads


def test_values_are_copied_behind_what_is_queued_and_nobody_waits_until_they_are_asked_for(cuda: Any) -> None:
    download = CudaDownloads(torch.device("cuda")).queue(torch.arange(3.0))
    assert cuda.calls == ["event 1 on compute"]
    assert download.is_ready
    assert download.wait().tolist() == [0.0, 1.0, 2.0]
    assert cuda.calls[1:] == ["host waits for event 1"]


def test_values_are_fetched_on_a_stream_beside_the_one_that_computes(cuda: Any) -> None:
    downloads = CudaDownloads(torch.device("cuda"))
    summary = downloads.queue(torch.zeros(1))
    downloads.queue(torch.zeros(1))  # a later frame's
    cuda.calls.clear()
    streams = []

    def compute() -> torch.Tensor:
        streams.append(cuda.current.name)
        return torch.arange(2.0)

    assert downloads.fetch(compute, summary).tolist() == [0.0, 1.0]
    assert streams == ["side"]
    assert cuda.calls == ["side waits for event 1", "event 3 on side", "host waits for event 3"]


@pytest.mark.usefixtures("cuda")
def test_values_stay_as_they_were_when_their_tensor_is_written_again() -> None:
    tensor = torch.zeros(2)
    download = CudaDownloads(torch.device("cuda")).queue(tensor)
    tensor += 1
    assert download.wait().tolist() == [0.0, 0.0]


def test_values_are_there_at_once_when_the_engine_waits() -> None:
    downloads = HostDownloads()
    download = downloads.queue(torch.arange(2.0))
    assert download.is_ready
    assert download.wait().tolist() == [0.0, 1.0]
    assert downloads.fetch(lambda: torch.ones(1), download).tolist() == [1.0]
