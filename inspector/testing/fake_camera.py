"""A GenICam camera in memory: a full `sources.cameras.driver.Driver`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inspector.errors import NotConnectedError
from inspector.sources.cameras.driver import Grabbed

HW = (48, 64)


def make_image(block_id: int, *, device_ns: int = 0, error: str | None = None, chunks: tuple[int, ...] = ()) -> Grabbed:
    """A grey image, or one that did not come whole; with chunks, by the order of the settings."""
    pixels = None if error else np.full(HW, block_id % 256, np.uint8)
    return Grabbed(block_id, device_ns, pixels, error=error, chunks=chunks)


class FakeCamera:
    """Delivers what is put into `images`; an exception there is raised.

    Attributes:
        features: what it has, as text; `fixed` of them stay as they are, without a word.
        calls: what was asked of it, less reads.
        is_there: whether it can be opened.
    """

    def __init__(self, features: Mapping[str, str] = {}, fixed: tuple[str, ...] = ()) -> None:
        self.features = {"PixelFormat": "Mono8", "TriggerMode": "Off"} | dict(features)
        self.fixed = fixed
        self.calls: list[str] = []
        self.images: deque[Grabbed | Exception] = deque()
        self.is_there = True
        self.is_open = False

    def open(self) -> None:
        """See `Driver`."""
        self.calls.append("open")
        if not self.is_there:
            raise NotConnectedError("no camera at all is there")
        self.is_open = True

    def has_feature(self, name: str) -> bool:
        """See `Driver`."""
        return name in self.features

    def write_feature(self, name: str, value: str) -> None:
        """See `Driver`."""
        self.calls.append(f"{name}={value}")
        if value == "refused":
            raise NotConnectedError(f"{name}: not writable")
        if name not in self.fixed:
            self.features[name] = value

    def read_feature(self, name: str) -> str:
        """See `Driver`."""
        return self.features[name]

    def execute(self, name: str) -> None:
        """See `Driver`."""
        self.calls.append(f"{name}()")

    def start(self) -> None:
        """See `Driver`."""
        self.calls.append("start")

    def fire(self) -> None:
        """See `Driver`."""
        self.calls.append("fire")

    def grab(self, timeout_s: float, chunks: Sequence[str] = ()) -> Grabbed | None:
        """See `Driver`."""
        assert self.is_open
        if not self.images:
            time.sleep(min(timeout_s, 0.01))
            return None
        image: Any = self.images.popleft()
        if isinstance(image, Exception):
            raise image
        return image  # type: ignore[no-any-return]

    def close(self) -> None:
        """See `Driver`."""
        self.calls.append("close")
        self.is_open = False
