"""Cameras and streams through OpenCV, in a child process: `cv2.VideoCapture` blocks, and releasing it from another
thread while it reads crashes the process. A child can be killed."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspector.errors import NotConnectedError, SourceExhaustedError
from inspector.secret import mask_secrets
from inspector.sources.base import Unanswering, build_frame
from inspector.types import Frame, PixelFormat

_START_S = 20.0
"""How long the child may take to start Python and OpenCV, beside the open timeout."""

_FFMPEG_OPTIONS = "rtsp_flags;prefer_tcp|fflags;discardcorrupt"
"""OpenCV's default, and: drop what was cut short. The decoder would fill the rest with pixels of the frame before."""


class OpencvSource(Unanswering):
    """One camera: a device index, a video file or a URL."""

    can_wait = False

    def __init__(
        self, camera: str, device: int | str, *, open_timeout_s: float, read_timeout_s: float, simulated: bool = False
    ) -> None:
        self.name = camera
        self.cameras: tuple[str, ...] = (camera,)
        self.can_wait = isinstance(device, str) and Path(device).is_file()
        self.connect_s = _START_S + open_timeout_s + 2.0  # and to kill a child that does not answer
        self._device = device
        self._shown = mask_secrets(repr(device))  # for messages: a stream's URL may hold a password
        self._open_timeout_s = open_timeout_s
        self._read_timeout_s = read_timeout_s
        self._simulated = simulated
        self._child: Any = None
        self._is_interrupted = False
        self._pipe: Connection | None = None
        self._last_frame = 0.0
        self._numbers = itertools.count(1)

    def connect(self) -> None:
        """Start the child and wait until it has opened the device.

        Raises:
            NotConnectedError: it could not, in time.
        """
        if self._pipe is not None:
            return
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        timeouts_ms = (int(self._open_timeout_s * 1000), int(self._read_timeout_s * 1000))
        child = context.Process(
            target=_capture, args=(far_end, self._device, *timeouts_ms), name=f"capture-{self.name}", daemon=True
        )
        child.start()
        self._child = child  # only now: one that has not started cannot be killed
        if self._is_interrupted:
            child.kill()
        far_end.close()
        message = self._receive(_START_S + self._open_timeout_s)
        if message is None or message.get("event") != "open":
            self.close()
            raise NotConnectedError(f"camera {self.name}: {self._shown} could not be opened")
        self._last_frame = time.monotonic()

    def read(self, timeout_s: float) -> Frame | None:
        """See `Source.read`."""
        message = self._receive(timeout_s)
        if message is None:
            if time.monotonic() - self._last_frame > self._read_timeout_s:
                raise NotConnectedError(f"camera {self.name}: no frame for {self._read_timeout_s} s")
            return None
        if message["event"] == "end":
            if self.can_wait:
                raise SourceExhaustedError(f"camera {self.name}: end of {self._shown}")
            raise NotConnectedError(f"camera {self.name}: {self._shown} stopped delivering")
        self._last_frame = time.monotonic()
        pixels = np.frombuffer(self._receive_bytes(), dtype=np.uint8).reshape(message["shape"])
        pixel_format = PixelFormat.BGR8 if pixels.ndim == 3 else PixelFormat.MONO8
        return build_frame(
            self.name,
            f"{self.name}-{next(self._numbers)}",
            pixels,
            pixel_format,
            captured_utc_ns=message["captured_utc_ns"],
            simulated=self._simulated,
        )

    def interrupt(self) -> None:
        """See `Source`: whoever waits for the child sees it end."""
        self._is_interrupted = True
        child = self._child
        if child is not None:
            child.kill()

    def close(self) -> None:
        """Kill the child: a blocked read cannot be asked to stop."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._child is not None:
            self._child.kill()
            self._child.join(2.0)
            self._child = None

    def _receive(self, timeout_s: float) -> dict[str, Any] | None:
        pipe = self._pipe
        if pipe is None:
            raise NotConnectedError(f"camera {self.name}: not connected")
        try:
            if not pipe.poll(timeout_s):
                return None
            message: dict[str, Any] = json.loads(pipe.recv_bytes())
        except (EOFError, OSError) as error:
            raise NotConnectedError(f"camera {self.name}: capture process ended: {error}") from error
        return message

    def _receive_bytes(self) -> bytes:
        if self._pipe is None:
            raise NotConnectedError(f"camera {self.name}: not connected")
        try:
            return self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            raise NotConnectedError(f"camera {self.name}: capture process ended: {error}") from error


def _capture(pipe: Connection, device: int | str, open_timeout_ms: int, read_timeout_ms: int) -> None:
    """The child: open, then send each frame until the pipe closes or the device ends."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        capture = _open(device, open_timeout_ms, read_timeout_ms)
        if not capture.isOpened():
            pipe.send_bytes(b'{"event": "end"}')
            return
        pipe.send_bytes(b'{"event": "open"}')
        while True:
            good, image = capture.read()
            if not good:
                pipe.send_bytes(b'{"event": "end"}')
                return
            header = {"event": "frame", "shape": image.shape, "captured_utc_ns": time.time_ns()}
            pipe.send_bytes(json.dumps(header).encode())
            pipe.send_bytes(np.ascontiguousarray(image).data.cast("B"))


def _open(device: int | str, open_timeout_ms: int, read_timeout_ms: int) -> cv2.VideoCapture:
    if isinstance(device, int):
        return cv2.VideoCapture(device)
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", _FFMPEG_OPTIONS)  # of the whole process: the child's own
    # The timeouts only work when given in the open call.
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_timeout_ms]
    return cv2.VideoCapture(device, cv2.CAP_FFMPEG, timeouts)
