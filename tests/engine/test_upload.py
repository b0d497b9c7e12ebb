"""Frames onto the device: right, and never over a frame that is still being copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from inspector.engine.upload import Uploader

GPU = torch.device("cuda")
MakeUploader = Callable[[int], Uploader]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, cuda: Any) -> MakeUploader:
    """Uploaders to a device that is the CPU's own memory; each step is written into `cuda.calls`."""
    empty, copy = torch.empty, Tensor.copy_

    def pin(*size: int, pin_memory: bool, **options: Any) -> Tensor:
        assert pin_memory
        cuda.calls.append("pin")
        return empty(*size, **options)

    def fill(tensor: Tensor, source: Tensor) -> Tensor:
        cuda.calls.append("fill")
        return copy(tensor, source)

    def move(tensor: Tensor, device: torch.device, *, non_blocking: bool) -> Tensor:
        assert (device, non_blocking) == (GPU, True)
        cuda.calls.append(f"move on {cuda.current.name}")
        return tensor.clone()

    monkeypatch.setattr(torch, "empty", pin)
    monkeypatch.setattr(Tensor, "copy_", fill)
    monkeypatch.setattr(Tensor, "to", move)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: cuda.calls.append(f"kept for {stream.name}"))
    return lambda frames_in_flight: Uploader(GPU, frames_in_flight)


def make_frame(seed: int, height: int = 5, width: int = 7) -> Tensor:
    """(3, h, w) with the channels of a pixel beside each other, as cameras deliver."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8).permute(2, 0, 1)


def test_frame_is_the_same_object_when_on_the_cpu() -> None:
    frame = make_frame(0)
    assert Uploader(torch.device("cpu"), 1).upload(frame) is frame


def test_compute_waits_for_the_copy_when_a_frame_is_uploaded(make: MakeUploader, cuda: Any) -> None:
    make(2).upload(make_frame(0))
    assert cuda.calls == [
        "pin",
        "fill",
        "move on copy",
        "event 1 on copy",
        "compute waits for event 1",
        "kept for compute",
    ]


def test_slot_is_filled_again_only_when_its_copy_has_ended(make: MakeUploader, cuda: Any) -> None:
    uploader = make(3)
    for number in range(3):
        uploader.upload(make_frame(number))
    assert not any(call.startswith("host waits") for call in cuda.calls)
    assert cuda.calls.count("pin") == 3
    for number in range(3, 8):
        cuda.calls.clear()
        uploader.upload(make_frame(number))
        assert cuda.calls[:2] == [f"host waits for event {number - 2}", "fill"]  # three frames ago
        assert "pin" not in cuda.calls


def test_frames_are_right_when_slots_go_round(make: MakeUploader) -> None:
    uploader = make(2)
    frames = [make_frame(seed) for seed in range(5)]
    uploaded = [uploader.upload(frame) for frame in frames]
    for one, other in zip(uploaded, frames, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()


def test_grey_frame_is_whole_when_its_channels_are_one_memory(make: MakeUploader) -> None:
    grey = torch.arange(35, dtype=torch.uint8).view(1, 5, 7).expand(3, 5, 7)
    uploaded = make(1).upload(grey)
    assert torch.equal(uploaded, grey)


def test_one_channel_of_a_grey_frame_travels(make: MakeUploader, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []
    move = Tensor.to

    def weigh(tensor: Tensor, *arguments: Any, **options: Any) -> Tensor:
        moved.append(tensor.nbytes)
        return move(tensor, *arguments, **options)

    uploader = make(2)
    move = Tensor.to
    monkeypatch.setattr(Tensor, "to", weigh)
    uploader.upload(torch.zeros(1, 5, 7, dtype=torch.uint8).expand(3, 5, 7))
    uploader.upload(make_frame(0))
    assert moved == [35, 105]


@pytest.mark.parametrize("frame", [make_frame(0), make_frame(1).contiguous()], ids=["interleaved", "by channel"])
def test_channels_are_exchanged_on_the_device_when_asked_for(make: MakeUploader, frame: Tensor) -> None:
    uploader = make(1)
    assert uploader.can_turn
    assert torch.equal(uploader.upload(frame, turn=True), frame[[2, 1, 0]])
    assert not Uploader(torch.device("cpu"), 1).can_turn


def test_memory_is_pinned_anew_when_frames_change(make: MakeUploader, cuda: Any) -> None:
    uploader = make(1)
    frames = [make_frame(0), make_frame(1, 6, 4), make_frame(2, 6, 4).float(), make_frame(3, 6, 4).float()]
    uploaded = [uploader.upload(frame) for frame in frames]
    assert cuda.calls.count("pin") == 3
    assert [call for call in cuda.calls if call.startswith("host")] == [f"host waits for event {n}" for n in (1, 2, 3)]
    for one, other in zip(uploaded, frames, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
