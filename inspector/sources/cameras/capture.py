"""The child process of `OpencvSource`: reads frames through OpenCV, and says which of them are damaged."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import time
from pathlib import Path

import cv2

from inspector.sources.cameras.handover import Outbox

_FFMPEG_OPTIONS = "rtsp_flags;prefer_tcp|reorder_queue_size;2|allowed_media_types;video|fflags;discardcorrupt"
"""OpenCV's default, and: tell of packets that were lost over TCP too, for a camera may leave some out; drop what was
cut short. The decoder would fill the rest with pixels of the frame before. What sound loses is no picture's loss."""
_LEVEL = "40"
"""FFmpeg's AV_LOG_VERBOSE: it conceals damage at 32, and tells a new size at 40."""
_LINE = re.compile(r"\[OPENCV:FFMPEG:(\d+)\] (.*)")
_FAULT = 16
"""FFmpeg's AV_LOG_ERROR: each line of it, or of a worse one, is taken for damage."""
_WORTH = 32
"""FFmpeg's AV_LOG_INFO: lines down to it are taken for damage if they sound like it; below, it says what it skips."""
_DAMAGE = re.compile(
    "conceal|corrupt|damag|miss|lost|drop|discard|skip|incomplete|trunc|partial|overread|jitter|delay reached|error"
    "|bad |broken|unavailable|undecodable",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    "^SEI |referenced in buffering period|unable to decode APP fields|app: invalid len|EXIF|Unsupported .*NAL type"
    "|Undefined type",
    re.IGNORECASE,
)
"""Notes that lie beside the picture, which some cameras cut short or make up."""
_LOSS = re.compile("missed [0-9]+ packets|corrupt|jitter buffer full|received too late", re.IGNORECASE)
"""Of a stream, while it is opened: its first pictures lack what was lost, and nothing says so again."""
_NEW_SIZE = re.compile(r"Reinit context to (\d+x\d+)")
_SHOWN = 3
"""Lines of damage that an error shows at most."""
_LAG = 16
"""Frames that a decoder holds back at most, to bring them in order (H.264 and H.265: the size of their buffer)."""
_INTRA = "MJP"
"""Motion JPEG: each picture is whole by itself, and none is held back."""


class FfmpegLog:
    """What FFmpeg writes, which is all that it tells of damage through OpenCV. Takes this process's standard output."""

    def __init__(self) -> None:
        self._file = os.memfd_create("ffmpeg-log")
        os.dup2(self._file, 1)
        self._c = ctypes.CDLL(None)

    def take(self) -> list[tuple[int, str]]:
        """Level and text of each line since the last call."""
        self._c.fflush(None)  # OpenCV prints them
        size = os.lseek(self._file, 0, os.SEEK_CUR)
        text = os.pread(self._file, size, 0).decode(errors="replace")
        os.lseek(self._file, 0, os.SEEK_SET)
        os.ftruncate(self._file, 0)
        return [(int(level), line.strip()) for level, line in _LINE.findall(text)]


class DamageWatch:
    """Which frames of one connection are damaged, or were decoded with pixels of one that is.

    A decoder paints over what is missing with what was there before: a defect may vanish. After a line that tells of
    damage no frame is whole before the next key frame that was decoded after it.
    """

    def __init__(self, fourcc: str) -> None:
        self._lag = 0 if fourcc.upper().startswith(_INTRA) else _LAG
        self._why = "no key frame came yet"
        self._held = 0
        self._size: str | None = None
        self.is_resized = False

    def note(self, lines: list[tuple[int, str]], frame_type: str) -> str | None:
        """Why the frame that was just read is damaged; None: it is whole.

        `lines` are those logged while it was read, `frame_type` is I for a key frame.
        """
        for _, line in lines:
            if found := _NEW_SIZE.match(line):
                self.is_resized |= self._size not in {None, found[1]}
                self._size = found[1]
        if damage := _find_damage(lines):
            self._why, self._held = damage, self._lag
        elif self._held:
            self._held -= 1
        elif frame_type == "I":
            self._why = ""
        return self._why or None


def _find_damage(lines: list[tuple[int, str]]) -> str:
    told = [text for level, text in lines if level <= _FAULT or (level <= _WORTH and _DAMAGE.search(text))]
    return "; ".join([text for text in told if not _HARMLESS.search(text)][:_SHOWN])


def capture_frames(
    far_end: socket.socket, device: int | str, open_timeout_ms: int, read_timeout_ms: int, read_before: int
) -> None:
    """Open, then send each frame until the socket closes or the device ends.

    Of a file, the first `read_before` frames are passed over: those are judged.
    """
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        outbox, log = Outbox(far_end), FfmpegLog()
        capture = open_capture(device, open_timeout_ms, read_timeout_ms)
        lines = log.take()
        if not capture.isOpened():
            outbox.send(event="end", why=_find_damage(lines))
            return
        is_file = isinstance(device, str) and Path(device).is_file()
        if not is_file and (lost := [text for _, text in lines if _LOSS.search(text)]):
            outbox.send(event="end", why="; ".join(lost[:_SHOWN]))
            return
        outbox.send(event="open", is_file=is_file)
        outbox.send(event="end", why=_send_frames(outbox, log, capture, read_before if is_file else 0))


def open_capture(device: int | str, open_timeout_ms: int, read_timeout_ms: int) -> cv2.VideoCapture:
    """A number is a device of the system's; else FFmpeg reads it, in frames as they are stored."""
    if isinstance(device, int):
        return cv2.VideoCapture(device)
    # Of the whole process: the child's own.
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", _FFMPEG_OPTIONS)
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = _LEVEL
    # All these only work when given in the open call. With more threads, damage is told of before its frame comes.
    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_timeout_ms]
    capture = cv2.VideoCapture(device, cv2.CAP_FFMPEG, [*options, cv2.CAP_PROP_N_THREADS, 1])
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # not among what the open call takes
    return capture


def _send_frames(outbox: Outbox, log: FfmpegLog, capture: cv2.VideoCapture, read_before: int) -> str:
    """Why there are no more."""
    turned = max(0, int(capture.get(cv2.CAP_PROP_ORIENTATION_META)))  # below 0: this backend does not know
    watch = _build_watch(capture)
    while capture.grab():
        captured_utc_ns = time.time_ns()
        frame_type = chr(max(0, int(capture.get(cv2.CAP_PROP_FRAME_TYPE))))
        damage = None if watch is None else watch.note(log.take(), frame_type)
        if watch is not None and watch.is_resized:
            return "the size of its frames changed"
        if read_before:
            read_before -= 1
            outbox.send(event="passed")
            continue
        good, image = capture.retrieve(outbox.get_place())
        if not good:
            break
        outbox.hand_over(image, turned=turned, captured_utc_ns=captured_utc_ns, damage=damage)
    return _find_damage(log.take())


def _build_watch(capture: cv2.VideoCapture) -> DamageWatch | None:
    if capture.getBackendName() != "FFMPEG":
        return None
    return DamageWatch(int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True).decode("latin-1"))
