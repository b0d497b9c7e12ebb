"""Hostile headers: each is answered or refused; none may escape as another error and end the ingest thread."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inspector.config import Camera
from inspector.errors import UnidentifiedFrameError
from inspector.sources.wire import FrameDecoder

DECODER = FrameDecoder({"top": Camera()}, max_bytes=1000)
HEADER: dict[str, Any] = {"camera": "top", "frame_id": "x", "encoding": "raw", "dtype": "uint8", "shape": [2, 2, 3]}
STRANGE: list[Any] = [[], {}, None, 10**30, -1, 1.5, True, "", "\ud800", "x" * 300]


@pytest.mark.parametrize("value", STRANGE, ids=repr)
@pytest.mark.parametrize("key", ["frame_id", "part_id", "trigger_id", "encoding", "dtype", "shape", "pixel_format"])
def test_strange_header_value_is_answered_or_harmless(key: str, value: Any) -> None:
    frame = DECODER.decode([json.dumps(HEADER | {key: value}).encode(), bytes(12)])
    assert (frame.pixels is None) == (frame.error is not None)
    for text in (frame.frame_id, frame.part_id, frame.trigger_id):
        (text or "").encode()  # what the journal stores must be UTF-8
    if key in {"encoding", "dtype", "shape"}:
        assert frame.error is not None
        assert key in frame.error or "shape" in frame.error


@pytest.mark.parametrize("value", STRANGE, ids=repr)
@pytest.mark.parametrize("key", ["camera", "msg"])
def test_strange_name_is_refused_as_unidentified(key: str, value: Any) -> None:
    with pytest.raises(UnidentifiedFrameError):
        DECODER.decode([json.dumps({key: value}).encode(), b""])


@pytest.mark.parametrize("named", ["Mono8", "Mono16"])
def test_three_channels_called_mono_are_bad_never_judged(named: str) -> None:
    frame = DECODER.decode([json.dumps(HEADER | {"pixel_format": named}).encode(), bytes(12)])
    assert frame.pixels is None
    assert "pixel_format: must be RGB8 or BGR8" in (frame.error or "")


def test_image_is_refused_unread_when_it_is_not_what_its_header_says() -> None:
    for encoding, start in (("png", b"II*\0"), ("jpeg", b"\x89PNG"), ("png", b"\xff\xd8\xff\xe0")):
        frame = DECODER.decode([json.dumps(HEADER | {"encoding": encoding}).encode(), start + bytes(100)])
        assert (frame.error or "").startswith(f"pixels: must be {encoding} as their header says, start with {start!r}")


def test_bad_frame_keeps_what_the_line_knows_it_by() -> None:
    decoder = FrameDecoder({"top": Camera(simulated=True)}, max_bytes=1000)
    header = HEADER | {"part_id": "p1", "trigger_id": "t1", "encoding": "gif"}
    frame = decoder.decode([json.dumps(header).encode(), bytes(12)])
    assert (frame.frame_id, frame.part_id, frame.trigger_id, frame.simulated) == ("x", "p1", "t1", True)
    assert frame.error is not None
