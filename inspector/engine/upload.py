"""Frames onto the device: from pinned memory, on a stream of their own, beside what is being computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class _Slot:
    """Pinned memory for one frame, and the event after which it may be written again."""

    memory: Tensor
    copied: Any = None


class Uploader:
    """Copies frames to the device without waiting for them to arrive. On the CPU there is nothing to do."""

    def __init__(self, device: torch.device, frames_in_flight: int) -> None:
        self._device = device
        self._slots: list[_Slot | None] = [None] * frames_in_flight
        self._turn = 0
        self._stream = None if device.type == "cpu" else torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @property
    def can_turn(self) -> bool:
        """Whether the device may as well exchange the outer channels, beside what it computes."""
        return self._stream is not None

    def upload(self, image: Tensor, *, turn: bool = False) -> Tensor:
        """`image` (3, h, w) on the device; work queued there from now on waits for it to arrive.

        Of a grey image, whose channels are one memory, only that travels; they are one memory there, too. `turn`: the
        first channel becomes the last, where `can_turn`.

        Raises:
            RuntimeError: the device's fault, memory included.
        """
        if self._stream is None:
            return image
        is_grey = image.stride(0) == 0
        image = image[:1] if is_grey else image
        slot = self._take_slot(image)
        slot.memory.copy_(image)  # the one copy on the host
        with torch.cuda.stream(self._stream):
            uploaded = slot.memory.to(self._device, non_blocking=True)
            uploaded = uploaded.flip(0) if turn else uploaded
            slot.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            slot.copied.record(self._stream)
        current = torch.cuda.current_stream(self._device)
        current.wait_event(slot.copied)
        uploaded.record_stream(current)  # its memory is not given to the next upload while tiles are cut from it
        return uploaded.expand(3, -1, -1) if is_grey else uploaded

    def _take_slot(self, image: Tensor) -> _Slot:
        index = self._turn
        self._turn = (self._turn + 1) % len(self._slots)
        slot = self._slots[index]
        if slot is not None and slot.copied is not None:
            slot.copied.synchronize()
        if slot is None or slot.memory.shape != image.shape or slot.memory.dtype != image.dtype:
            slot = self._slots[index] = _Slot(_pin(image))
        return slot


def _pin(image: Tensor) -> Tensor:
    """Page-locked memory for images like this one, in the same order of channels."""
    channels, height, width = image.shape
    if channels > 1 and image.stride(0) == 1:
        return torch.empty(height, width, channels, dtype=image.dtype, pin_memory=True).permute(2, 0, 1)
    return torch.empty(channels, height, width, dtype=image.dtype, pin_memory=True)
