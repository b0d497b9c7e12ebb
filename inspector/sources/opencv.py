"""Cameras and streams through OpenCV, in a child process: `cv2.VideoCapture` blocks, and releasing it from another
thread while it reads crashes the process. A child can be killed."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from inspector.codec import name_video_format
from inspector.errors import BadFrameError, NotConnectedError, SourceExhaustedError
from inspector.secret import mask_secrets
from inspector.sources.base import RUN, Source, Unanswering, build_frame
from inspector.sources.cameras.capture import capture_frames
from inspector.sources.cameras.handover import Inbox
from inspector.sources.memory import NO_MEMORY, FileMemory
from inspector.sources.settings import AgeDoubt, Device, SourceSettings
from inspector.strict.claims import Claim
from inspector.types import Frame, PixelFormat

_START_S = 20.0
"""How long the child may take to start Python and OpenCV, beside the open timeout."""
_KILL_S = 0.5
"""How long a child may take to be gone; one that takes longer hangs in the kernel, in its device's driver."""

_V4L = Path("/sys/class/video4linux")
_AGE_DOUBT = AgeDoubt(
    "the capture time is the time of reading: a frame delayed by a driver or network stream is judged as a new one",
    "use a source without a queue, or a program that sends frames with captured_utc_ns from the camera's clock",
)


class OpencvSettings(SourceSettings):
    """A camera or stream OpenCV can open: device index, file or URL."""

    is_exclusive = True
    device_field = "device"

    type: Literal["opencv"]
    """A camera, video file or stream that OpenCV opens."""
    numbers_frames = False
    device: Annotated[int | str, Field(examples=[0])]
    """Number of the device, path of a video file, or URL of a stream."""
    open_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """How long opening may take."""
    read_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    """How long one frame may take; then the device is closed and opened again."""

    @property
    def age_doubt(self) -> AgeDoubt:
        """See `SourceSettings`."""
        return _AGE_DOUBT

    @classmethod
    def find_devices(cls) -> Iterator[Device]:
        """See `SourceSettings`; of Video4Linux only, as streams do not tell of themselves."""
        for path in sorted(_V4L.glob("video*"), key=lambda path: (len(path.name), path.name)):
            with contextlib.suppress(OSError, ValueError):
                yield Device(int(path.name.removeprefix("video")), (path / "name").read_text(errors="replace").strip())

    def list_claims(self, camera: str, folder: Path) -> Iterator[Claim]:
        device = f"/dev/video{self.device}" if isinstance(self.device, int) else self.device.strip()
        device = device if "://" in device else os.path.normpath(device)
        yield Claim((camera, "source", "device"), "device", mask_secrets(repr(self.device)), ("device", device))

    def build(self, camera: str, *, simulated: bool = False, memory: FileMemory = NO_MEMORY) -> Source:
        timeouts = {"open_timeout_s": self.open_timeout_s, "read_timeout_s": self.read_timeout_s}
        return OpencvSource(camera, self.device, **timeouts, simulated=simulated)


class OpencvSource(Unanswering):
    """One camera: a device index, a video file or a URL."""

    def __init__(
        self, camera: str, device: int | str, *, open_timeout_s: float, read_timeout_s: float, simulated: bool = False
    ) -> None:
        self.name = camera
        self.cameras: tuple[str, ...] = (camera,)
        self.can_wait = False  # until a file was opened
        self._losses: Counter[str] = Counter()
        self.losses: Mapping[str, int] = self._losses
        self.connect_s = _START_S + open_timeout_s + 2.0  # and to kill a child that does not answer
        self._device = device
        self._shown = mask_secrets(repr(device))  # for messages: a stream's URL may hold a password
        self._open_timeout_s = open_timeout_s
        self._read_timeout_s = read_timeout_s
        self._simulated = simulated
        self._child: BaseProcess | None = None
        self._is_interrupted = False
        self._inbox: Inbox | None = None
        self._last_frame = 0.0
        self._read = 0  # frames: a file that has to be opened again goes on after them
        self._numbers = itertools.count(1)

    def connect(self) -> None:
        """Start the child and wait until it has opened the device.

        Raises:
            NotConnectedError: it could not, in time.
        """
        if self._inbox is not None:
            return
        if self.is_busy():
            raise NotConnectedError(f"camera {self.name}: {self._shown} hangs; its capture process cannot be stopped")
        try:
            self._inbox = self._start_child()
        except OSError as error:  # no memory, no process or no file descriptor is left
            raise NotConnectedError(f"camera {self.name}: cannot start its capture process: {error}") from error
        message = self._receive(_START_S + self._open_timeout_s)
        if message is None or message["event"] != "open":
            why = "" if message is None else mask_secrets(message["why"])
            self.close()
            raise NotConnectedError(f"camera {self.name}: {self._shown} could not be opened{why and ': '}{why}")
        self.can_wait = message["is_file"]
        self._last_frame = time.monotonic()

    def _start_child(self) -> Inbox:
        near_end, far_end = socket.socketpair()
        with far_end, contextlib.ExitStack() as undo:
            undo.callback(near_end.close)
            inbox = Inbox(near_end)
            undo.callback(inbox.close)
            timeouts_ms = (int(self._open_timeout_s * 1000), int(self._read_timeout_s * 1000))
            child = multiprocessing.get_context("spawn").Process(
                target=capture_frames,
                args=(far_end, self._device, *timeouts_ms, self._read),
                name=f"capture-{self.name}",
                daemon=True,
            )
            child.start()
            undo.pop_all()
        self._child = child  # only now: one that has not started cannot be killed
        if self._is_interrupted:
            child.kill()
        return inbox

    def read(self, timeout_s: float) -> Frame | None:
        header = self._receive(timeout_s)
        if header is None:
            if time.monotonic() - self._last_frame > self._read_timeout_s:
                raise NotConnectedError(f"camera {self.name}: no frame for {self._read_timeout_s} s")
            return None
        if header["event"] == "end":
            why = header["why"] and f": {mask_secrets(header['why'])}"
            if self.can_wait:
                raise SourceExhaustedError(f"camera {self.name}: end of {self._shown}{why}")
            raise NotConnectedError(f"camera {self.name}: {self._shown} stopped delivering{why}")
        self._last_frame = time.monotonic()
        if header["event"] == "passed":
            return None
        self._read += 1
        return self._build_frame(header)

    def _build_frame(self, header: dict[str, Any]) -> Frame:
        pixels = self._get_inbox().copy_picture(header["dtype"], header["shape"], header["place"])
        pixel_format, error = PixelFormat.BGR8, None
        try:
            pixel_format = name_video_format(pixels, header["turned"])
        except BadFrameError as fault:
            error = str(fault)
        if header["damage"] is not None:
            self._losses["damaged"] += 1
            error = f"image damaged: {mask_secrets(header['damage'])}"
        return build_frame(
            self.name,
            f"{self.name}-{RUN}-{next(self._numbers)}",
            None if error else pixels,
            pixel_format,
            captured_utc_ns=header["captured_utc_ns"],
            simulated=self._simulated,
            error=error,
        )

    def interrupt(self) -> None:
        """See `Source`: whoever waits for the child sees it end."""
        self._is_interrupted = True
        child = self._child
        if child is not None:
            child.kill()

    def close(self) -> None:
        """Kill the child: a blocked read cannot be asked to stop."""
        if self._inbox is not None:
            self._inbox.close()
            self._inbox = None
        if self._child is not None:
            self._child.kill()
            self._child.join(_KILL_S)
            if not self._child.is_alive():
                self._child = None

    def is_busy(self) -> bool:
        return self._child is not None and self._child.is_alive()

    def _get_inbox(self) -> Inbox:
        if self._inbox is None:
            raise NotConnectedError(f"camera {self.name}: not connected")
        return self._inbox

    def _receive(self, timeout_s: float) -> dict[str, Any] | None:
        try:
            return self._get_inbox().receive(timeout_s)
        except (EOFError, OSError) as error:
            raise NotConnectedError(f"camera {self.name}: capture process ended: {error}") from error
