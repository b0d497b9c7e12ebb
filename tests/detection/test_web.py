"""Where on a web a region is, and which defect it is of: each once in a list by number, none left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from inspector.detection.decision import decide
from inspector.detection.web import WebDefects
from inspector.sources.base import build_frame
from inspector.sources.settings import LineScan
from inspector.sources.strips.assembler import LineAssembler
from inspector.types import Frame, PixelFormat, Reason, Region, Result, Verdict, Web

Say = Callable[..., Result]


@pytest.fixture
def say() -> Say:
    """A FAIL with regions in these boxes, of frame lines that begin there."""

    def make(seq: int, first: int, *boxes: tuple[int, int, int, int], run: int = 1, **details: Any) -> Result:
        web = Web(run, (first, first + 100), (first, first + 100), line_pitch_um=details.pop("line_pitch_um", None))
        return Result(
            station="press-3", boot_id="b", seq=seq, frame_id=f"f{seq}", part_id=None, trigger_id=None,
            verdict=Verdict.FAIL, reason=Reason.DEFECT, score=2.0, threshold=1.0, captured_utc_ns=0, received_utc_ns=0,
            published_utc_ns=0, deadline_ms=1, web=web, **{"camera": "top"} | details,
            regions=tuple(Region(box, 2.0, 4) for box in boxes),
        )  # fmt: skip

    return make


def numbers(result: Result) -> list[int | None]:
    return [region.defect for region in result.regions]


def test_region_is_told_in_lines_of_the_web_and_in_millimetres(say: Say) -> None:
    placed = WebDefects().place(say(7, 1000, (5, 10, 9, 30), line_pitch_um=50.0))
    assert placed.regions == (Region((5, 10, 9, 30), 2.0, 4, web_y=(1010, 1030), web_mm=(50.5, 51.5), defect=700),)
    assert WebDefects().place(say(7, 1000, (5, 10, 9, 30))).regions[0].web_mm is None


def test_defect_that_the_next_frame_shows_again_keeps_its_number(say: Say) -> None:
    defects = WebDefects()
    assert numbers(defects.place(say(1, 0, (50, 10, 60, 20), (5, 85, 9, 100)))) == [100, 101]
    # Seen whole only now: another box, which touches the first one's.
    assert numbers(defects.place(say(2, 80, (4, 4, 10, 40), (40, 5, 50, 9)))) == [101, 201]
    assert numbers(defects.place(say(3, 160, (5, 5, 9, 9)))) == [300]


def test_defect_longer_than_a_frame_has_one_number(say: Say) -> None:
    defects = WebDefects()
    found = [numbers(defects.place(say(seq, 100 * seq, (5, 0, 9, 100)))) for seq in range(1, 5)]
    assert found == [[100]] * 4


@pytest.mark.parametrize("change", [{"run": 2}, {"camera": "side"}], ids=str)
def test_defect_of_another_run_or_camera_has_a_number_of_its_own(say: Say, change: dict[str, Any]) -> None:
    defects = WebDefects()
    defects.place(say(1, 0, (5, 85, 9, 95)))
    assert numbers(defects.place(say(2, 80, (5, 5, 9, 15), **change))) == [200]


def test_defect_is_known_over_a_frame_without_one_where_frames_overlap_by_more_than_half(say: Say) -> None:
    defects = WebDefects()
    defects.place(say(1, 0, (5, 95, 9, 99)))
    assert defects.place(say(2, 40)).regions == ()
    assert numbers(defects.place(say(3, 80, (5, 15, 9, 19)))) == [100]


def test_defect_keeps_its_number_when_an_error_overtakes_the_frame_that_shows_it_again(say: Say) -> None:
    defects = WebDefects()
    defects.place(say(1, 0, (5, 85, 9, 95)))
    defects.place(say(2, 200, run=2))  # of a gap: nothing had to be judged
    assert numbers(defects.place(say(3, 80, (5, 5, 9, 15)))) == [100]


def test_result_of_no_web_is_left_as_it_is(say: Say) -> None:
    result = replace(say(1, 0, (5, 85, 9, 95)), web=None)
    assert WebDefects().place(result) is result


@pytest.mark.parametrize("height", [1, 5, 16])
def test_defect_anywhere_is_whole_in_a_frame_and_listed_once_when_it_is_no_higher_than_the_overlap(
    say: Say, height: int
) -> None:
    """Judged by brightness: the line's part of it is tried, not the network's."""
    for top in range(150 - height):
        web = np.zeros((150, 20), np.uint8)
        web[top : top + height, 5:9] = 200
        listed: dict[int | None, list[tuple[int, int] | None]] = {}
        defects = WebDefects()
        for seq, frame in enumerate(assemble(web, strip_lines=7), 1):
            assert frame.pixels is not None
            decision = decide(frame.pixels.astype(np.float32), 100.0)
            placed = defects.place(replace(say(seq, 0), web=frame.web, regions=decision.regions))
            for region in placed.regions:
                listed.setdefault(region.defect, []).append(region.web_y)
        (boxes,) = listed.values()
        assert (top, top + height) in boxes


def assemble(web: np.ndarray[Any, Any], strip_lines: int) -> list[Frame]:
    assembler = LineAssembler(LineScan(frame_lines=48, overlap_lines=16))
    frames = []
    for number, first in enumerate(range(0, len(web), strip_lines)):
        strip = build_frame("top", str(number), web[first : first + strip_lines], PixelFormat.MONO8)
        frames += assembler.add(strip)
    return frames + assembler.finish()
