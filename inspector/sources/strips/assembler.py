"""From strips of a line-scan camera to frames that overlap. No clock, no threads: strips in, frames out."""

from __future__ import annotations

import dataclasses
import re
import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from inspector.codec import Pixels
from inspector.sources.base import RUN
from inspector.sources.settings import LineScan
from inspector.types import Frame, Reason, TakenFile, Web

MAX_FRAME_BYTES = 1024**3
"""Of a frame that is put together: a header that claims a very wide strip must not take all memory."""
_NUMBER = re.compile(r"(\d+)(\.[A-Za-z]\w*)?$")
"""At the end of a strip's id, or before the suffix of its file."""
_WRAP = 2**32
"""Encoder counters of 32 bits begin again; only differences are looked at."""


class _Lines(NamedTuple):
    """What is still to be known of lines that were copied into a frame; of `end`, exclusive."""

    first: int
    end: int
    encoder_value: int | None
    received_monotonic_ns: int
    is_simulated: bool
    is_repeat: bool
    files: tuple[TakenFile, ...]


class LineAssembler:
    """Puts the strips of one camera together. Each line is copied once, and once more where frames overlap.

    Each frame begins `overlap_lines` before the end of the one before. Where the web ends early, the last frame is its
    last `frame_lines` lines: it overlaps more. Frames are not written to once they are handed over.
    """

    def __init__(self, settings: LineScan) -> None:
        self._settings = settings
        self._run = 1
        self._end = 0  # lines so far
        self._told = 0  # lines that a frame or an error has had
        self._strip: Frame | None = None  # the last one of the run
        self._part_id: str | None = None  # whose lines are counted
        self._number: int | None = None  # of the strip that came last, put together or not
        self._frame: Pixels | None = None  # being filled
        self._filled = 0
        self._former: Pixels | None = None
        self._lines: deque[_Lines] = deque()

    @property
    def has_rest(self) -> bool:
        """Whether lines wait for a frame to be full."""
        return self._end > self._told

    @property
    def is_under_way(self) -> bool:
        """Whether the next strip should go on where the last one ended."""
        return self._strip is not None

    def add(self, strip: Frame, lost: int = 0) -> list[Frame]:
        """The frames that are full with this strip, and errors for lines that cannot be judged.

        Args:
            strip: pixels (H, W) or (H, W, 3) of any H, as in `Frame`; one that was put together before is handed on.
            lost: how many strips before it the source knows to be lost.
        """
        if strip.web is not None:
            return [strip]
        frames = self._end_part(strip, lost) if strip.part_id != self._part_id else []
        frames += self._place(strip, lost)
        self._number = _read_number(strip)
        return frames

    def finish(self, reason: Reason = Reason.LINES_MISSING) -> list[Frame]:
        """The web ends, or stands still: a frame of its last lines, or an error for the lines of a web too short."""
        if self._strip is None or not self.has_rest:
            return []
        if self._former is None:
            count = f"{self._end - self._told} of {self._settings.frame_lines} lines"
            return [self.break_off(f"the web ended, stopped or was stopped after {count}", reason)]
        reach = self._settings.frame_lines - self._filled  # lines of the former frame that are needed
        own = self._former[: self._settings.frame_lines - self._settings.overlap_lines]
        assert self._frame is not None  # noqa: S101 (there is a rest)
        pixels = np.concatenate([own[-reach:], self._frame[: self._filled]])
        last = dataclasses.replace(self._strip, received_monotonic_ns=time.monotonic_ns(), decode_ms=0.0)
        return [self._hand_over(pixels, last)]

    def break_off(self, why: str, reason: Reason = Reason.LINES_MISSING) -> Frame:
        """End the run without a strip: an error for the lines that wait, and for those that may be lost."""
        assert self._strip is not None  # noqa: S101 (it is under way)
        return self._break_off(None, why, reason)

    # ------------------------------------------------------------ a strip

    def _end_part(self, strip: Frame, lost: int) -> list[Frame]:
        """What is owed of the part before. Strips lost at the change may be of either: both have an error then."""
        why = self._find_gap(strip, lost)
        frames = [] if self._strip is None else [self.break_off(why)] if why else self.finish()
        if self.is_under_way:
            self._begin()
        self._end, self._told, self._part_id = 0, 0, strip.part_id
        if why:
            unseen = dataclasses.replace(strip, pixels=None, files=())
            frames.append(self._break_off(unseen, f"{why}: its first lines may be lost", Reason.LINES_MISSING))
        return frames

    def _place(self, strip: Frame, lost: int) -> list[Frame]:
        if strip.pixels is None:
            return [self._break_off(strip, strip.error or "no pixels", strip.error_reason)]
        if self._strip is not None and _is_sent_again(strip, self._strip):
            return []
        if fault := self._find_fault(strip):
            return [self._break_off(strip, fault, Reason.BAD_FRAME)]
        frames = [] if self._strip is None else self._compare(strip, self._strip, lost)
        return frames + self._copy(strip)

    def _find_fault(self, strip: Frame) -> str | None:
        """What keeps it from being put together, whatever came before it."""
        assert strip.pixels is not None  # noqa: S101 (`add`)
        size = self._settings.frame_lines * strip.pixels[0].nbytes
        if size > MAX_FRAME_BYTES:
            return f"strip of width {strip.pixels.shape[1]}: a frame of it must be at most {MAX_FRAME_BYTES} bytes"
        if self._settings.numbered and _read_number(strip) is None:
            return f"frame_id: must end in a number, which tells lost strips (line_scan.numbered), got {strip.frame_id}"
        if self._settings.encoder_divider is not None and strip.encoder_value is None:
            return "encoder_value: required, since line_scan.encoder_divider is set; got none"
        return None

    def _compare(self, strip: Frame, before: Frame, lost: int) -> list[Frame]:
        """What is owed before the strip can be put in: it does not go on where the last one ended."""
        here, there = _describe(strip), _describe(before)
        other = None if here == there else f"a strip has lines of {here}, the one before {there}"
        why = other or self._find_gap(strip, lost)
        return [self._break_off(None, why, Reason.LINES_MISSING, self._count_skipped(strip, before))] if why else []

    def _find_gap(self, strip: Frame, lost: int) -> str | None:
        """Whether strips may be missing between the one that came last and this one, damaged or not."""
        if lost:
            return f"{lost} strip(s) before {strip.frame_id} were lost or damaged"
        if self._settings.numbered and self._number is not None and _read_number(strip) != self._number + 1:
            return f"strip {self._number + 1} must come after strip {self._number}, got {strip.frame_id}"
        before, divider = self._strip, self._settings.encoder_divider
        if before is None or before.pixels is None or divider is None:
            return None
        moved, expected = _count_moved(strip, before), len(before.pixels) * divider
        fits = abs(moved - expected) < abs(divider)
        return (
            None if fits else f"encoder: must be {expected:g} counts on after {len(before.pixels)} lines, got {moved}"
        )

    def _count_skipped(self, strip: Frame, before: Frame) -> int:
        """Lines that never came, as far as the encoder tells."""
        assert before.pixels is not None  # noqa: S101 (`add`)
        if self._settings.encoder_divider is None:
            return 0
        return max(0, round(_count_moved(strip, before) / self._settings.encoder_divider) - len(before.pixels))

    def _copy(self, strip: Frame) -> list[Frame]:
        rows = strip.pixels
        assert rows is not None  # noqa: S101 (`add`)
        self._note(strip, len(rows))
        frames = []
        while len(rows):
            frame = self._open(rows)
            count = min(len(rows), len(frame) - self._filled)
            frame[self._filled : self._filled + count], rows = rows[:count], rows[count:]
            self._filled += count
            self._end += count
            if self._filled == len(frame):
                frames.append(self._hand_over(frame, strip))
        return frames

    def _note(self, strip: Frame, count: int) -> None:
        is_repeat = self._strip is not None and _is_repeat(strip, self._strip)
        end, received = self._end + count, strip.received_monotonic_ns
        self._lines.append(
            _Lines(self._end, end, strip.encoder_value, received, strip.simulated, is_repeat, strip.files)
        )
        self._strip = strip

    def _open(self, rows: Pixels) -> Pixels:
        """The frame that is being filled; a new one begins with the end of the former."""
        if self._frame is None:
            self._frame = np.empty((self._settings.frame_lines, *rows.shape[1:]), rows.dtype)
            self._filled = 0
            if self._former is not None and (overlap := self._settings.overlap_lines):
                self._frame[:overlap] = self._former[-overlap:]
                self._filled = overlap
        return self._frame

    # ------------------------------------------------------------ a frame

    def _hand_over(self, pixels: Pixels, last: Frame) -> Frame:
        """A full frame, whose last line is the newest; `last`: the strip that it is of."""
        begin, told = self._end - len(pixels), self._told
        shown = [lines for lines in self._lines if lines.end > begin]
        frame = dataclasses.replace(
            last,
            pixels=pixels,
            web=self._build_web(begin, self._end, (told, self._end)),
            began_monotonic_ns=min(lines.received_monotonic_ns for lines in shown),
            simulated=any(lines.is_simulated for lines in shown),
            has_repeats=any(lines.is_repeat for lines in shown),
            **self._build_names(begin),
        )
        self._frame, self._former = None, pixels
        return frame

    def _break_off(self, strip: Frame | None, why: str, reason: Reason, skipped: int = 0) -> Frame:
        """An error for lines that wait, `skipped` ones that never came and those of `strip`; another run comes next."""
        self._end += skipped + (0 if strip is None or strip.pixels is None else len(strip.pixels))
        told, last = self._told, strip or self._strip
        assert last is not None  # noqa: S101 (a strip, or the one before)
        web = self._build_web(told, self._end, (told, self._end))
        names = self._build_names(told)
        frame = dataclasses.replace(
            last,
            pixels=None,
            web=web,
            error=f"{why}; lines {told} to {self._end} of the web are not judged",
            error_reason=reason,
            received_monotonic_ns=last.received_monotonic_ns if strip else time.monotonic_ns(),
            **names | {"files": names["files"] + (strip.files if strip else ())},
        )
        self._begin()
        return frame

    def _build_web(self, begin: int, end: int, owned: tuple[int, int]) -> Web:
        encoder_value = self._find_encoder_value(begin)
        return Web(self._run, (begin, end), owned, encoder_value, self._settings.line_pitch_um)

    def _find_encoder_value(self, line: int) -> int | None:
        for lines in self._lines:
            if lines.first <= line < lines.end and lines.encoder_value is not None:
                return lines.encoder_value + round((line - lines.first) * (self._settings.encoder_divider or 0))
        return None

    def _build_names(self, begin: int) -> dict[str, Any]:
        """What a frame has of its own; from here on its lines are told, and their files on record."""
        files = [file for lines in self._lines if self._told < lines.end <= self._end for file in lines.files]
        self._told = self._end
        while self._lines and self._lines[0].end <= self._end - self._settings.frame_lines:
            self._lines.popleft()
        return {
            "frame_id": f"lines-{RUN}-{self._run}-{begin}",
            "trigger_id": None,
            "encoder_value": None,
            "files": tuple(files),
        }

    def _begin(self) -> None:
        """Another run, in whose first frame nothing of this one is."""
        self._run += 1
        self._strip = self._frame = self._former = None
        self._filled = 0
        self._lines.clear()


def _read_number(strip: Frame) -> int | None:
    found = _NUMBER.search(strip.frame_id)
    return int(found[1]) if found and found[1].isascii() else None


def _count_moved(strip: Frame, before: Frame) -> int:
    """Encoder counts from the first line of one strip to that of the next; 0 where one does not say."""
    if strip.encoder_value is None or before.encoder_value is None:
        return 0
    return (strip.encoder_value - before.encoder_value + _WRAP // 2) % _WRAP - _WRAP // 2


def _describe(strip: Frame) -> str:
    assert strip.pixels is not None  # noqa: S101 (`add`)
    return f"{strip.pixels.shape[1]} pixels {strip.pixel_format.value}"


def _is_sent_again(strip: Frame, before: Frame) -> bool:
    """Whether it is the last strip once more: its sender was not told that it had come."""
    ids = [(each.frame_id, each.part_id, each.captured_utc_ns, each.encoder_value) for each in (strip, before)]
    return ids[0] == ids[1] and strip.captured_utc_ns > 0 and _has_same_pixels(strip, before)


def _is_repeat(strip: Frame, before: Frame) -> bool:
    """Whether a camera that hangs may have sent it. Lines of one single value show nothing and may well be equal."""
    assert strip.pixels is not None  # noqa: S101 (`add`)
    return _has_same_pixels(strip, before) and strip.pixels.min() != strip.pixels.max()


def _has_same_pixels(strip: Frame, before: Frame) -> bool:
    assert strip.pixels is not None and before.pixels is not None  # noqa: S101, PT018 (`add`)
    return np.array_equal(strip.pixels, before.pixels)
