"""What a running camera is asked each second: whether it is there, what triggers it missed, if PTP keeps its clock."""

from __future__ import annotations

import logging
import time

from inspector.errors import NotConnectedError
from inspector.sources.cameras.driver import Driver, find_feature, parse_number
from inspector.sources.cameras.settings import GenicamSettings
from inspector.sources.report import Ptp

logger = logging.getLogger(__name__)

_PERIOD_S = 1.0
_LATCHES = ("TimestampLatch", "GevTimestampControlLatch")
"""Commands without an effect that anyone sees, which no library answers from what it read before."""


class CameraWatch:
    """Asks for what the settings name, and of a camera that waits for triggers a sign of life. Used by its reader.

    Attributes:
        triggers_missed: while it was connected, since the source was built; None: no counter tells.
        ptp: as it was last; None: not asked for.
    """

    def __init__(self, camera: str, settings: GenicamSettings, driver: Driver) -> None:
        is_counted = settings.missed_trigger_counter is not None or "CounterValue" in settings.chunks
        self.triggers_missed: int | None = 0 if is_counted else None
        self.ptp: Ptp | None = None
        self._camera = camera
        self._counter = settings.missed_trigger_counter
        self._has_ptp = settings.ptp
        self._is_silent = settings.trigger in ("line", "request")  # until somebody triggers it
        self._sign: str | None = None
        self._driver = driver
        self._count: int | None = None
        self._due = 0.0

    def begin(self) -> None:
        """The camera was opened: from here on its counter is followed.

        Raises:
            NotConnectedError: it has not what is asked.
        """
        self._count = None
        if self._is_silent:
            self._sign = next((name for name in _LATCHES if self._can_execute(name)), None)
        if self._has_ptp:
            self._latch, self._offset = (
                find_feature(self._driver, name) for name in ("PtpDataSetLatch", "PtpOffsetFromMaster")
            )
            self._state = find_feature(self._driver, "PtpStatus")
            if self._state is None:
                raise NotConnectedError("PtpStatus: the camera has no such feature")
        if self._counter is not None and not self._driver.has_feature(self._counter):
            raise NotConnectedError(f"{self._counter}: the camera has no such feature")
        self._due = 0.0
        self.look_when_due()

    def look_when_due(self) -> None:
        """Ask, once in a second.

        Raises:
            NotConnectedError: it does not answer, or not with a number.
        """
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _PERIOD_S
        if self._sign is not None and not self._can_execute(self._sign):
            self._driver.read_feature("PixelFormat")  # it is there, and refuses, or this fails too
            self._sign = None
        if self._counter is not None:
            self._follow(self._counter)
        if self._has_ptp:
            self.ptp = self._read_ptp()

    def _can_execute(self, name: str) -> bool:
        if not self._driver.has_feature(name):
            return False
        try:
            self._driver.execute(name)
        except NotConnectedError as error:
            logger.info("camera %s: gives no sign of life: %s", self._camera, error)
            return False
        return True

    def _follow(self, counter: str) -> None:
        last, self._count = self._count, self._read_number(counter)
        if last is None:
            return
        new = self._count - last if self._count >= last else self._count  # below: it began anew
        self.note_missed(new)

    def note_missed(self, new: int) -> None:
        """So many more triggers were missed."""
        if new:
            self.triggers_missed = (self.triggers_missed or 0) + new
            logger.warning("camera %s: %d trigger(s) missed, says its counter", self._camera, new)

    def _read_ptp(self) -> Ptp:
        if self._latch is not None:  # else some go on showing what was true when it was last latched
            self._driver.execute(self._latch)
        offset_ns = None if self._offset is None else self._read_number(self._offset)
        return Ptp(self._driver.read_feature(self._state or ""), offset_ns)

    def _read_number(self, name: str) -> int:
        text = self._driver.read_feature(name)
        try:
            return int(parse_number(text))
        except ValueError:
            raise NotConnectedError(f"{name}: must be a number, the camera has {text}") from None
