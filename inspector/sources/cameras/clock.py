"""Numbers and times that a camera gives its images, made the station's."""

from __future__ import annotations

from collections import deque

_WINDOW = 200
"""Images from which the two clocks' distance is taken."""
_SLOWEST = 5_000
"""A camera's clock may be slow against ours by one in this, 200 ppm, however rarely images come."""
_TAI_NS = 37_000_000_000
"""How far PTP's own time is ahead of UTC since 2017; masters that were told so send UTC."""
_FURTHEST_NS = 30_000_000_000
"""Images are held so long at most; less than TAI is ahead, so that the two are told apart."""
_LAST_16_BIT = 65_535
_MOST_MISSING = 10_000
"""A larger step, forward or back, is a camera that counts anew, or a number that is none."""


class DeviceClock:
    """Maps a camera's time to this machine's, by the quickest of its last images.

    The distance of the clocks is taken too large by the time that the quickest image needed to come, and by up to 400
    ppm of the time since: a time of capture is late by that, some milliseconds, or 24 for each minute without an image,
    17 s after a night. It is never later than the image came, and never too early. An image that was held on its way
    for longer than that shows it. A clock that was set forward makes its next image the quickest. One that was set
    back makes images look old until the last of before has left the window: that cannot be told from images that were
    held.
    """

    def __init__(self) -> None:
        self._distances: deque[int] = deque(maxlen=_WINDOW)

    def compute_age_ns(self, device_ns: int, now_ns: int) -> int:
        """How long ago it was taken; `now_ns` is when it came, on the monotonic clock."""
        distance = now_ns - device_ns - now_ns // _SLOWEST  # grows for no clock that drifts
        self._distances.append(distance)
        return distance - min(self._distances)


def choose_time_ns(ptp_ns: int, mapped_ns: int) -> int | None:
    """A capture in UTC by a camera's clock that PTP keeps, where it fits this machine's; None: it does not.

    `mapped_ns` is `DeviceClock`'s, which is late at most, by all that the quickest image was held. A time after it
    would make a frame younger than it is, and one far before it is of a master that has another time than this machine.
    """
    for ahead_ns in (0, _TAI_NS):
        if 0 <= mapped_ns - (ptp_ns - ahead_ns) <= _FURTHEST_NS:
            return ptp_ns - ahead_ns
    return None


class BlockCounter:
    """Finds images that a camera numbered and that never came."""

    def __init__(self) -> None:
        self._last: int | None = None

    def count_missing(self, block_id: int | None) -> int | None:
        """How many are missing before this one; None: not known, without a number, or with one that does not go on.

        Numbers of 16 bits wrap from 65535 to 1, those of 64 bits never. A gap of more than 10,000 is none.
        """
        last, self._last = self._last, block_id
        if block_id is None or last is None:
            return None if block_id is None else 0
        if block_id > last:
            return missing if (missing := block_id - last - 1) <= _MOST_MISSING else None
        wrapped = block_id - last - 1 + _LAST_16_BIT
        return wrapped if last <= _LAST_16_BIT and wrapped <= _MOST_MISSING else None


class ChunkCounter:
    """A count that comes with the images, of triggers or exposures: how far it runs ahead of the images' numbers."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None

    def is_at(self, value: int | None) -> bool:
        """Whether it had this value with the image before."""
        return self._last is not None and value == self._last[0]

    def count_ahead(self, value: int, images: int) -> int:
        """By how much more it rose since the last call than images were sent; 0 where it began anew.

        Args:
            value: the count with this image.
            images: how many the camera had sent with it, those that were lost on the way and damaged ones too.
        """
        last, self._last = self._last, (value, images)
        if last is None or value <= last[0]:
            return 0
        return max(0, (value - last[0]) - (images - last[1]))
