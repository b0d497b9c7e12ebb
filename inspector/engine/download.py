"""Results off the device, into pinned memory: behind what they rest on, and never behind what was queued later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from inspector.engine.base import Engine

Array = np.ndarray[Any, Any]


class Download(Protocol):
    """Values on their way to the host."""

    @property
    def is_ready(self) -> bool:
        """Whether `wait` would not have to wait.

        Raises:
            RuntimeError: the device's fault.
        """
        ...

    def wait(self) -> Array:
        """The values, in the tensor's shape and dtype.

        Raises:
            RuntimeError: the device's fault.
        """
        ...


class Downloads(Protocol):
    """How values come from an engine's device to the host."""

    def queue(self, tensor: Tensor) -> Download:
        """Copy a tensor once all that is queued on the device by now has run; returns at once."""
        ...

    def fetch(self, compute: Callable[[], Tensor], after: Download) -> Array:
        """What `compute` gives, begun as soon as `after` is there, beside whatever was queued since; waits for it.

        Raises:
            RuntimeError: the device's fault, memory included.
        """
        ...


def build_downloads(engine: Engine) -> Downloads:
    """What suits the engine: an engine that computes while nobody waits needs more than a copy."""
    return HostDownloads() if engine.frames_in_flight == 1 else CudaDownloads(engine.device)


class _Ready:
    """Values that are on the host."""

    is_ready = True

    def __init__(self, values: Array) -> None:
        self._values = values

    def wait(self) -> Array:
        return self._values


class HostDownloads:
    """For engines whose `infer` returns when it has computed: what they give is there, or is waited for at once."""

    def queue(self, tensor: Tensor) -> Download:
        """As `Downloads`."""
        return _Ready(tensor.cpu().numpy())

    def fetch(self, compute: Callable[[], Tensor], after: Download) -> Array:  # noqa: ARG002 (it has come)
        """As `Downloads`."""
        values: Array = compute().cpu().numpy()
        return values


class _Copied:
    """Pinned memory that a copy on the device is filling, and the event after it."""

    def __init__(self, memory: Tensor, event: Any) -> None:
        self.event = event
        self._memory = memory

    @property
    def is_ready(self) -> bool:
        return bool(self.event.query())

    def wait(self) -> Array:
        self.event.synchronize()
        values: Array = self._memory.numpy()
        return values


class CudaDownloads:
    """By copies of their own.

    Copying a tensor with `.cpu()` waits for everything queued on its stream, the batches of later frames included:
    with three frames under way each verdict would wait for the two after it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Of high priority: its few small kernels go before the thread blocks of the batches that wait.
        self._side = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]

    def queue(self, tensor: Tensor) -> _Copied:
        """As `Downloads`."""
        return _copy(tensor, torch.cuda.current_stream(self._device))

    def fetch(self, compute: Callable[[], Tensor], after: Download) -> Array:
        """As `Downloads`. What `compute` reads must live until this returns; nothing it makes is used after."""
        assert isinstance(after, _Copied)  # noqa: S101 (of this class's own `queue`)
        with torch.cuda.stream(self._side):
            self._side.wait_event(after.event)
            copied = _copy(compute(), self._side)
        return copied.wait()


def _copy(tensor: Tensor, stream: Any) -> _Copied:
    memory = _pin(tensor)
    memory.copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(stream)
    return _Copied(memory, event)


def _pin(tensor: Tensor) -> Tensor:
    """Page-locked memory for a tensor like this one; torch keeps it for the next one of this size."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
