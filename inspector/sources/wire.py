"""The frame message: `[header JSON, pixels]`, ours and imagezmq's. Pure: bytes in, frame out."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inspector.codec import Pixels, decode_image, decode_raw
from inspector.errors import BadFrameError, FrameMismatchError, UnidentifiedFrameError
from inspector.sources.base import RUN, build_frame
from inspector.sources.settings import ListeningSettings, Sourced
from inspector.types import Frame, PixelFormat, Reason

MAX_HEADER_BYTES = 65_536
_STARTS = {"jpeg": b"\xff\xd8", "png": b"\x89PNG"}
MAX_TEXT = 256
_unnamed = itertools.count(1)

FindFrameHw = Callable[[str], tuple[int, int] | None]
"""The height and width that a camera's recipe expects now; None where it takes any."""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A frame message whose pixels are not decoded yet.

    Attributes:
        camera: whose frame it is.
        header: what its sender says of it.
        data: the pixels as they came.
        received_utc_ns: when it was read, wall clock.
        received_monotonic_ns: the same instant on the monotonic clock.
        simulated: whether the camera or the sender says so.
        number: in the frame's name where the sender gives none.
    """

    camera: str
    header: Mapping[str, Any]
    data: bytes | memoryview
    received_utc_ns: int
    received_monotonic_ns: int
    simulated: bool
    number: int
    _decode_pixels: Callable[[Mapping[str, Any], bytes | memoryview, str], tuple[Pixels, PixelFormat]]

    @property
    def is_compressed(self) -> bool:
        """Whether decoding takes time: raw pixels are only looked at."""
        return _name_encoding(self.header) != "raw"

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels as they came."""
        return len(self.data)

    def decode(self) -> Frame:
        """The frame; where its pixels are bad, one without pixels that says why. Any thread may call it."""
        try:
            details = _read_details(self.header, self.number)
            pixels, pixel_format = self._decode_pixels(self.header, self.data, self.camera)
        except FrameMismatchError as error:
            return self.fail(str(error), Reason.FRAME_MISMATCH)
        except BadFrameError as error:
            return self.fail(str(error), Reason.BAD_FRAME)
        return build_frame(
            self.camera,
            pixels=pixels,
            pixel_format=pixel_format,
            simulated=self.simulated,
            received_utc_ns=self.received_utc_ns,
            received_monotonic_ns=self.received_monotonic_ns,
            decode_ms=(time.monotonic_ns() - self.received_monotonic_ns) / 1e6,
            **details,
        )

    def fail(self, why: str, reason: Reason) -> Frame:
        """The frame without pixels, to be answered ERROR."""
        return build_frame(
            self.camera,
            _text_or_none(self.header.get("frame_id")) or f"unnamed-{RUN}-{self.number}",
            None,
            PixelFormat.RGB8,
            part_id=_text_or_none(self.header.get("part_id")),
            trigger_id=_text_or_none(self.header.get("trigger_id")),
            simulated=self.simulated,
            error=why,
            error_reason=reason,
            received_utc_ns=self.received_utc_ns,
            received_monotonic_ns=self.received_monotonic_ns,
        )


class FrameDecoder:
    """Turns message parts into frames of the cameras that take theirs from ZeroMQ."""

    def __init__(
        self, cameras: Mapping[str, Sourced], max_bytes: int, find_frame_hw: FindFrameHw = lambda _: None
    ) -> None:
        """`max_bytes` limits the pixels of a message, both as received and decoded."""
        self._max_bytes = max_bytes
        self._find_frame_hw = find_frame_hw
        self._simulated = {name: camera.simulated for name, camera in cameras.items()}
        self._colours: dict[str, PixelFormat] = {}
        self._by_sender: dict[str, str] = {}
        for name, camera in cameras.items():
            if isinstance(camera.source, ListeningSettings):
                self._colours[name] = camera.source.pixel_format
                if (sender := camera.source.name_sender(name)) is not None:
                    self._by_sender[sender] = name
        self._by_name = {name: name for name in self._colours}

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras whose frames are accepted."""
        return tuple(self._colours)

    def decode(self, parts: Sequence[bytes | memoryview], admit: Callable[[str], None] = lambda camera: None) -> Frame:
        """`read`, then `Message.decode`.

        Raises:
            UnidentifiedFrameError: see `read`.
        """
        return self.read(parts, admit).decode()

    def read(self, parts: Sequence[bytes | memoryview], admit: Callable[[str], None] = lambda camera: None) -> Message:
        """Whose frame a message is.

        Args:
            parts: header and pixels.
            admit: told the camera before anything is decoded; what it raises is raised.

        Raises:
            UnidentifiedFrameError: the message names no camera of this station. Its `cause` is one of parts,
                header, camera.
        """
        received_utc_ns, received_monotonic_ns = time.time_ns(), time.monotonic_ns()
        header = _parse(parts)
        camera = self._identify(header)
        admit(camera)
        # A sender may say that a frame is simulated, never that it is not.
        simulated = self._simulated[camera] or header.get("simulated") is True
        times = received_utc_ns, received_monotonic_ns
        return Message(camera, header, parts[1], *times, simulated, next(_unnamed), self._decode_pixels)

    def _identify(self, header: Mapping[str, Any]) -> str:
        """A header names the camera; imagezmq's text names its sender, which is no other camera's name."""
        name = header["camera"] if "camera" in header else header.get("msg")
        known = self._by_name if "camera" in header else self._by_sender
        if not isinstance(name, str) or name not in known:
            what = "" if "camera" in header else "imagezmq's text "
            raise UnidentifiedFrameError("camera", f"camera: {what}must be one of {tuple(known)}, got {name!r:.80}")
        return known[name]

    def _decode_pixels(
        self, header: Mapping[str, Any], data: bytes | memoryview, camera: str
    ) -> tuple[Pixels, PixelFormat]:
        if len(data) > self._max_bytes:
            raise BadFrameError(f"pixels: must be at most {self._max_bytes} bytes, got {len(data)}")
        encoding = _name_encoding(header)
        if encoding in ("jpeg", "png"):  # a tuple: senders also send what cannot be hashed
            if not bytes(data[:4]).startswith(_STARTS[encoding]):  # files may be more
                raise BadFrameError(
                    f"pixels: must be {encoding} as their header says, got data starting with {bytes(data[:4])!r}"
                )
            return decode_image(data, max_bytes=self._max_bytes, frame_hw=self._find_frame_hw(camera))
        if encoding == "raw":
            return decode_raw(data, header.get("dtype"), _listed(header.get("shape")), self._colour(header, camera))
        raise BadFrameError(f"encoding: must be raw, jpeg or png, got {encoding!r:.80}")

    def _colour(self, header: Mapping[str, Any], camera: str) -> PixelFormat:
        named = header.get("pixel_format", self._colours[camera])
        for colour in (PixelFormat.RGB8, PixelFormat.BGR8):
            if named == colour:
                return colour
        raise BadFrameError(f"pixel_format: must be RGB8 or BGR8, got {named!r:.80}")


def _parse(parts: Sequence[bytes | memoryview]) -> dict[str, Any]:
    if len(parts) != 2:
        raise UnidentifiedFrameError("parts", f"message: must have 2 parts (header, pixels), got {len(parts)}")
    if len(parts[0]) > MAX_HEADER_BYTES:
        raise UnidentifiedFrameError("header", f"header: must be at most {MAX_HEADER_BYTES} bytes, got {len(parts[0])}")
    try:
        header = json.loads(bytes(parts[0]))
    except (ValueError, RecursionError) as error:
        raise UnidentifiedFrameError("header", f"header: must be JSON: {error}") from error
    if not isinstance(header, dict):
        raise UnidentifiedFrameError("header", f"header: must be a JSON object, got {type(header).__name__}")
    return header


def _name_encoding(header: Mapping[str, Any]) -> object:
    if "camera" in header:
        return header.get("encoding")
    return "raw" if "dtype" in header else "jpeg"  # imagezmq


def _read_details(header: Mapping[str, Any], number: int) -> dict[str, Any]:
    imagezmq = "camera" not in header
    frame_id = f"{header.get('msg')}-{RUN}-{number}" if imagezmq else _text_or_none(header.get("frame_id"))
    if frame_id is None:
        raise BadFrameError(
            f"frame_id: required, text of 1 to {MAX_TEXT} characters or a whole number, "
            f"got {header.get('frame_id')!r:.80}"
        )
    captured = header.get("captured_utc_ns")
    captured = 0 if captured is None else captured
    if type(captured) is not int or not 0 <= captured < 2**63:
        raise BadFrameError(f"captured_utc_ns: must be nanoseconds since 1970, got {captured!r:.80}")
    if type(simulated := header.get("simulated", False)) is not bool:
        raise BadFrameError(f"simulated: must be true or false, got {simulated!r:.80}")
    encoder_value = header.get("encoder_value")
    if encoder_value is not None and not (type(encoder_value) is int and -(2**63) <= encoder_value < 2**63):
        raise BadFrameError(f"encoder_value: must be a whole number of 64 bits, got {encoder_value!r:.80}")
    return {"frame_id": frame_id, "captured_utc_ns": captured, "encoder_value": encoder_value} | {
        key: _optional_text(header, key) for key in ("part_id", "trigger_id")
    }


def _optional_text(header: Mapping[str, Any], key: str) -> str | None:
    value = header.get(key)
    text = _text_or_none(value)
    if text is None and value is not None:
        raise BadFrameError(f"{key}: must be text of 1 to {MAX_TEXT} characters, got {value!r:.80}")
    return text


def _text_or_none(value: object) -> str | None:
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT:
        return None
    # JSON can carry lone surrogates; the journal stores UTF-8, which cannot.
    return None if any("\ud800" <= character <= "\udfff" for character in value) else value


def read_text(value: object) -> str | None:
    """An id: text of 1 to `MAX_TEXT` characters that UTF-8 can carry, or a whole number; None where it is none."""
    return _text_or_none(value)


def _listed(shape: object) -> object:
    return list(shape) if isinstance(shape, (list, tuple)) else shape
