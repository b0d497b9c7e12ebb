"""Forms that a picture can come in, as bytes, and what becomes of each; docs/line-engineer/pictures.md lists them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms

Pixels = np.ndarray[Any, Any]
HEIGHT, WIDTH = 48, 64


def draw(*, defective: bool) -> Pixels:
    """(H, W) uint8 grey: a soft pattern of 80 to 150; a defect is 255."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    grey = (115 + 20 * np.sin(x / 5) + 15 * np.cos(y / 7)).astype(np.uint8)
    if defective:
        grey[20:28, 30:40] = 255
    return grey


def colour(grey: Pixels) -> Pixels:
    """(H, W, 3) uint8 RGB, another value in each channel."""
    return np.stack([grey, grey // 2 + 60, grey // 4 + 120], axis=-1)


def with_alpha(pixels: Pixels, alpha: int = 255) -> Pixels:
    return np.dstack([pixels, np.full(pixels.shape[:2], np.iinfo(pixels.dtype).max * alpha // 255, pixels.dtype)])


def save(pixels: Pixels, kind: str, mode: str | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def save_several(first: Pixels, kind: str, **options: Any) -> bytes:
    return save(
        first, kind, save_all=True, append_images=[Image.fromarray(np.ascontiguousarray(first[::-1]))], **options
    )


def save_cv(pixels: Pixels, suffix: str, *options: int) -> bytes:
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    done, data = cv2.imencode(suffix, pixels, options)
    assert done
    return data.tobytes()


def save_tiff(pixels: Pixels, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **({"photometric": "rgb" if pixels.ndim == 3 else "minisblack"} | options))
    return file.getvalue()


def orient(tag: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = tag
    return exif


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def insert(png: bytes, name: bytes, body: bytes) -> bytes:
    """A chunk after the header of a PNG."""
    return png[:33] + chunk(name, body) + png[33:]


def make_png(
    pixels: Pixels, colour_type: int, *chunks: tuple[bytes, bytes], interlaced: bool = False, depth: int = 8
) -> bytes:
    """A PNG of rows of bytes (H, W) or (H, W, C), which hold `depth` bits."""
    height, width = pixels.shape[0], pixels.shape[1] * 8 // depth if depth < 8 else pixels.shape[1]
    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    passes = [pixels[y::dy, x::dx] for y, x, dy, dx in steps] if interlaced else [pixels]
    rows = b"".join(b"\0" + row.tobytes() for each in passes for row in each)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    middle = b"".join(chunk(*each) for each in chunks)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + middle
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def lose_strips(tiff: bytes, *, count: int = 1) -> bytes:
    """A TIFF whose last strips are zeros, as after a power cut."""
    page = tifffile.TiffFile(io.BytesIO(tiff)).pages[0]
    data = bytearray(tiff)
    for at, size in list(zip(page.dataoffsets, page.databytecounts, strict=True))[-count:]:
        data[at : at + size] = bytes(size)
    return bytes(data)


def claim(png: bytes, side: int) -> bytes:
    """A PNG whose header says it is that large, its checksum right."""
    body = struct.pack(">II", side, side) + png[24:29]
    return png[:8] + chunk(b"IHDR", body) + png[33:]


def claim_jpeg(jpeg: bytes, side: int) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", side, side) + jpeg[at + 4 :]


@dataclass(frozen=True)
class Form:
    """How to make it of grey pixels, (H, W) uint8.

    Attributes:
        row: of the table in docs/line-engineer/pictures.md that it belongs to.
        holds: which of the plain pictures it stands for: grey, colour or deep (16 bits).
        words: None where it is judged; else what the refusal says.
        is_exact: its pixels are those of the plain picture, not only nearly.
    """

    row: str
    holds: str
    make: Callable[[Pixels], bytes]
    words: str | None = None
    is_exact: bool = True


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DEEP = 257
PLAIN: dict[str, Callable[[Pixels], bytes]] = {
    "grey": lambda g: save(g, "PNG"),
    "colour": lambda g: save(colour(g), "PNG"),
    "deep": lambda g: save_cv(g.astype(np.uint16) * DEEP, ".png"),
}


def deep(grey: Pixels) -> Pixels:
    return grey.astype(np.uint16) * DEEP


FORMS: dict[str, Form] = {
    # ------------------------------------------------------------ judged
    "png grey": Form("grey", "grey", PLAIN["grey"]),
    "png grey interlaced": Form("interlaced", "grey", lambda g: make_png(g, 0, interlaced=True)),
    "png grey alpha": Form("alpha, opaque", "grey", lambda g: save(with_alpha(g), "PNG")),
    "png grey palette": Form("palette", "grey", lambda g: save(g, "PNG", "P")),
    "bmp grey": Form("palette", "grey", lambda g: save(g, "BMP")),
    "pgm": Form("grey", "grey", lambda g: save(g, "PPM")),
    "tiff grey": Form("grey", "grey", save_tiff),
    "tiff grey lzw": Form("TIFF", "grey", lambda g: save_tiff(g, compression="lzw", rowsperstrip=8)),
    "tiff grey packbits": Form("TIFF", "grey", lambda g: save_tiff(g, compression="packbits", rowsperstrip=8)),
    "tiff counts from white": Form("counts from white", "grey", lambda g: save_tiff(255 - g, photometric="miniswhite")),
    "tiff grey palette": Form("palette", "grey", lambda g: save(g, "TIFF", "P")),
    "jpeg grey": Form("grey", "grey", lambda g: save(g, "JPEG", quality=98), is_exact=False),
    "png colour": Form("colours", "colour", PLAIN["colour"]),
    "png colour alpha": Form("alpha, opaque", "colour", lambda g: save(with_alpha(colour(g)), "PNG")),
    "png colour palette": Form("palette", "colour", lambda g: save(colour(g), "PNG", "P"), is_exact=False),
    "png gamma": Form("gamma, profile", "colour", lambda g: insert(save(colour(g), "PNG"), b"gAMA", b"\0\1\x86\xa0")),
    "png profile": Form("gamma, profile", "colour", lambda g: save(colour(g), "PNG", icc_profile=SRGB)),
    "png padded": Form("padding", "colour", lambda g: save(colour(g), "PNG") + bytes(4096)),
    "png upright": Form("orientation 1", "colour", lambda g: save(colour(g), "PNG", exif=orient(1))),
    "bmp colour": Form("colours", "colour", lambda g: save(colour(g), "BMP")),
    "bmp 32 bits": Form("alpha, opaque", "colour", lambda g: save_cv(with_alpha(colour(g)), ".bmp")),
    "ppm": Form("colours", "colour", lambda g: save(colour(g), "PPM")),
    "tiff deflate": Form("TIFF", "colour", lambda g: save_tiff(colour(g), compression="zlib", predictor=2)),
    "tiff tiles": Form("TIFF", "colour", lambda g: save_tiff(colour(g), compression="lzw", tile=(16, 32))),
    "tiff planes": Form(
        "TIFF", "colour", lambda g: save_tiff(np.moveaxis(colour(g), -1, 0).copy(), planarconfig="separate")
    ),
    "tiff alpha": Form(
        "alpha, opaque", "colour", lambda g: save_tiff(with_alpha(colour(g)), extrasamples=["unassalpha"])
    ),
    "bigtiff": Form("TIFF", "colour", lambda g: save_tiff(colour(g), bigtiff=True)),
    "webp lossless": Form("WebP", "colour", lambda g: save(colour(g), "WEBP", lossless=True)),
    "webp lossy": Form("WebP", "colour", lambda g: save(colour(g), "WEBP", quality=98), is_exact=False),
    "jpeg": Form("colours", "colour", lambda g: save(colour(g), "JPEG", quality=98), is_exact=False),
    "jpeg progressive": Form(
        "interlaced", "colour", lambda g: save(colour(g), "JPEG", quality=98, progressive=True), is_exact=False
    ),
    "jpeg padded": Form(
        "padding", "colour", lambda g: save(colour(g), "JPEG", quality=98) + bytes(512), is_exact=False
    ),
    "jpeg profile": Form(
        "gamma, profile", "colour", lambda g: save(colour(g), "JPEG", quality=98, icc_profile=SRGB), is_exact=False
    ),
    "png 16 bits": Form("16 bits", "deep", PLAIN["deep"]),
    "png 16 bits alpha": Form(
        "alpha, opaque", "deep", lambda g: make_png(with_alpha(deep(g)).astype(">u2"), 4, depth=16)
    ),
    "tiff 16 bits": Form("16 bits", "deep", lambda g: save_tiff(deep(g), compression="zlib")),
    "tiff 16 bits, high byte first": Form("16 bits", "deep", lambda g: save_tiff(deep(g), byteorder=">")),
    "tiff 16 bits from white": Form(
        "counts from white", "deep", lambda g: save_tiff(65_535 - deep(g), photometric="miniswhite")
    ),
    "pgm 16 bits": Form(
        "16 bits", "deep", lambda g: b"P5\n%d %d\n65535\n" % (WIDTH, HEIGHT) + deep(g).astype(">u2").tobytes()
    ),
    # ------------------------------------------------------------ refused
    "webp grey": Form("WebP", "grey", lambda g: save(g, "WEBP", lossless=True), "expects Mono8, got RGB8 .*WebP"),
    "png see-through": Form(
        "alpha, not opaque",
        "colour",
        lambda g: save(with_alpha(colour(g), 128), "PNG"),
        "alpha: must be opaque, 255 .* got 128",
    ),
    "png transparent colour": Form(
        "alpha, not opaque",
        "colour",
        lambda g: insert(save(colour(g), "PNG"), b"tRNS", bytes(6)),
        "alpha: must be opaque",
    ),
    "png 16-bit colour": Form(
        "other depths", "colour", lambda g: make_png(colour(g).astype(">u2"), 2, depth=16), "got 3 × uint16"
    ),
    "png short palette": Form(
        "palette",
        "grey",
        lambda g: make_png(g, 3, (b"PLTE", bytes(90))),
        "palette: must have an entry for each pixel value, got 30",
    ),
    "png moving": Form(
        "several pictures", "colour", lambda g: save_several(colour(g), "PNG"), "must contain one image, got 2"
    ),
    "webp moving": Form(
        "several pictures",
        "colour",
        lambda g: save_several(colour(g), "WEBP", lossless=True),
        "must contain one image, got 2",
    ),
    "tiff pages": Form(
        "several pictures", "colour", lambda g: save_several(colour(g), "TIFF"), "must contain one image, got 2"
    ),
    "jpeg in several (MPO)": Form(
        "several pictures", "colour", lambda g: save_several(colour(g), "MPO"), "must contain one image, got 2"
    ),
    "jpeg after jpeg": Form(
        "several pictures",
        "colour",
        lambda g: 3 * save(colour(g), "JPEG", exif=orient(1)),
        "must contain one image, got 3",
    ),
    "bmp after bmp": Form(
        "several pictures", "colour", lambda g: 2 * save_cv(colour(g), ".bmp"), "must contain one image, got 2"
    ),
    "ppm after ppm": Form(
        "several pictures", "colour", lambda g: 2 * save(colour(g), "PPM"), "must contain one image, got 2"
    ),
    "tiff after tiff": Form(
        "several pictures", "colour", lambda g: 2 * save_tiff(colour(g)), "must contain one image, got 2"
    ),
    "bigtiff after jpeg": Form(
        "several pictures",
        "colour",
        lambda g: save(colour(g), "JPEG") + save_tiff(colour(g), bigtiff=True),
        "must contain one image, got 2",
    ),
    "gif after png": Form(
        "several pictures",
        "colour",
        lambda g: save(colour(g), "PNG") + bytes(100) + save(colour(g), "GIF"),
        "must contain one image, got 2",
    ),
    "png after png": Form(
        "several pictures", "colour", lambda g: 2 * save(colour(g), "PNG"), "must contain one image, got 2"
    ),
    "gif": Form("other files", "colour", lambda g: save(colour(g), "GIF"), "must be JPEG, .* got GIF"),
    "jpeg turned": Form(
        "turned", "colour", lambda g: save(colour(g), "JPEG", exif=orient(3)), "orientation: must be 1 .* got 3"
    ),
    "png turned": Form(
        "turned", "colour", lambda g: save(colour(g), "PNG", exif=orient(6)), "orientation: must be 1 .* got 6"
    ),
    "webp turned": Form("turned", "colour", lambda g: save(colour(g), "WEBP", exif=orient(8)), "orientation: .* got 8"),
    "tiff turned": Form(
        "turned", "colour", lambda g: save(colour(g), "TIFF", tiffinfo={274: 3}), "orientation: .* got 3"
    ),
    "jpeg cmyk": Form("CMYK", "colour", lambda g: save(colour(g), "JPEG", "CMYK"), "got CMYK"),
    "tiff cmyk": Form("CMYK", "colour", lambda g: save(colour(g), "TIFF", "CMYK"), "got CMYK"),
    "tiff float": Form("other depths", "deep", lambda g: save_tiff(g.astype(np.float32)), "got 1 × float32"),
    "tiff signed": Form("other depths", "deep", lambda g: save_tiff(g.astype(np.int16)), "got 1 × int16"),
    "tiff 32 bits": Form("other depths", "deep", lambda g: save_tiff(g.astype(np.uint32)), "got 1 × uint32"),
    "tiff jpeg": Form(
        "TIFF", "colour", lambda g: save(colour(g), "TIFF", compression="jpeg"), "got (YCbCr|compression 7)"
    ),
    "tiff lost strips": Form(
        "cut or damaged",
        "colour",
        lambda g: lose_strips(save_tiff(colour(g), compression="lzw", rowsperstrip=8)),
        "strip 5 is damaged",
    ),
    "jpeg cut": Form(
        "cut or damaged", "colour", lambda g: save(colour(g), "JPEG")[:-40] + bytes(512), "its end is missing"
    ),
    "png cut": Form("cut or damaged", "colour", lambda g: save(colour(g), "PNG")[:-30], "its end is missing"),
    "png rows missing": Form("cut or damaged", "grey", lambda g: claim(save(g, "PNG"), 64), "libpng cannot read"),
    "webp cut": Form("cut or damaged", "colour", lambda g: save(colour(g), "WEBP")[:-30], "its end is missing"),
    "tiff cut": Form("cut or damaged", "colour", lambda g: save_tiff(colour(g))[:-30], "must be a complete TIFF"),
    "bmp cut": Form("cut or damaged", "colour", lambda g: save(colour(g), "BMP")[:-30], "its end is missing"),
    "ppm cut": Form("cut or damaged", "colour", lambda g: save(colour(g), "PPM")[:-30], "its end is missing"),
    "png bomb": Form("too large", "grey", lambda g: claim(save(g, "PNG"), 60_000), "at most 268435456 pixels"),
    "jpeg bomb": Form(
        "too large", "colour", lambda g: claim_jpeg(save(colour(g), "JPEG"), 65_000), "at most 268435456 pixels"
    ),
}
