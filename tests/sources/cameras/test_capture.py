"""Which frames of a stream are damaged, by what FFmpeg logs while they are read."""

from __future__ import annotations

import pytest

from inspector.sources.cameras.capture import DamageWatch

CONCEALED = (32, "concealing 300 DC, 300 AC, 300 MV errors in P frame")


def follow(fourcc: str, *reads: tuple[str, tuple[int, str] | None]) -> str:
    """Of each read, its frame's type and what was logged: . for a whole frame, x for a damaged one."""
    watch = DamageWatch(fourcc)
    return "".join("." if watch.note([line] if line else [], kind) is None else "x" for kind, line in reads)


def gop(length: int) -> list[tuple[str, tuple[int, str] | None]]:
    return [("I", None)] + [("P", None)] * (length - 1)


def test_frames_are_damaged_before_the_first_key_frame() -> None:
    assert follow("h264", ("P", None), ("B", None), ("I", None), ("P", None)) == "xx.."


def test_frames_stay_damaged_to_the_next_key_frame_that_was_decoded_after_the_damage() -> None:
    # The decoder may hold 16 frames back: a key frame that comes at once was decoded before.
    reads = [*gop(10), ("P", CONCEALED), *gop(10), *gop(10), *gop(5)]
    assert follow("h264", *reads) == "." * 10 + "x" * 21 + "." * 5


def test_next_picture_is_whole_when_each_is_complete_by_itself() -> None:
    assert follow("MJPG", ("I", None), ("I", (24, "EOI missing, emulating")), ("I", None)) == ".x."


def test_key_frame_is_damaged_when_damage_is_logged_with_it() -> None:
    assert follow("mjpe", ("I", (16, "mjpeg_decode_dc: bad vlc: 0:0")), ("I", None)) == "x."


@pytest.mark.parametrize(
    ("line", "is_damage"),
    [
        ((16, "error while decoding MB 3 7"), True),
        ((16, "something new"), True),
        ((16, "unable to decode APP fields: Invalid data found when processing input"), False),
        ((16, "invalid TIFF header in EXIF data"), False),
        ((16, "Unsupported (HEVC) NAL type (52)"), False),
        (CONCEALED, True),
        ((24, "RTP: missed 1 packets"), True),
        ((24, "Packet corrupt (stream = 0, dts = 9)."), True),
        ((24, "deprecated pixel format used, make sure you did set range correctly"), False),
        ((16, "SEI type 5 size 900 truncated at 800"), False),
        ((40, "Skip ('#EXT-X-VERSION:3')"), False),
        ((40, "Reinit context to 320x240, pix_fmt: yuv420p"), False),
    ],
)
def test_line_is_damage_when_it_is_an_error_or_tells_of_something_missing(
    line: tuple[int, str], is_damage: bool
) -> None:
    assert follow("MJPG", ("I", line)) == ("x" if is_damage else ".")


def test_size_has_changed_when_the_decoder_begins_anew_with_another() -> None:
    watch, first, other = DamageWatch("h264"), "Reinit context to 320x240, x", "Reinit context to 160x128, x"
    watch.note([(40, first)], "I")
    watch.note([(40, first)], "I")
    assert not watch.is_resized
    watch.note([(40, other)], "I")
    assert watch.is_resized
