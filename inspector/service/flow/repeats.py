"""Whether a frame is, byte for byte, its camera's last one: two exposures never are, so the camera hangs."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from inspector.types import Frame

_WORDS = 4096
"""Of 8 bytes, that are added up: sums are several times as fast as a hash, and one changed pixel changes its sum."""


class Repeats:
    """Remembers each camera's last frame, whatever became of it. Used by one thread."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[bytes, tuple[Any, ...]]] = {}

    def note(self, frame: Frame) -> bool:
        """Whether its pixels are those of the camera's last frame.

        One with the last one's ids and time of capture too is that frame, sent again: it is none. Without a time
        nothing tells that from a sender that gives each frame the same name. Simulated frames may come again: they let
        no part through.
        """
        if frame.pixels is None or frame.simulated:
            return False
        if frame.has_repeats:
            return True
        ids = (frame.frame_id, frame.part_id, frame.trigger_id, frame.captured_utc_ns)
        digest = compute_digest(frame.pixels)
        last, self._last[frame.camera] = self._last.get(frame.camera), (digest, ids)
        return last is not None and last[0] == digest and (last[1] != ids or not frame.captured_utc_ns)


def compute_digest(pixels: np.ndarray[Any, Any]) -> bytes:
    """Of shape, type and all bytes: a fraction of a millisecond for 5 megapixels."""
    content = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    whole = content.size // (8 * _WORDS) * (8 * _WORDS)
    sums = content[:whole].view(np.uint64).reshape(-1, _WORDS).sum(axis=1)
    digest = hashlib.blake2b(repr((pixels.shape, pixels.dtype.str)).encode(), digest_size=16)
    digest.update(sums.tobytes())
    digest.update(content[whole:].tobytes())
    return digest.digest()
