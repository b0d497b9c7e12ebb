"""The contract of a source. One generic loop (service/flow/ingest.py) owns retry, backoff, metrics and state."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from inspector.sources.report import CameraReport
from inspector.types import Frame, PixelFormat

LOSSES = ("gap", "damaged", "trigger")
"""Why a frame never came: the camera's numbers skip it, it lacks a part, or a trigger was followed by none."""


class Source(Protocol):
    """Delivers frames to one ingest thread.

    Attributes:
        name: for thread names, logs and metrics.
        cameras: the cameras whose frames it delivers.
        can_wait: nothing is lost by reading later (files on disk): a full buffer is waited for, never dropped into.
        connect_s: how long `connect` may take.
        is_caught_up: when the last `read` began, nothing lay there unread.
        losses: how many frames its camera took, or owed, that never came whole, since it was built: by cause, of
            `LOSSES`.
    """

    name: str
    cameras: tuple[str, ...]
    can_wait: bool
    connect_s: float
    is_caught_up: bool
    losses: Mapping[str, int]

    def connect(self) -> None:
        """Open it; does nothing where it is open.

        Raises:
            NotConnectedError: not there now; the loop tries again.
            ConfigError: can never work (port in use).
        """

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None when none came in time. Never blocks much longer than `timeout_s`.

        Raises:
            NotConnectedError: lost; the loop closes and connects again.
            SourceExhaustedError: there will be no more.
            UnidentifiedFrameError: a message nobody can be answered for.
            MessageRefusedError: a message its sender may not send.
        """

    def fire(self, trigger_id: str, until_ns: int) -> None:
        """From another thread, must not wait: take a frame for this trigger, but not after `until_ns` (monotonic).

        A source whose program is told ignores it.
        """

    def awaits_answer(self) -> bool:
        """Whether the sender of the frame read last waits to be told that it is on record."""

    def answer(self, problem: str | None) -> None:
        """Tell it: None, the frame is on record and will be answered; else why not."""

    def defer_answer(self) -> Callable[[str | None], None]:
        """`answer` for later, by the thread that reads, when other frames have been read since."""

    def interrupt(self) -> None:
        """From another thread: let a `connect` or `read` under way end soon, if only by failing."""

    def drain(self, within_s: float) -> Iterator[Frame]:
        """What was read and not given yet, whole or not, within that time: before `close`, once it was interrupted."""

    def close(self) -> None:
        """Release everything; `connect` may follow."""

    def report(self) -> CameraReport | None:
        """What the status says of its camera, to any thread; None: nothing is known of it."""

    def is_busy(self) -> bool:
        """Whether a call or process of it, closed or not, is still under way and cannot be ended."""


class Unanswering:
    """What sources of one camera share whose frames nobody waits for, and that need not be interrupted."""

    is_caught_up = True
    losses: Mapping[str, int] = MappingProxyType({})

    def fire(self, trigger_id: str, until_ns: int) -> None:
        """See `Source`."""

    def interrupt(self) -> None:
        """See `Source`."""

    def awaits_answer(self) -> bool:
        return False

    def answer(self, problem: str | None) -> None:
        """See `Source`."""

    def defer_answer(self) -> Callable[[str | None], None]:
        return self.answer

    def report(self) -> CameraReport | None:
        return None

    def is_busy(self) -> bool:
        return False

    def drain(self, within_s: float) -> Iterator[Frame]:
        return iter(())


RUN = uuid.uuid4().hex[:8]
"""In each frame id that a source makes: after a restart it is never one that a frame had before."""


def build_frame(
    camera: str, frame_id: str, pixels: np.ndarray[Any, Any] | None, pixel_format: PixelFormat, **details: Any
) -> Frame:
    """A frame received now."""
    return Frame(
        camera=camera,
        frame_id=frame_id,
        pixels=pixels,
        pixel_format=pixel_format,
        received_utc_ns=details.pop("received_utc_ns", None) or time.time_ns(),
        received_monotonic_ns=details.pop("received_monotonic_ns", None) or time.monotonic_ns(),
        **details,
    )
