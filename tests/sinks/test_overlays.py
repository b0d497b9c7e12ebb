"""Overlays, pixel by pixel: what is quiet stays the photograph, what is not is tinted, outlined and named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import zmq

from inspector.errors import ConfigError
from inspector.sinks.overlays import OverlaysSocket, render_overlay
from inspector.types import PixelFormat, Region, Verdict

Picture = np.ndarray[Any, Any]
WIDTH, HEIGHT = 320, 200
BANNER = 24
"""Rows of the banner on a picture that wide."""
GREY = [100, 100, 100]
WHITE = [255, 255, 255]
RED = [40, 40, 210]
WAIT_S = 10.0


def plain(*shape: int) -> Picture:
    return np.full(shape or (HEIGHT, WIDTH, 3), 100, np.uint8)


def render(
    pixels: Picture,
    pixel_format: PixelFormat = PixelFormat.BGR8,
    *,
    anomaly_map: Picture | None = None,
    text: str = "score 1",
    threshold: float | None = 2.0,
    regions: tuple[Region, ...] = (),
    verdict: Verdict = Verdict.FAIL,
    width: int = WIDTH,
) -> Picture:
    return render_overlay(pixels, pixel_format, anomaly_map, text, threshold, regions, verdict, width)


def photograph(picture: Picture) -> Picture:
    """The part below the banner."""
    return picture[BANNER:]


# ---------------------------------------------------------------- the photograph


@pytest.mark.parametrize(
    ("pixel_format", "shown"), [(PixelFormat.RGB8, [30, 20, 10]), (PixelFormat.BGR8, [10, 20, 30])]
)
def test_colours_are_shown_as_bgr_when_the_frame_is_in_colour(pixel_format: PixelFormat, shown: list[int]) -> None:
    pixels = np.full((HEIGHT, WIDTH, 3), (10, 20, 30), np.uint8)
    picture = photograph(render(pixels, pixel_format))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert (picture == shown).all()


def test_grey_is_shown_as_it_is_when_the_frame_has_eight_bits() -> None:
    pixels = np.arange(HEIGHT * WIDTH, dtype=np.uint32).reshape(HEIGHT, WIDTH).astype(np.uint8)
    picture = photograph(render(pixels, PixelFormat.MONO8))
    assert (picture == pixels[..., None]).all()


def test_grey_is_stretched_to_all_of_its_range_when_the_frame_has_sixteen_bits() -> None:
    pixels = np.full((HEIGHT, WIDTH), 3000, np.uint16)
    pixels[:, :100] = 1000
    pixels[:, 200:] = 2000
    picture = photograph(render(pixels, PixelFormat.MONO16))
    assert picture.dtype == np.uint8
    assert (picture[:, :100] == 0).all()
    assert (picture[:, 100:200] == 255).all()
    assert (np.abs(picture[:, 200:].astype(int) - 127.5) < 1).all()


def test_frame_of_sixteen_bits_is_shown_when_all_its_pixels_are_the_same() -> None:
    picture = photograph(render(np.full((HEIGHT, WIDTH), 40_000, np.uint16), PixelFormat.MONO16))
    assert np.unique(picture).size == 1


@pytest.mark.parametrize("factor", [1, 3])
def test_picture_has_the_asked_width_and_the_frames_aspect_when_scaled(factor: int) -> None:
    pixels = np.zeros((50 * factor, 80 * factor), np.uint8)
    pixels[:, : 40 * factor] = 200
    picture = photograph(render(pixels, PixelFormat.MONO8))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert (picture[:, :155] == 200).all()
    assert (picture[:, 165:] == 0).all()


@pytest.mark.parametrize("with_map", [False, True])
def test_frame_is_not_altered_when_it_is_drawn(with_map: bool) -> None:
    pixels, anomaly_map = plain(), np.full((HEIGHT, WIDTH), 9, np.float32)
    region = Region((50, 50, 90, 90), 9.0, 1600)
    for writeable in (True, False):  # frames from the wire are not
        pixels.flags.writeable = anomaly_map.flags.writeable = writeable
        picture = render(pixels, anomaly_map=anomaly_map if with_map else None, regions=(region,))
        assert not (photograph(picture) == GREY).all()
        assert (pixels == 100).all()
        assert (anomaly_map == 9).all()


# ---------------------------------------------------------------- the heat


def heat() -> Picture:
    """A map with bands from 100 px to 300 px whose levels are multiples of the threshold 2."""
    anomaly_map = np.zeros((HEIGHT, WIDTH), np.float32)
    for band, level in enumerate([0.25, 0.5, 1.0, 1.5, 50.0]):
        anomaly_map[:, 100 + 40 * band : 140 + 40 * band] = 2.0 * level
    return anomaly_map


def test_heat_tints_by_how_far_above_half_the_threshold_it_is() -> None:
    picture = photograph(render(plain(), anomaly_map=heat()))
    assert (picture[:, :180] == GREY).all()  # to half the threshold: the photograph
    # 45 % photograph, 55 % of the Turbo palette's middle (61, 253, 161) and end (3, 4, 122), in BGR
    assert (picture[:, 180:220] == [78, 184, 133]).all()
    assert (picture[:, 220:300] == [46, 47, 112]).all()
    assert (picture[:, 300:] == GREY).all()


def test_heat_fades_in_when_it_is_little_above_half_the_threshold() -> None:
    anomaly_map = np.full((HEIGHT, WIDTH), 2.0 * 0.75, np.float32)  # a quarter of the palette, half of the opacity
    quarter = cv2.applyColorMap(np.array([[63]], np.uint8), cv2.COLORMAP_TURBO)[0, 0]
    picture = photograph(render(plain(), anomaly_map=anomaly_map))
    np.testing.assert_allclose(picture.reshape(-1, 3), np.tile(72.5 + 0.275 * quarter, (WIDTH * HEIGHT, 1)), atol=1)


def test_heat_lies_where_the_map_says_when_the_map_is_smaller_than_the_frame() -> None:
    anomaly_map = np.zeros((HEIGHT // 4, WIDTH // 4), np.float32)
    anomaly_map[10:20, 30:50] = 100.0
    picture = photograph(render(plain(2 * HEIGHT, 2 * WIDTH, 3), anomaly_map=anomaly_map))
    assert (picture[44:76, 124:196] == [46, 47, 112]).all()
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[36:84, 116:204] = False
    assert (picture[outside] == GREY).all()


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_nothing_is_tinted_when_there_is_no_threshold(threshold: float | None) -> None:
    picture = photograph(render(plain(), anomaly_map=heat(), threshold=threshold))
    assert (picture == GREY).all()


# ---------------------------------------------------------------- regions


@pytest.mark.parametrize("scale", [1, 2])
def test_region_is_outlined_outside_its_edge_and_nothing_else_is_touched(scale: int) -> None:
    region = Region((50 * scale, 120 * scale, 90 * scale, 150 * scale), 9.0, 1)
    picture = photograph(render(plain(HEIGHT * scale, WIDTH * scale, 3), regions=(region,)))
    # Three pixels away from the region runs a line in the verdict's colour, with a white one on either side.
    for row in (117, 153):
        assert (picture[row, 47:94] == RED).all()
        assert (picture[[row - 1, row + 1], 50:90] == WHITE).all()
    for column in (47, 93):
        assert (picture[117:154, column] == RED).all()
        assert (picture[120:150, [column - 1, column + 1]] == WHITE).all()
    assert (picture[120:150, 50:90] == GREY).all()
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[114:157, 44:97] = False
    assert (picture[outside] == GREY).all()


def test_each_region_is_outlined_when_there_are_many() -> None:
    regions = tuple(Region((left, 50, left + 20, 70), 9.0, 1) for left in (20, 120, 220))
    picture = photograph(render(plain(), regions=regions))
    assert [left for left in range(WIDTH) if (picture[60, left] == RED).all()] == [17, 43, 117, 143, 217, 243]


def test_region_is_outlined_as_far_as_it_can_be_seen_when_it_fills_the_frame() -> None:
    picture = photograph(render(plain(), regions=(Region((0, 0, WIDTH, HEIGHT), 9.0, 1),)))
    assert (picture == GREY).all()  # the line would lie outside
    picture = photograph(render(plain(), regions=(Region((0, 100, 40, HEIGHT), 9.0, 1),)))
    assert (picture[97, :43] == RED).all()
    assert (picture[97:, 43] == RED).all()
    assert (picture[100:, :40] == GREY).all()


# ---------------------------------------------------------------- the banner


@pytest.mark.parametrize(
    ("verdict", "colour"),
    [(Verdict.PASS, [80, 160, 40]), (Verdict.FAIL, [40, 40, 210]), (Verdict.ERROR, [0, 140, 230])],
)
def test_banner_has_the_verdicts_colour_and_white_text(verdict: Verdict, colour: list[int]) -> None:
    picture = render(plain(), verdict=verdict)
    assert picture.shape == (HEIGHT + BANNER, WIDTH, 3)
    banner = picture[:BANNER]
    edge = np.concatenate([banner[0], banner[-1], banner[:, 0], banner[:, -1]])
    assert (edge == colour).all()
    assert (banner == WHITE).all(axis=-1).any()
    assert (photograph(picture) == GREY).all()


def test_banner_differs_when_verdict_or_text_does() -> None:
    shown = {
        (render(plain(), verdict=verdict, text=text)[:BANNER].max(axis=-1) == 255).tobytes()
        for verdict in Verdict
        for text in ("score 1", "score 2")
    }
    assert len(shown) == 6


def test_text_shrinks_into_the_banner_when_it_is_long() -> None:
    banner = render(plain(), text="a long frame name " * 10)[:BANNER]
    text = (banner != RED).any(axis=(0, 2))
    assert text[12:200].any()
    assert not text[:8].any()
    assert not text[WIDTH - 6 :].any()


def test_banner_grows_with_the_picture_when_it_is_wide() -> None:
    picture = render(plain(), width=1600)
    assert picture.shape == (50 + 1000, 1600, 3)
    assert (picture[49, :, :] == RED).all()
    assert (picture[50:] == GREY).all()


@pytest.mark.parametrize("text", ["", "schön № 7 部品 😀", "a\0b", "x" * 5000], ids=lambda text: f"{text!r:.20}")
def test_picture_is_drawn_when_the_text_is_odd(text: str) -> None:
    picture = render(plain(), text=text)
    assert (picture[:BANNER, -1] == RED).all()
    assert (photograph(picture) == GREY).all()


def test_process_lives_when_the_text_is_not_utf8() -> None:
    # In a process of its own: OpenCV crashes on such text, as file names can hold.
    code = """
import numpy as np
from inspector.sinks.overlays import render_overlay
from inspector.types import PixelFormat, Verdict
pictures = [
    render_overlay(np.zeros((50, 80), np.uint8), PixelFormat.MONO8, None, text, None, (), Verdict.FAIL, 160)
    for text in ("m\\udcfcll", "m?ll")
]
assert (pictures[0] == pictures[1]).all()
"""
    drawn = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert drawn.returncode == 0, drawn.stderr


# ---------------------------------------------------------------- the socket


@pytest.fixture
def overlays(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[OverlaysSocket]:
    made = OverlaysSocket(context, "inproc://overlays")
    yield made
    made.close()


@pytest.fixture
def viewer(context: zmq.Context[zmq.Socket[bytes]], overlays: OverlaysSocket) -> Iterator[zmq.Socket[bytes]]:
    """A subscriber to camera "top" whose subscription has arrived."""
    socket = context.socket(zmq.SUB)
    socket.rcvtimeo = int(WAIT_S * 1000)
    socket.rcvhwm = 1
    socket.connect("inproc://overlays")
    socket.subscribe("overlay/top")
    for _ in range(int(WAIT_S / 0.02)):
        overlays.publish("top", {}, plain(8, 8, 3), 85)
        if socket.poll(20):
            break
    while socket.poll(0):
        socket.recv_multipart()
    yield socket
    socket.close(linger=0)


def test_viewer_gets_result_and_picture_of_its_camera_when_published(
    overlays: OverlaysSocket, viewer: zmq.Socket[bytes]
) -> None:
    overlays.publish("side", {"seq": 1}, plain(), 85)
    overlays.publish("top", {"seq": 7, "frame_id": "schön"}, np.full((50, 80, 3), (20, 90, 200), np.uint8), 85)
    topic, body, jpeg = viewer.recv_multipart()
    assert topic == b"overlay/top"
    assert json.loads(body) == {"seq": 7, "frame_id": "schön"}
    assert jpeg.startswith(b"\xff\xd8")
    shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(shown.reshape(-1, 3), np.tile([20.0, 90.0, 200.0], (4000, 1)), atol=2)


def test_picture_is_smaller_when_the_quality_is_lower(overlays: OverlaysSocket, viewer: zmq.Socket[bytes]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 80, 3), np.uint8)
    sizes = []
    for quality in (95, 20):
        overlays.publish("top", {}, noise, quality)
        sizes.append(len(viewer.recv_multipart()[2]))
    assert sizes[0] > 2 * sizes[1]


def test_slow_viewer_loses_pictures_and_publishing_never_waits_when_it_lags(
    overlays: OverlaysSocket, viewer: zmq.Socket[bytes]
) -> None:
    for seq in range(100):
        overlays.publish("top", {"seq": seq}, plain(8, 8, 3), 85)
    seen = []
    while viewer.poll(0):
        seen.append(json.loads(viewer.recv_multipart()[1])["seq"])
    assert seen == list(range(len(seen)))
    assert 4 <= len(seen) <= 9  # at most eight wait at the sender and one at the viewer
    for seq in range(100, 100 + int(WAIT_S / 0.02)):
        overlays.publish("top", {"seq": seq}, plain(8, 8, 3), 85)
        if viewer.poll(20):
            break
    assert json.loads(viewer.recv_multipart()[1])["seq"] >= 100  # it has caught up, and sees what comes now


def test_socket_is_refused_naming_the_field_when_the_endpoint_is_taken(
    context: zmq.Context[zmq.Socket[bytes]], overlays: OverlaysSocket
) -> None:
    with pytest.raises(ConfigError, match=r"sockets\.overlays: must be .* got 'inproc://overlays': Address already"):
        OverlaysSocket(context, "inproc://overlays")
