"""A recording, replayed at its own pace."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from pathlib import Path

from inspector.codec import Pixels, decode_image
from inspector.errors import BadFrameError, NotConnectedError, SourceExhaustedError
from inspector.files import read_stamp, read_whole
from inspector.sources.base import Unanswering, build_frame
from inspector.sources.memory import NO_MEMORY, FileMemory
from inspector.sources.recording import INDEX, RecordedFrame, read_recording
from inspector.types import FileVersion, Frame, PixelFormat, TakenFile


class ReplaySource(Unanswering):
    """One camera fed from a recording, as its camera fed the station: a full buffer is not waited for.

    A frame is as old as it was when it was recorded. Each is marked `simulated`, since no part lies there. A call takes
    as long as the disk does: see `DetachedSource`.
    """

    can_wait = False
    connect_s = 5.0

    def __init__(self, camera: str, folder: Path, *, memory: FileMemory = NO_MEMORY) -> None:
        self.name = camera
        self.cameras: tuple[str, ...] = (camera,)
        self._folder = folder
        self._memory = memory
        self._waiting: deque[RecordedFrame] | None = None
        self._due = 0.0  # of the first of those that wait
        self._count = 0

    def connect(self) -> None:
        """Read the index; frames that are on record from before a restart are left out.

        Raises:
            NotConnectedError: there is none (a network drive away), or it is none of a recording.
        """
        if self._waiting is not None:
            return
        try:
            recorded = read_recording(self._folder)
        except (OSError, BadFrameError) as error:
            raise NotConnectedError(f"recording {self._folder}: {error}") from error
        taken = self._memory.find_versions(self.name)
        self._memory.forget(self.name, taken.keys() - {_name(entry) for entry in recorded})
        versions = ((entry, self._find_version(entry)) for entry in recorded)
        self._waiting = deque(
            entry for entry, version in versions if version is None or taken.get(_name(entry)) != version
        )
        self._due = time.monotonic()

    def read(self, timeout_s: float) -> Frame | None:
        if self._waiting is None:
            raise NotConnectedError(f"camera {self.name}: not connected")
        if not self._waiting:
            raise SourceExhaustedError(f"recording {self._folder}: all frames replayed, {self._count} in this run")
        time.sleep(min(max(0.0, self._due - time.monotonic()), timeout_s))
        if time.monotonic() < self._due:
            return None
        entry = self._waiting.popleft()
        if self._waiting:  # a clock that was set back while it was recorded holds nothing up
            self._due += max(0, self._waiting[0].received_utc_ns - entry.received_utc_ns) / 1e9
        self._count += 1
        return self._build_frame(entry)

    def _build_frame(self, entry: RecordedFrame) -> Frame:
        started, now_utc_ns = time.monotonic_ns(), time.time_ns()
        pixels, pixel_format, error = None, PixelFormat.RGB8, entry.error or "no pixels were recorded"
        version = self._find_version(entry)
        try:
            if entry.file is not None:
                (pixels, pixel_format), error = self._decode(entry.file), ""
        except (OSError, MemoryError, BadFrameError) as fault:
            error = f"{entry.file}: {fault}"
        age_ns = entry.received_utc_ns - entry.captured_utc_ns
        return build_frame(
            self.name,
            entry.frame_id,
            pixels,
            pixel_format,
            captured_utc_ns=now_utc_ns - age_ns if entry.captured_utc_ns else 0,
            part_id=entry.part_id,
            trigger_id=entry.trigger_id,
            simulated=True,
            error=error or None,
            files=() if version is None else (TakenFile(self.name, _name(entry), version),),
            encoder_value=entry.encoder_value,
            web=entry.web,
            received_utc_ns=now_utc_ns,
            received_monotonic_ns=started,
            decode_ms=(time.monotonic_ns() - started) / 1e6,
        )

    def _decode(self, name: str) -> tuple[Pixels, PixelFormat]:
        return decode_image(read_whole(self._folder / name))

    def _find_version(self, entry: RecordedFrame) -> FileVersion | None:
        if self._memory is NO_MEMORY:
            return None
        if entry.file is None:
            return FileVersion(0, entry.received_utc_ns)
        with contextlib.suppress(OSError):  # reading it will tell
            stamp = read_stamp(self._folder / entry.file)
            return FileVersion(stamp.size, stamp.modified_ns)
        return None

    def close(self) -> None:
        """Begin again where it stopped, when it is connected again: no file is held open."""


def _name(entry: RecordedFrame) -> str:
    """What it is remembered by; a frame that did not come whole has no file, and no file has such a name."""
    return entry.file or f"{INDEX} {entry.received_utc_ns} {entry.frame_id}"
