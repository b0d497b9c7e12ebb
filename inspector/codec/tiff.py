"""TIFF 6.0: tags and strips are checked here, then libtiff decodes, through Pillow.

OpenCV paints black what its libtiff could not decode, and says nothing; so do others where tags name too few strips.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import TiffImagePlugin

from inspector.codec.picture import (
    Bounds,
    Bytes,
    Picture,
    Pixels,
    check_alpha,
    check_orientation,
    describe_palette,
    look_up,
    refuse_cut,
    refuse_depth,
    refuse_several,
)
from inspector.codec.tags import Directory, count_directories, read_first, read_orientation
from inspector.errors import BadFrameError
from inspector.types import PixelFormat

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP = (
    256, 257, 258, 259, 262, 273, 277, 278,
)  # fmt: skip
_STRIP_BYTES, _PLANAR, _COLOUR_MAP, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _SUB_IFDS, _SAMPLE_FORMAT = (
    279, 284, 320, 322, 323, 324, 325, 330, 339,
)  # fmt: skip
_FILL_ORDER, _PREDICTOR, _EXTRA_SAMPLES, _ICC = 266, 317, 338, 34_675
_KEPT = (
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES,
    _PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _EXTRA_SAMPLES, _SAMPLE_FORMAT,
)  # fmt: skip
"""Rising, as they must stand in a file. libtiff and Pillow see these alone, and they were checked."""
_NONE, _LZW, _PACKBITS, _DEFLATE, _OLD_DEFLATE = 1, 5, 32_773, 8, 32_946
_COMPRESSIONS = {
    _NONE: "uncompressed", _LZW: "LZW", _PACKBITS: "PackBits", _DEFLATE: "Deflate", _OLD_DEFLATE: "Deflate",
}  # fmt: skip
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = 0, 1, 2, 3
_PHOTOMETRICS = {
    4: "a transparency mask", 5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 32_803: "a colour filter array",
}  # fmt: skip
_SAMPLE_FORMATS = {1: "uint", 2: "int", 3: "float", 4: "void", 5: "complex int", 6: "complex float"}
_REFUSALS = (OSError, ValueError, SyntaxError, LookupError, TypeError, ArithmeticError, RuntimeError)
"""What Pillow raises for tags that it cannot use: it has no class of its own."""
_MAX_PICTURES = 1000
_MAX_ZEROS = 64
"""In a row, in LZW: a run of one value takes ever longer codes."""


@dataclass(frozen=True, slots=True)
class _Form:
    """What the tags say of the pixels."""

    height: int
    width: int
    bits: int
    samples: int
    photometric: int
    compression: int
    is_planar: bool
    has_tiles: bool

    def list_sizes(self, directory: Directory) -> Iterator[int]:
        """Bytes that each strip or tile holds decoded, in the order of the tags."""
        planes = self.samples if self.is_planar else 1
        in_one = 1 if self.is_planar else self.samples
        if self.has_tiles:
            width, height = directory.first(_TILE_WIDTH, 0), directory.first(_TILE_HEIGHT, 0)
            if width < 1 or height < 1:
                raise BadFrameError(f"image: must have tiles with pixels, got {height} × {width}")
            size = height * math.ceil(width * in_one * self.bits / 8)
            count = planes * math.ceil(self.width / width) * math.ceil(self.height / height)
            yield from (size for _ in range(count))
            return
        rows = min(directory.first(_ROWS_PER_STRIP, self.height), self.height) or self.height
        for _ in range(planes):
            for top in range(0, self.height, rows):
                yield min(rows, self.height - top) * math.ceil(self.width * in_one * self.bits / 8)


def read_tiff(array: Bytes, bounds: Bounds) -> Picture:
    """Decode a TIFF, whole or not at all.

    Raises:
        BadFrameError, FrameMismatchError: cut, damaged, several pictures, turned, see-through, of another depth, colour
            space or compression, or too large.
    """
    data = array.data
    directory = read_first(data)
    if directory.next_offset is None:
        refuse_cut(len(data))
    refuse_several(count_directories(data, directory, _MAX_PICTURES) + directory.read(_SUB_IFDS).size)
    check_orientation(read_orientation(directory))
    form = _read_form(directory)
    bounds.check(form.height, form.width, math.ceil(form.bits / 8) * form.samples)
    end = max(directory.end, _check_segments(data, directory, form))
    pixels = _decode(_rewrite(array, directory, is_grey=form.photometric == _PALETTE))
    assumed: tuple[str, ...] = ()
    if form.photometric == _PALETTE:
        indexes = pixels // np.uint8(255 // (2**form.bits - 1))  # few bits are spread over 0 to 255
        pixels, pixel_format = look_up(indexes, _read_palette(directory, form.bits))
        assumed = (describe_palette(pixel_format),)
    else:
        pixels, pixel_format, assumed = _name(pixels, form)
    stored = f"{form.bits} bit{'s' * (form.bits > 1)}, {_COMPRESSIONS[form.compression]}"
    return Picture(pixels, pixel_format, "TIFF", stored, end, assumed, _ICC in directory.entries)


def _read_form(directory: Directory) -> _Form:
    samples = directory.first(_SAMPLES, 1)
    bits = set(directory.read(_BITS).tolist()) or {1}
    photometric = directory.first(_PHOTOMETRIC, _BLACK_IS_ZERO)
    kind = _SAMPLE_FORMATS.get(directory.first(_SAMPLE_FORMAT, 1), "unknown")
    if photometric in _PHOTOMETRICS or photometric > _PALETTE:
        raise BadFrameError(f"image: must be grey or RGB, got {_PHOTOMETRICS.get(photometric, photometric)}")
    depths = {1, 2, 4, 8, 16} if samples == 1 and photometric < _RGB else {1, 2, 4, 8} if samples == 1 else {8}
    if kind != "uint" or len(bits) != 1 or not bits <= depths:
        refuse_depth(samples, "/".join(f"{kind}{each}" for each in sorted(bits)))
    colours = 3 if photometric == _RGB else 1
    if samples - colours not in {0, 1} or (photometric == _PALETTE and samples > 1):
        raise BadFrameError(
            f"image: must have {colours} samples per pixel, plus at most an alpha channel, got {samples}"
        )
    compression = directory.first(_COMPRESSION, _NONE)
    if compression not in _COMPRESSIONS:
        raise BadFrameError(
            f"image: must be a TIFF without compression or with LZW, Deflate or PackBits, got compression {compression}"
        )
    if directory.first(_FILL_ORDER, 1) != 1 or directory.first(_PREDICTOR, 1) not in {1, 2}:
        raise BadFrameError(
            "image: must be a TIFF with the highest bit first and no predictor other than horizontal differencing"
        )
    return _Form(
        directory.first(_HEIGHT, 0),
        directory.first(_WIDTH, 0),
        bits.pop(),
        samples,
        photometric,
        compression,
        directory.first(_PLANAR, 1) == 2 and samples > 1,
        _TILE_OFFSETS in directory.entries,
    )


def _check_segments(data: memoryview, directory: Directory, form: _Form) -> int:
    """See that every strip or tile is there and whole: what is not would be black. Where the last one ends."""
    offsets = directory.read(_TILE_OFFSETS if form.has_tiles else _STRIP_OFFSETS)
    counts = directory.read(_TILE_BYTES if form.has_tiles else _STRIP_BYTES)
    what = "tile" if form.has_tiles else "strip"
    number = 0
    for number, size in enumerate(form.list_sizes(directory)):
        if number >= min(len(offsets), len(counts)):
            raise BadFrameError(
                f"image: must be a complete TIFF, got {min(len(offsets), len(counts))} {what}s, too few"
            )
        start, count = int(offsets[number]), int(counts[number])
        if start < 8 or count < 1 or start + count > len(data) or (form.compression == _NONE and count < size):
            raise BadFrameError(
                f"image: must be a complete TIFF, got {len(data)} bytes, {what} {number} at {start} of {count} bytes"
            )
        if not _is_whole(data[start : start + count], size, form.compression):
            raise BadFrameError(f"image: must be a complete TIFF, got {len(data)} bytes, {what} {number} is damaged")
    if not number + 1 == len(offsets) == len(counts):
        raise BadFrameError(f"image: must be a complete TIFF of {number + 1} {what}s, got {len(offsets)}")
    return max(int(offset) + int(count) for offset, count in zip(offsets, counts, strict=True))


def _is_whole(segment: memoryview, size: int, compression: int) -> bool:
    """Whether nothing of it was lost, as far as its compression can tell beyond what libtiff sees for itself."""
    if compression in {_DEFLATE, _OLD_DEFLATE}:  # libtiff stops before the checksum
        inflate = zlib.decompressobj()
        try:
            return len(inflate.decompress(segment, size + 1)) == size and _ends(inflate)
        except zlib.error:
            return False
    if compression == _LZW:  # zeros are codes too, but its end is a code with a one; a byte of padding may follow
        return any(segment[-4:]) and bytes(_MAX_ZEROS) not in bytes(segment)
    return compression == _NONE or _unpacks(segment, size)


def _unpacks(segment: memoryview, size: int) -> bool:
    """Whether PackBits (TIFF 6.0, section 9) gives `size` bytes, no fewer and no more; a byte of padding may follow."""
    at = found = 0
    while found < size and at < len(segment):
        code = segment[at]
        found += code + 1 if code < 128 else 257 - code if code > 128 else 0
        at += code + 2 if code < 128 else 2 if code > 128 else 1
    return found == size and at in {len(segment), len(segment) - 1}


def _ends(inflate: zlib._Decompress) -> bool:
    """Whether the stream's checksum came right after what was read, and was right."""
    return inflate.eof or (not inflate.decompress(inflate.unconsumed_tail, 1) and inflate.eof)


def _rewrite(array: Bytes, directory: Directory, *, is_grey: bool) -> bytes:
    """The file with a directory of the tags we checked, behind the old one, which nothing leads to any more.

    `is_grey`: its indexes are wanted as they are, not what a palette makes of them.
    """
    tags = {tag: directory.read(tag).astype(directory.order + "u4") for tag in _KEPT}
    tags = {tag: values for tag, values in tags.items() if values.size}
    if is_grey:
        tags[_PHOTOMETRIC] = np.array([_BLACK_IS_ZERO], directory.order + "u4")
    start = array.size + array.size % 2
    at = start + 2 + 12 * len(tags) + 4
    entries, lists = [], []
    for tag, values in tags.items():
        is_inline = values.size == 1
        place = values.tobytes() if is_inline else struct.pack(directory.order + "I", at)
        entries.append(struct.pack(directory.order + "HHI", tag, 4, values.size) + place)
        if not is_inline:
            lists.append(values.tobytes())
            at += values.nbytes
    first = (b"II" if directory.order == "<" else b"MM") + struct.pack(directory.order + "HI", 42, start)
    count = struct.pack(directory.order + "H", len(tags))
    return b"".join([first, array.data[8:], bytes(array.size % 2), count, *entries, bytes(4), *lists])


def _decode(content: bytes) -> Pixels:
    try:
        with TiffImagePlugin.TiffImageFile(io.BytesIO(content)) as image:
            pixels = np.asarray(image)
    except _REFUSALS as error:
        fault = f"image: must be a complete TIFF, got {len(content)} bytes that libtiff cannot read: {error}"
        raise BadFrameError(fault) from error
    return np.where(pixels, np.uint8(255), np.uint8(0)) if pixels.dtype == np.bool_ else pixels


def _name(pixels: Pixels, form: _Form) -> tuple[Pixels, PixelFormat, tuple[str, ...]]:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    wanted = np.uint16 if form.bits == 16 else np.uint8
    if channels != form.samples or pixels.shape[:2] != (form.height, form.width) or pixels.dtype.kind != "u":
        raise BadFrameError(f"image: must decode to what its tags say, got {pixels.shape} of {pixels.dtype}")
    assumed: tuple[str, ...] = ()
    if channels in {2, 4}:
        check_alpha(pixels[..., -1])
        pixels = pixels[..., 0] if channels == 2 else pixels[..., :3]
        assumed = ("alpha: opaque, ignored",)
    if form.photometric == _WHITE_IS_ZERO:
        assumed = (*assumed, "values: stored from white to black, inverted")
        if form.bits == 16:  # Pillow turns the others
            pixels = np.uint16(65_535) - pixels
    pixel_format = PixelFormat.RGB8 if form.photometric == _RGB else PixelFormat.MONO8
    pixel_format = PixelFormat.MONO16 if form.bits == 16 else pixel_format
    return np.ascontiguousarray(pixels, dtype=wanted), pixel_format, assumed


def _read_palette(directory: Directory, bits: int) -> Pixels:
    """(n, 3) uint8, RGB; some writers use only the lower half of its 16 bits, as libtiff knows."""
    values = directory.read(_COLOUR_MAP).astype(np.uint16)
    if values.size != 3 * 2**bits:
        raise BadFrameError(f"palette: must have {3 * 2**bits} values, got {values.size}")
    shift = 8 if values.max() > 255 else 0
    return np.ascontiguousarray((values >> shift).astype(np.uint8).reshape(3, -1).T)
