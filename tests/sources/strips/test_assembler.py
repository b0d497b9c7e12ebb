"""Strips become frames: no line is missed, none is judged twice as its own, and nothing is put together over a gap."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector.sources.base import RUN, build_frame
from inspector.sources.settings import LineScan
from inspector.sources.strips.assembler import MAX_FRAME_BYTES, LineAssembler
from inspector.types import FileVersion, Frame, PixelFormat, Reason, TakenFile, Web

WIDTH = 3


def make_assembler(frame_lines: int = 8, overlap_lines: int = 2, **options: Any) -> LineAssembler:
    return LineAssembler(LineScan(frame_lines=frame_lines, overlap_lines=overlap_lines, **options))


def make_strip(number: int, first: int, count: int, **details: Any) -> Frame:
    """Lines `first` to `first + count`, whose pixels say which lines they are."""
    details.setdefault("captured_utc_ns", 1_000 + number)
    return build_frame("top", f"s-{number}", paint(first, first + count), PixelFormat.MONO16, **details)


def paint(begin: int, end: int) -> np.ndarray[Any, Any]:
    lines = np.repeat(np.arange(begin, end, dtype=np.uint16)[:, None], WIDTH, axis=1)
    lines[:, -1] = 65_535 - lines[:, -1]
    return lines


def cut(counts: list[int]) -> list[Frame]:
    """One web, cut into strips of these heights."""
    begins = itertools.accumulate(counts, initial=0)
    return [make_strip(number, first, count) for number, (first, count) in enumerate(zip(begins, counts, strict=False))]


def get_web(frame: Frame) -> Web:
    assert frame.web is not None
    return frame.web


def get_error(frame: Frame) -> str:
    assert frame.error is not None
    assert frame.pixels is None
    return frame.error


def test_frame_begins_overlap_lines_before_the_end_of_the_one_before() -> None:
    assembler = make_assembler(8, 2)
    frames = [frame for strip in cut([5, 5, 5, 5]) for frame in assembler.add(strip)]
    assert [get_web(frame).y for frame in frames] == [(0, 8), (6, 14), (12, 20)]
    assert [get_web(frame).owned for frame in frames] == [(0, 8), (8, 14), (14, 20)]
    assert [frame.frame_id for frame in frames] == [f"lines-{RUN}-1-{line}" for line in (0, 6, 12)]
    for frame in frames:
        np.testing.assert_array_equal(frame.pixels, paint(*get_web(frame).y))
    assert not assembler.has_rest


def test_one_strip_fills_several_frames_when_it_is_higher() -> None:
    frames = make_assembler(4, 1).add(make_strip(0, 0, 11))
    assert [get_web(frame).y for frame in frames] == [(0, 4), (3, 7), (6, 10)]


def test_frame_has_the_times_of_its_last_strip_and_says_when_its_first_one_came() -> None:
    assembler = make_assembler(4, 0)
    assembler.add(make_strip(0, 0, 2, captured_utc_ns=5, received_utc_ns=50, received_monotonic_ns=500, part_id="coil"))
    (frame,) = assembler.add(
        make_strip(1, 2, 2, captured_utc_ns=6, received_utc_ns=60, received_monotonic_ns=600, part_id="coil")
    )
    assert (frame.captured_utc_ns, frame.received_utc_ns, frame.received_monotonic_ns) == (6, 60, 600)
    assert (frame.began_monotonic_ns, frame.part_id, frame.trigger_id) == (500, "coil", None)


def test_frames_are_never_written_to_once_they_are_handed_over() -> None:
    assembler = make_assembler(4, 3)
    pairs = [(frame.pixels, paint(*get_web(frame).y)) for strip in cut([1] * 20) for frame in assembler.add(strip)]
    assert len(pairs) == 17
    for pixels, expected in pairs:
        np.testing.assert_array_equal(pixels, expected)


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    frame_lines=st.integers(1, 30),
    seed=st.integers(0, 2**32),
)
def test_every_line_and_every_window_of_overlap_lines_is_in_a_frame_when_strips_are_of_any_height(
    counts: list[int], frame_lines: int, seed: int
) -> None:
    chance = random.Random(seed)
    overlap = chance.randrange(frame_lines)
    size = max(1, overlap)
    assembler = make_assembler(frame_lines, overlap)
    frames = []
    for strip in cut(counts):
        frames += assembler.add(strip)
        if chance.random() < 0.2:  # the web stands still
            frames += assembler.finish()
    frames += assembler.finish()
    total = sum(counts)
    owned = [get_web(frame).owned for frame in frames]
    runs = {get_web(frame).run for frame in frames}
    assert [begin for begin, _ in owned] == [0, *(end for _, end in owned[:-1])]  # each line once, none left out
    assert owned[-1][1] == total
    judged = [frame for frame in frames if frame.pixels is not None]
    for frame in judged:
        assert frame.pixels is not None
        assert len(frame.pixels) == frame_lines
        np.testing.assert_array_equal(frame.pixels, paint(*get_web(frame).y))
        begin, end = get_web(frame).owned
        assert get_web(frame).y[0] <= begin < end == get_web(frame).y[1]
    for run in runs:
        whole = [get_web(frame).y for frame in judged if get_web(frame).run == run]
        begin, end = min((y[0] for y in whole), default=0), max((y[1] for y in whole), default=0)
        for top in range(begin, end - size + 1):
            assert any(y[0] <= top and top + size <= y[1] for y in whole), top
    short = [frame for frame in frames if frame.pixels is None]
    assert all(get_web(frame).y[1] - get_web(frame).y[0] < frame_lines for frame in short)
    assert len({frame.frame_id for frame in frames}) == len(frames)


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    lost=st.sets(st.integers(0, 29), max_size=6),
    frame_lines=st.integers(1, 20),
    overlap=st.integers(0, 19),
    tells=st.sampled_from(["number", "encoder", "source"]),
)
def test_no_frame_is_put_together_over_a_gap_whatever_tells_it(
    counts: list[int], lost: set[int], frame_lines: int, overlap: int, tells: str
) -> None:
    divider = 4.0 if tells == "encoder" else None
    options: dict[str, Any] = {"numbered": tells != "encoder", "encoder_divider": divider}
    assembler = make_assembler(frame_lines, overlap % frame_lines, **options)
    frames, missing, gaps, sent = [], 0, 0, 0
    for number, strip in enumerate(cut(counts)):
        if number in lost:
            missing += 1
            continue
        assert strip.pixels is not None
        line = int(strip.pixels[0, 0])
        gaps += missing > 0 and sent > 0
        name = strip.frame_id if tells == "number" else f"s-{sent}"
        made = build_frame("top", name, strip.pixels, strip.pixel_format, encoder_value=line * 4, captured_utc_ns=1)
        frames += assembler.add(made, missing if tells == "source" else 0)
        missing, sent = 0, sent + 1
    frames += assembler.finish()
    for frame in frames:
        if frame.pixels is not None:
            first = int(frame.pixels[0, 0])
            np.testing.assert_array_equal(frame.pixels, paint(first, first + frame_lines))
    told = [
        frame
        for frame in frames
        if frame.error_reason is Reason.LINES_MISSING and "the web ended" not in str(frame.error)
    ]
    assert len([frame for frame in told if frame.pixels is None]) == gaps


def test_lines_before_a_gap_are_an_error_and_the_next_run_begins_anew() -> None:
    assembler = make_assembler(8, 2)
    first = assembler.add(make_strip(7, 0, 10))
    (error,) = assembler.add(make_strip(9, 20, 5))
    (frame,) = assembler.add(make_strip(10, 25, 3))
    assert [get_web(each).y for each in first] == [(0, 8)]
    assert get_error(error) == "strip 8 must come after strip 7, got s-9; lines 8 to 10 of the web are not judged"
    assert error.error_reason is Reason.LINES_MISSING
    assert get_web(error) == Web(1, (8, 10), (8, 10))
    assert get_web(frame) == Web(2, (10, 18), (10, 18))
    np.testing.assert_array_equal(frame.pixels, paint(20, 28))


def test_gap_is_told_too_when_no_line_waits() -> None:
    assembler = make_assembler(8, 2)
    assembler.add(make_strip(0, 0, 8))
    (error,) = assembler.add(make_strip(2, 9, 1))
    assert get_web(error).owned == (8, 8)
    assert error.error_reason is Reason.LINES_MISSING


@pytest.mark.parametrize(
    ("value", "lines"), [(100 + 4 * 5, None), (100 + 4 * 6, 1), (100 + 4 * 50, 45), (100, 0), (100 + 4 * 5 + 3, None)]
)
def test_lost_lines_are_counted_as_the_encoder_tells(value: int, lines: int | None) -> None:
    assembler = make_assembler(20, 2, encoder_divider=4)
    assembler.add(make_strip(0, 0, 5, encoder_value=100))
    errors = assembler.add(make_strip(1, 5, 5, encoder_value=value))
    assert [get_web(error).y for error in errors] == ([] if lines is None else [(0, 5 + lines)])


def test_encoder_that_begins_again_after_32_bits_is_no_gap_and_one_that_counts_down_is_followed() -> None:
    up = make_assembler(20, 2, encoder_divider=4)
    up.add(make_strip(0, 0, 5, encoder_value=2**32 - 8))
    assert up.add(make_strip(1, 5, 5, encoder_value=12)) == []
    down = make_assembler(20, 2, encoder_divider=-2, numbered=False)
    down.add(make_strip(0, 0, 5, encoder_value=3))
    assert down.add(make_strip(1, 5, 5, encoder_value=-7)) == []
    (error,) = down.add(make_strip(2, 10, 5, encoder_value=-27))
    assert get_web(error).y == (0, 15)


def test_frame_says_what_the_encoder_counted_at_its_first_line() -> None:
    assembler = make_assembler(8, 2, encoder_divider=4, line_pitch_um=12.5)
    frames = []
    for number in range(5):
        frames += assembler.add(make_strip(number, 5 * number, 5, encoder_value=1000 + 20 * number))
    assert [(get_web(frame).y[0], get_web(frame).encoder_value) for frame in frames] == [
        (0, 1000), (6, 1024), (12, 1048),
    ]  # fmt: skip
    assert get_web(frames[0]).line_pitch_um == 12.5


@pytest.mark.parametrize(
    ("options", "details", "why"),
    [
        ({}, {"frame_id": "strip"}, "frame_id: must end in a number"),
        ({"encoder_divider": 2}, {}, "encoder_value: required"),
    ],
)
def test_strip_that_cannot_be_placed_is_an_error_and_in_no_frame(
    options: dict[str, Any], details: dict[str, Any], why: str
) -> None:
    assembler = make_assembler(8, 2, **options)
    strip = build_frame("top", **{"frame_id": "7", "pixels": paint(0, 9), "pixel_format": PixelFormat.MONO16} | details)
    (error,) = assembler.add(strip)
    assert get_error(error).startswith(why)
    assert (error.error_reason, get_web(error).owned) == (Reason.BAD_FRAME, (0, 9))
    assert not assembler.is_under_way


def test_strip_so_wide_that_its_frame_takes_all_memory_is_an_error() -> None:
    wide = np.zeros((1, MAX_FRAME_BYTES // 65_536 + 1), np.uint8)
    (error,) = make_assembler(65_536, 0).add(build_frame("top", "1", wide, PixelFormat.MONO8))
    assert "must be at most" in get_error(error)


def test_strip_that_did_not_come_whole_ends_the_run_with_its_own_reason() -> None:
    assembler = make_assembler(8, 2)
    assembler.add(make_strip(0, 0, 3))
    broken = build_frame("top", "s-1", None, PixelFormat.MONO8, error="half", error_reason=Reason.FRAME_MISMATCH)
    (error,) = assembler.add(broken)
    assert get_error(error) == "half; lines 0 to 3 of the web are not judged"
    assert error.error_reason is Reason.FRAME_MISMATCH
    assert assembler.add(make_strip(2, 3, 3)) == []
    assert assembler.finish()[0].web == Web(2, (3, 6), (3, 6))


def test_strip_of_another_width_or_colour_is_in_no_frame_with_those_before() -> None:
    assembler = make_assembler(4, 1)
    assembler.add(make_strip(0, 0, 2))
    (error,) = assembler.add(build_frame("top", "s-1", paint(2, 4)[:, :2], PixelFormat.MONO16))
    assert "a strip has lines of 2 pixels Mono16, the one before 3 pixels Mono16" in get_error(error)
    (again,) = assembler.add(build_frame("top", "s-2", np.ones((2, 2), np.uint8), PixelFormat.MONO8))
    assert "Mono8" in get_error(again)
    assert assembler.add(build_frame("top", "s-3", np.zeros((2, 2), np.uint8), PixelFormat.MONO8))[0].error is None


def test_last_lines_are_judged_with_lines_of_the_frame_before_and_the_web_goes_on() -> None:
    assembler = make_assembler(8, 2)
    assembler.add(make_strip(0, 0, 11))
    (last,) = assembler.finish()
    assert get_web(last) == Web(1, (3, 11), (8, 11))
    np.testing.assert_array_equal(last.pixels, paint(3, 11))
    assert assembler.finish() == []
    (after,) = assembler.add(make_strip(1, 11, 6))
    assert get_web(after) == Web(1, (9, 17), (11, 17))
    np.testing.assert_array_equal(after.pixels, paint(9, 17))


def test_web_shorter_than_a_frame_is_an_error() -> None:
    assembler = make_assembler(8, 2)
    assembler.add(make_strip(0, 0, 7))
    (error,) = assembler.finish(Reason.SHUTDOWN)
    assert "after 7 of 8 lines" in get_error(error)
    assert (error.error_reason, get_web(error).owned) == (Reason.SHUTDOWN, (0, 7))


def test_another_part_is_another_web_that_begins_at_line_0() -> None:
    assembler = make_assembler(8, 2)
    assembler.add(make_strip(0, 0, 11, part_id="coil 1"))
    (last,) = assembler.add(make_strip(1, 100, 3, part_id="coil 2"))
    assert (last.part_id, get_web(last).y) == ("coil 1", (3, 11))
    (first,) = assembler.add(make_strip(2, 103, 5, part_id="coil 2"))
    assert (first.part_id, first.web) == ("coil 2", Web(2, (0, 8), (0, 8)))


def test_strips_lost_between_two_parts_are_an_error_of_both() -> None:
    assembler = make_assembler(8, 2)
    assembler.add(make_strip(1, 0, 11, part_id="coil 1"))
    errors = assembler.add(make_strip(4, 200, 3, part_id="coil 2"))
    assert [(each.part_id, each.error_reason, get_web(each)) for each in errors] == [
        ("coil 1", Reason.LINES_MISSING, Web(1, (8, 11), (8, 11))),
        ("coil 2", Reason.LINES_MISSING, Web(2, (0, 0), (0, 0))),
    ]
    assert "its first lines may be lost" in get_error(errors[1])
    assert assembler.add(make_strip(5, 203, 5, part_id="coil 2"))[0].web == Web(3, (0, 8), (0, 8))


@pytest.mark.parametrize("lost", [0, 1])
def test_strips_lost_after_a_damaged_one_are_an_error_of_the_part_that_comes_next(lost: int) -> None:
    assembler = make_assembler(8, 2)
    assembler.add(make_strip(1, 0, 3, part_id="coil 1"))
    assembler.add(build_frame("top", "s-2", None, PixelFormat.MONO8, error="half", part_id="coil 1"))
    (error,) = assembler.add(make_strip(3 if lost else 5, 200, 3, part_id="coil 2"), lost)
    assert (error.part_id, error.error_reason) == ("coil 2", Reason.LINES_MISSING)


def test_damaged_first_strip_of_a_part_is_its_error_and_the_part_before_is_judged_to_its_end() -> None:
    assembler = make_assembler(8, 2)
    assembler.add(make_strip(1, 0, 11, part_id="coil 1"))
    broken = build_frame("top", "s-2", None, PixelFormat.MONO8, error="half", part_id="coil 2")
    last, error = assembler.add(broken)
    assert (last.part_id, last.error, get_web(last).owned) == ("coil 1", None, (8, 11))
    assert (error.part_id, get_web(error)) == ("coil 2", Web(2, (0, 0), (0, 0)))
    assert get_error(error).startswith("half")


def test_damaged_strip_that_may_follow_lost_ones_leaves_no_part_without_an_error() -> None:
    assembler = make_assembler(8, 2)
    assembler.add(make_strip(1, 0, 11, part_id="coil 1"))
    unreadable = build_frame("top", "broken", None, PixelFormat.MONO8, error="half")
    assert [error.part_id for error in assembler.add(unreadable) if error.pixels is None] == ["coil 1", None, None]


def test_next_part_may_be_of_another_width() -> None:
    assembler = make_assembler(4, 1)
    assembler.add(make_strip(1, 0, 4, part_id="coil 1"))
    wide = build_frame("top", "s-2", np.ones((4, 2), np.uint8), PixelFormat.MONO8, part_id="coil 2")
    (frame,) = assembler.add(wide)
    assert (frame.part_id, frame.error) == ("coil 2", None)


def test_lines_are_counted_on_after_a_damaged_strip_of_the_part_and_from_0_after_one_between_two() -> None:
    assembler = make_assembler(8, 2)
    begins = []
    for number, part in enumerate(("coil 1", "coil 1", "coil 2")):
        assembler.add(make_strip(10 * number, 0, 5, part_id=part))
        begins.append(get_web(assembler.finish()[0]).y)
        broken = build_frame("top", "broken", None, PixelFormat.MONO8, error="half", part_id=part)
        begins.append(get_web(assembler.add(broken)[0]).y)
    assert begins == [(0, 5), (5, 5), (5, 10), (10, 10), (0, 5), (5, 5)]


def test_strip_sent_again_is_taken_once() -> None:
    assembler = make_assembler(8, 2)
    strip = make_strip(0, 0, 5)
    assert assembler.add(strip) == assembler.add(strip) == []
    assert assembler.add(make_strip(0, 0, 5, captured_utc_ns=9))[0].error_reason is Reason.LINES_MISSING


def test_frame_with_lines_byte_for_byte_those_before_says_so_but_not_of_lines_that_show_nothing() -> None:
    assembler = make_assembler(4, 1)
    assembler.add(make_strip(0, 0, 2))
    (hung,) = assembler.add(make_strip(1, 0, 2))
    assert hung.has_repeats
    assert not any(frame.has_repeats for frame in assembler.add(make_strip(2, 9, 9))[1:])
    dark = make_assembler(4, 1)
    strips = [build_frame("top", f"{n}", np.zeros((2, 2), np.uint8), PixelFormat.MONO8) for n in range(2)]
    assert [frame.has_repeats for strip in strips for frame in dark.add(strip)] == [False]


def test_frame_is_simulated_when_any_of_its_lines_is() -> None:
    assembler = make_assembler(4, 1)
    assembler.add(make_strip(0, 0, 2, simulated=True))
    frames = assembler.add(make_strip(1, 2, 9))
    assert [frame.simulated for frame in frames] == [True, False, False]


def test_file_is_on_record_with_the_frame_that_has_its_last_line() -> None:
    assembler = make_assembler(4, 1)
    files = [TakenFile("top", f"{number}.png", FileVersion(1, number)) for number in range(4)]
    frames = []
    for number, file in enumerate(files):
        frames += assembler.add(make_strip(number, 3 * number, 3, files=(file,)))
    assert [frame.files for frame in frames] == [(files[0],), (files[1],), (files[2],)]
    (last,) = assembler.finish()
    assert last.files == (files[3],)


def test_files_of_lines_that_are_not_judged_are_on_record_with_the_error() -> None:
    assembler = make_assembler(8, 1)
    files = [TakenFile("top", f"{number}.png", FileVersion(1, number)) for number in range(2)]
    assembler.add(make_strip(0, 0, 3, files=files[:1]))
    broken = build_frame("top", "s-1", None, PixelFormat.MONO8, error="half", files=tuple(files[1:]))
    (error,) = assembler.add(broken)
    assert error.files == tuple(files)


def test_frame_that_was_put_together_before_is_handed_on() -> None:
    frame = build_frame("top", "lines-1", paint(0, 4), PixelFormat.MONO16, web=Web(1, (0, 4), (0, 4)))
    assert make_assembler(8, 2).add(frame) == [frame]
