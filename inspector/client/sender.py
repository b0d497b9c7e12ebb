"""Frames to a station: the header is built here, and a frame that is not on record is told."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from inspector.client.handshakes import Handshakes
from inspector.client.keys import ClientKey, load_key

_DTYPES = {"B": "uint8", "H": "uint16"}
_STARTS = {"jpeg": b"\xff\xd8", "png": b"\x89PNG"}
_QUEUE = 4
"""Frames that may wait in a socket: more would only grow old there."""


class FrameRefusedError(ValueError):
    """Raised where the station answers that a frame is not on record, and why. It gets no verdict."""


class Sender:
    """What a program that has frames uses. Used by one thread at a time; closed with the `with` block.

    A frame sent by `PUSH` is on its way once `send` returns, and lost if the station is killed before it has read it.
    With `acknowledged` (`REQ`, at the station's `sockets.imagezmq`) `send` returns once the frame is on record: it gets
    its verdict, even if the station is killed then.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        camera: str | None = None,
        acknowledged: bool = False,
        key: ClientKey | Path | str | None = None,
        simulated: bool = False,
        timeout_s: float = 30.0,
        attempts: int = 1,
    ) -> None:
        """Connect; a station that is not there yet is waited for when the first frame is sent.

        Args:
            endpoint: the station's `sockets.frames`, or `sockets.imagezmq` where frames are `acknowledged`.
            camera: whose frames they are; may be given with each frame instead.
            acknowledged: wait until a frame is on record.
            key: a key, or its file, for a station with `security`.
            simulated: no real parts: nobody may let one through for their verdicts.
            timeout_s: for one frame and attempt, above 0.
            attempts: how often an acknowledged frame is sent before `send` gives up; the same bytes each time, so that
                the station does not take it for another frame. It may get two verdicts then, with the same ids.

        Raises:
            KeyFileError: the key file cannot be used.
            ValueError: the endpoint is none.
        """
        self._camera = camera
        self._simulated = simulated
        self._timeout_s = timeout_s
        self._attempts = attempts if acknowledged else 1
        self._acknowledged = acknowledged
        self._endpoint = endpoint
        loaded = load_key(key) if isinstance(key, (str, Path)) else key
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.REQ if acknowledged else zmq.PUSH)
        self._socket.linger = 0 if acknowledged else int(timeout_s * 1000)
        # Immediate: no frame counts as sent before a station has let us in.
        self._socket.sndhwm, self._socket.immediate = _QUEUE, 1
        if acknowledged:  # a late answer is not taken for the next frame's, and one that never comes is got over
            self._socket.req_relaxed, self._socket.req_correlate = 1, 1
        if loaded is not None:
            loaded.apply(self._socket)
        try:
            self._handshakes = Handshakes(self._context, self._socket, endpoint, has_key=loaded is not None)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ValueError(
                f"endpoint: must be a ZeroMQ endpoint such as tcp://host:5555, got {endpoint!r}"
            ) from error

    def send(
        self,
        pixels: Any,
        *,
        frame_id: str,
        camera: str | None = None,
        pixel_format: str | None = None,
        part_id: str | None = None,
        trigger_id: str | None = None,
        captured_utc_ns: int | None = None,
        simulated: bool | None = None,
        encoder_value: int | None = None,
    ) -> None:
        """Send pixels as they are.

        Args:
            pixels: (H, W) or (H, W, 3) uint8 or (H, W) uint16, C-contiguous: a NumPy array, or whatever else has the
                buffer protocol. They are copied: a camera's buffer may be filled again at once.
            frame_id: 1 to 256 characters, as `part_id` and `trigger_id`; all of them come back in the verdict.
            camera: instead of the sender's.
            pixel_format: `RGB8` or `BGR8`, for three channels; None: the camera's in the station file.
            part_id: of the part.
            trigger_id: of the trigger.
            captured_utc_ns: when, in nanoseconds since 1970; None: now, as it leaves.
            simulated: instead of the sender's.
            encoder_value: what the encoder counted at the first line, of a strip of a web.

        Raises:
            ValueError: pixels that are no such frame, or no camera.
            ConnectionRefusedError: the station does not let the sender in.
            TimeoutError: no station took the frame, or none answered, in time.
            FrameRefusedError: the station answers that it does not take it.
        """
        view = memoryview(pixels)
        if view.format not in _DTYPES or view.ndim not in {2, 3} or not view.c_contiguous:
            raise ValueError(
                "pixels: must be a C-contiguous array of 2 or 3 dimensions, uint8 or uint16, "
                f"got format {view.format!r} and shape {view.shape}"
            )
        header: dict[str, Any] = {"encoding": "raw", "dtype": _DTYPES[view.format], "shape": view.shape}
        if view.ndim == 3 and pixel_format is not None:
            header["pixel_format"] = pixel_format
        header |= {"frame_id": frame_id, "part_id": part_id, "trigger_id": trigger_id, "encoder_value": encoder_value}
        self._send(header, view, camera, captured_utc_ns, simulated)

    def send_encoded(
        self,
        content: bytes,
        *,
        frame_id: str,
        camera: str | None = None,
        part_id: str | None = None,
        trigger_id: str | None = None,
        captured_utc_ns: int | None = None,
        simulated: bool | None = None,
    ) -> None:
        """Send the bytes of a JPEG or PNG file; the rest as for `send`, which raises the same."""
        encoding = next((name for name, start in _STARTS.items() if content[:4].startswith(start)), None)
        if encoding is None:
            raise ValueError(f"content: must be a JPEG or PNG file, starts with {bytes(content[:4])!r}")
        header = {"encoding": encoding, "frame_id": frame_id, "part_id": part_id, "trigger_id": trigger_id}
        self._send(header, content, camera, captured_utc_ns, simulated)

    def _send(
        self,
        header: dict[str, Any],
        content: Any,
        camera: str | None,
        captured_utc_ns: int | None,
        simulated: bool | None,
    ) -> None:
        named = camera or self._camera
        if named is None:
            raise ValueError("camera: required, either for the sender or for the frame")
        header |= {"camera": named, "simulated": self._simulated if simulated is None else simulated}
        self._wait(zmq.POLLOUT, "accepted a frame")
        # Only now: the waiting here is not the network's.
        header["captured_utc_ns"] = time.time_ns() if captured_utc_ns is None else captured_utc_ns
        parts = [json.dumps({name: value for name, value in header.items() if value is not None}).encode(), content]
        for left in reversed(range(self._attempts)):
            self._socket.send_multipart(parts)  # copied: what waits in the queue must not change under its id
            if not self._acknowledged or self._is_on_record(left):
                return

    def _is_on_record(self, left: int) -> bool:
        """Whether the station says so; not, where it says nothing and attempts are left."""
        try:
            self._wait(zmq.POLLIN, "answered")
        except TimeoutError:
            if left:
                return False
            raise
        answer = self._socket.recv().decode("utf-8", "replace")
        if answer != "OK":
            raise FrameRefusedError(f"{self._endpoint}: {answer.removeprefix('ERROR ')}")
        return True

    def _wait(self, event: int, what: str) -> None:
        if not self._handshakes.wait(event, self._timeout_s):
            raise TimeoutError(f"no station {what} at {self._endpoint} within {self._timeout_s} s")

    def close(self, *, drop: bool = False) -> None:
        """Close; what was sent has the sender's timeout to leave, unless it is to be dropped."""
        if drop:
            self._socket.linger = 0
        self._handshakes.close()
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close(drop=error is not None)
