"""A frame that is, byte for byte, its camera's last one is told from one that is sent again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inspector.service.flow.repeats import Repeats, compute_digest
from inspector.sources.base import build_frame
from inspector.types import Frame, PixelFormat

NOISE = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)


def frame_of(frame_id: str, camera: str = "top", pixels: Any = NOISE, **details: Any) -> Frame:
    return build_frame(camera, frame_id, pixels, PixelFormat.RGB8, **details)


def test_frame_is_a_repeat_when_its_bytes_are_those_of_its_cameras_last_one() -> None:
    repeats = Repeats()
    assert [repeats.note(frame_of(name)) for name in "abc"] == [False, True, True]
    assert not repeats.note(frame_of("d", "side"))
    assert not repeats.note(frame_of("e", pixels=NOISE[::-1]))
    assert not repeats.note(frame_of("f"))


def test_frame_that_is_sent_again_with_its_ids_is_no_repeat() -> None:
    repeats = Repeats()
    ids = {"part_id": "p", "trigger_id": "t", "captured_utc_ns": 7}
    assert [repeats.note(frame_of("a", **ids)) for _ in range(2)] == [False, False]
    assert repeats.note(frame_of("a", part_id="p", trigger_id="t"))
    assert repeats.note(frame_of("a", part_id="p", trigger_id="t"))  # one name for each frame, and no time
    assert repeats.note(frame_of("a", **ids))
    for changed in ({"part_id": "q"}, {"trigger_id": "u"}, {"captured_utc_ns": 8}):
        assert repeats.note(frame_of("a", **ids | changed))


def test_frame_with_lines_that_came_twice_is_a_repeat_whatever_came_before() -> None:
    assert Repeats().note(frame_of("a", has_repeats=True))
    assert not Repeats().note(frame_of("a", has_repeats=True, simulated=True))


def test_simulated_frames_and_those_without_pixels_are_not_looked_at() -> None:
    repeats = Repeats()
    assert [repeats.note(frame_of(name, simulated=True)) for name in "ab"] == [False, False]
    assert [repeats.note(frame_of(name, pixels=None, error="torn")) for name in "cd"] == [False, False]


@pytest.mark.parametrize("place", [0, 12_345, 163_839, 163_840, 179_999])
def test_any_byte_changes_the_digest(place: int) -> None:
    changed = NOISE.copy()
    changed.reshape(-1)[place] ^= 1
    assert compute_digest(changed) != compute_digest(NOISE)


def test_digest_is_of_shape_and_type_too_and_of_any_memory() -> None:
    flat = np.zeros((4, 6), np.uint8)
    assert compute_digest(flat) != compute_digest(flat.reshape(6, 4))
    assert compute_digest(flat) != compute_digest(np.zeros((4, 3), np.uint16))
    assert compute_digest(NOISE[:, ::2]) == compute_digest(NOISE[:, ::2].copy())
    odd = np.frombuffer(b"x" + NOISE.tobytes(), np.uint8)[1:].reshape(NOISE.shape)  # as ZeroMQ may hand it over
    assert compute_digest(odd) == compute_digest(NOISE)
