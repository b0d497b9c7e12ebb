"""Bytes of a file become exactly the pixels they stand for, or a fault that says why."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspector.codec import decode_image
from inspector.codec.image import _tell_profile
from inspector.errors import BadFrameError
from inspector.types import PixelFormat

ROOT = Path(__file__).resolve().parents[2]
RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]


def encode(suffix: str, pixels: Any, dtype: Any = np.uint8) -> bytes:
    """A file of `pixels`, three channels in OpenCV's order (BGR)."""
    done, data = cv2.imencode(suffix, np.asarray(pixels, dtype))
    assert done
    return data.tobytes()


def photograph() -> np.ndarray[Any, Any]:
    """(60, 80, 3) uint8 BGR that compresses badly, so that a cut always takes some of it away."""
    return np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_colours_come_out_as_rgb_when_a_lossless_file_is_decoded(suffix: str) -> None:
    pixels, pixel_format = decode_image(encode(suffix, [[BLUE, GREEN, RED], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]]))
    assert pixel_format is PixelFormat.RGB8
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [[RED, GREEN, BLUE], [[3, 2, 1], [6, 5, 4], [9, 8, 7]]]


def test_colours_come_out_as_rgb_when_a_jpeg_is_decoded() -> None:
    pixels, pixel_format = decode_image(encode(".jpg", np.full((16, 24, 3), (20, 90, 200))))
    assert pixel_format is PixelFormat.RGB8
    assert pixels.shape == (16, 24, 3)
    np.testing.assert_allclose(pixels.reshape(-1, 3), np.tile([200.0, 90.0, 20.0], (16 * 24, 1)), atol=2)


def test_grey_stays_one_channel_when_the_file_is_grey() -> None:
    pixels, pixel_format = decode_image(encode(".png", [[0, 1, 254], [255, 7, 128]]))
    assert pixel_format is PixelFormat.MONO8
    assert pixels.tolist() == [[0, 1, 254], [255, 7, 128]]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_are_kept_when_the_file_is_grey(suffix: str) -> None:
    pixels, pixel_format = decode_image(encode(suffix, [[0, 1, 0x0102], [0xFFFF, 256, 40_000]], np.uint16))
    assert pixel_format is PixelFormat.MONO16
    assert pixels.dtype == np.uint16
    assert pixels.tolist() == [[0, 1, 0x0102], [0xFFFF, 256, 40_000]]


def test_image_decodes_to_the_same_when_it_is_a_view_or_padded() -> None:
    data = encode(".png", [[BLUE, GREEN]])
    for variant in (memoryview(data), bytearray(data), data + bytes(16)):
        assert decode_image(variant)[0].tolist() == [[RED, GREEN]]


@pytest.mark.parametrize("share", [0.02, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp"])
def test_image_is_refused_when_its_end_is_missing(suffix: str, share: float) -> None:
    data = encode(suffix, photograph())
    cut = data[: min(len(data) - 1, int(len(data) * share))]
    with pytest.raises(BadFrameError, match=f"image: must be .*{len(cut)} bytes"):
        decode_image(cut)


def test_missing_end_is_named_when_a_jpeg_or_png_lacks_it() -> None:
    for suffix in (".jpg", ".png"):
        data = encode(suffix, photograph())[:-1]
        with pytest.raises(BadFrameError, match=f"its end is missing after {len(data)} bytes"):
            decode_image(data)


def test_jpeg_is_refused_when_it_ends_before_its_last_row() -> None:
    frame = np.full((128, 160, 3), 90, dtype=np.uint8)
    frame[64:, 80:] = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", frame)[1].tobytes()
    scan = jpeg.index(b"\xff\xda")
    with pytest.raises(BadFrameError):
        decode_image(jpeg[: scan + 100] + b"\xff\xd9")


def test_jpeg_is_refused_when_its_header_claims_a_gigapixel() -> None:
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((16, 16), np.uint8))[1].tobytes())
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = b"\xfd\xe8\xfd\xe8"
    with pytest.raises(BadFrameError, match="image: must have at most 268435456 pixels, got 65000 × 65000"):
        decode_image(bytes(jpeg))


@pytest.mark.parametrize("shape", [(37, 53), (37, 53, 3)], ids=["grey", "colours"])
def test_pixels_are_opencvs_to_the_last_bit_when_a_jpeg_is_decoded(shape: tuple[int, ...]) -> None:
    jpeg = cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))[1]
    expected = cv2.imdecode(jpeg, cv2.IMREAD_UNCHANGED)
    pixels, _ = decode_image(jpeg.tobytes())
    assert np.array_equal(pixels, expected if len(shape) == 2 else expected[..., ::-1])


def test_png_is_refused_when_a_byte_was_altered_or_a_part_is_lost() -> None:
    data = encode(".png", photograph())
    half = len(data) // 2
    for broken in (data[:half] + bytes([data[half] ^ 0xFF]) + data[half + 1 :], data[:half] + data[half + 500 :]):
        with pytest.raises(BadFrameError, match=r"image: must be (a complete PNG|complete)"):
            decode_image(broken)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\nIEND\xaeB`\x82", b"not an image at all", bytes(5000)],
    ids=["empty", "one byte", "bare jpeg", "bare png", "text", "zeros"],
)
def test_bytes_are_refused_when_they_are_no_image(data: bytes) -> None:
    words = f"image: must be (JPEG, PNG, TIFF, WebP, BMP or PNM|a complete JPEG|a complete PNG), got {len(data)} bytes"
    with pytest.raises(BadFrameError, match=words):
        decode_image(data)


@pytest.mark.parametrize(
    ("pixels", "dtype", "found"),
    [
        (np.ones((2, 2, 3)), np.uint16, "3 × uint16"),
        (np.ones((2, 2, 4)), np.uint16, "4 × uint16"),
        (np.ones((2, 2)), np.float32, "1 × float32"),
    ],
    ids=["16-bit colour", "16-bit alpha", "float"],
)
def test_image_is_refused_when_its_depth_is_none_of_ours(pixels: Any, dtype: Any, found: str) -> None:
    data = encode(".tiff" if dtype is np.float32 else ".png", pixels, dtype)
    with pytest.raises(BadFrameError, match=f"8-bit grey or colour or 16-bit grey, got {found}"):
        decode_image(data)


def read_memory() -> int:
    """Resident bytes of this process at their peak so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_image_bomb_is_refused_before_anything_is_decoded() -> None:
    row = bytes(1 + 20_000 // 8)  # one bit a pixel, which OpenCV makes a byte: 400 MB of a file of 50 kB
    squeezed = zlib.compressobj(9)
    pixels = b"".join([*(squeezed.compress(row * 100) for _ in range(200)), squeezed.flush()])
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    png = b"\x89PNG\r\n\x1a\n" + body
    assert len(png) < 60_000
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((16, 16), np.uint8))[1].tobytes())
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = struct.pack(">HH", 20_000, 20_000)
    before = read_memory()
    for bomb in (png, bytes(jpeg)):
        with pytest.raises(BadFrameError, match="image: must have at most 268435456 pixels, got 20000 × 20000"):
            decode_image(bomb)
    assert read_memory() - before < 16 * 1024**2


def test_png_is_refused_when_its_header_claims_more_than_a_jpeg_may() -> None:
    png = bytearray(cv2.imencode(".png", np.zeros((16, 16), np.uint8))[1].tobytes())
    png[16:24] = (2**14).to_bytes(4, "big") + (2**14 + 1).to_bytes(4, "big")
    with pytest.raises(BadFrameError, match="image: must have at most 268435456 pixels, got 16385 × 16384"):
        decode_image(bytes(png))


# ---------------------------------------------------------------- bombs


def make_png(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    """A few bytes that claim to be a picture of this size."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(100))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def make_jpeg(width: int, height: int, start: bytes = b"\xff\xc0") -> bytes:
    jpeg = bytearray(encode(".jpg", np.zeros((16, 16, 3))))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at : at + 2] = start
    jpeg[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(jpeg)


def make_tiff(width: int, height: int) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 9)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def make_bmp(width: int, height: int) -> bytes:
    return struct.pack("<2sIHHIIiiHHI", b"BM", 0, 0, 0, 54, 40, width, height, 1, 24, 0) + bytes(100)


def make_webp(width: int, height: int) -> bytes:
    body = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(range(1, 50))
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def many_scans() -> bytes:
    done, data = cv2.imencode(".jpg", np.zeros((64, 64), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert done
    jpeg = data.tobytes()
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + 1000 * last + jpeg[-2:]


BOMBS = {
    "png": (make_png(60_000, 60_000), "pixels"),
    "png, all that a header can say": (make_png(2**32 - 1, 2**32 - 1), "pixels"),
    "png of 16 bits": (make_png(16_000, 16_000, 16), ""),
    "png of 16-bit colours": (make_png(10_000, 10_000, 16, 2), "got 3 × uint16"),
    "png of 16-bit colours and alpha": (make_png(10_000, 10_000, 16, 6), "got 4 × uint16"),
    "png of alpha": (make_png(16_000, 16_000, 8, 6), "bytes of pixels"),
    "png of one-bit palette": (make_png(60_000, 60_000, 1, 3), "pixels"),
    "png whose header comes second": (b"\x89PNG\r\n\x1a\n" + png_chunk(b"gAMA", bytes(4)) + make_png(9, 9)[8:], ""),
    "png cut within its header": (make_png(9, 9)[:20] + b"IEND\xaeB`\x82", ""),
    "jpeg": (make_jpeg(65_500, 65_500), "pixels"),
    "progressive jpeg": (make_jpeg(65_500, 65_500, b"\xff\xc2"), "pixels"),
    "jpeg of many scans": (many_scans(), "at most 100 scans, got more"),
    "jpeg of many segments": (b"\xff\xd8" + 5000 * b"\xff\xe0\0\2" + b"\xff\xd9", "at most 4096 segments, got more"),
    "tiff": (make_tiff(20_000, 20_000), "pixels"),
    "tiff of few strips": (make_tiff(10_000, 10_000), "too few|strip 0 at 8 of 9 bytes"),
    "bmp": (make_bmp(60_000, 60_000), "pixels"),
    "bmp cut": (make_bmp(10_000, 10_000), "its end is missing"),
    "webp": (make_webp(16_384, 16_384), ""),
    "pnm": (b"P5 60000 60000 255\n" + bytes(100), "pixels"),
}


def test_scans_are_counted_without_keeping_them() -> None:
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    jpeg = b"\xff\xd8" + 200_000 * scan + b"\xff\xd9"
    tracemalloc.start()
    try:
        with pytest.raises(BadFrameError, match="at most 100 scans"):
            decode_image(jpeg)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [name for name in BOMBS if name not in {"webp", "png of 16 bits"}])
def test_bomb_is_refused_undecoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "imdecode")
    monkeypatch.delattr("simplejpeg.decode_jpeg")
    monkeypatch.delattr("PIL.TiffImagePlugin.TiffImageFile")
    data, words = BOMBS[name]
    assert len(data) < 100_000
    with pytest.raises(BadFrameError, match=f"image: .*{words}"):
        decode_image(data)


def test_memory_and_time_stay_what_they_were_when_bombs_come(tmp_path: Path) -> None:
    """In a process of its own; the raw ones claim what they are not."""
    for number, (data, _) in enumerate(BOMBS.values()):
        (tmp_path / f"{number:02}").write_bytes(data)
    code = """if True:
        import resource, sys, time
        from pathlib import Path
        from inspector.codec import decode_image, decode_raw
        from inspector.errors import BadFrameError
        from inspector.types import PixelFormat

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

        paths = sorted(Path(sys.argv[1]).iterdir())
        before, began = peak(), time.process_time()
        for path in paths:
            try:
                decode_image(path.read_bytes(), max_bytes=100_000_000)
            except BadFrameError as error:
                print(repr(error))
        for shape in ([2**31 - 1, 2**31 - 1], [60_000, 60_000, 3]):
            try:
                decode_raw(bytes(12), "uint8", shape, PixelFormat.RGB8)
            except BadFrameError as error:
                print(repr(error))
        print(peak() - before, time.process_time() - began)
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    *refusals, last = done.stdout.splitlines()
    assert len(refusals) == len(BOMBS) + 2
    grown, seconds = map(float, last.split())
    assert grown < 20e6
    assert seconds < 2


# ---------------------------------------------------------------- what is said of it


def test_profile_is_named_in_the_log_once_when_pictures_have_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="inspector")
    _tell_profile.cache_clear()
    png = encode(".png", [[1, 2], [3, 4]])
    with_gamma = png[:33] + png_chunk(b"gAMA", struct.pack(">I", 45_455)) + png[33:]
    for _ in range(3):
        assert decode_image(with_gamma)[0].tolist() == [[1, 2], [3, 4]]
    assert [record.message for record in caplog.records] == [
        "an image contains a gamma value or a colour profile: it is ignored, values are used as stored"
    ]
