"""Directories of tags: those of a TIFF file, which Exif shares (TIFF 6.0, section 2; Exif 2.32, 4.6.2)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from inspector.errors import BadFrameError

ORIENTATION = 274
_STARTS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
"""Byte order, and whether it is BigTIFF."""
_WHOLE_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
"""numpy's name of each type of tag that holds unsigned whole numbers."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value of each type of tag."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Tags by number, each read when it is asked for.

    Attributes:
        data: the whole file.
        order: of its bytes, as `struct` names it.
        entries: type, number of values and place of each tag.
        next_offset: where the next directory stands; 0: there is none. None: the data end before it is said.
        end: where the directory ends, and what its tags point to within the file.
    """

    data: memoryview
    order: str
    entries: Mapping[int, tuple[int, int, int]]
    next_offset: int | None
    end: int

    def read(self, tag: int) -> np.ndarray[Any, Any]:
        """A tag's values, a view; empty where it is missing or holds no whole numbers.

        Raises:
            BadFrameError: it claims more than the file has.
        """
        type_, count, at = self.entries.get(tag, (0, 0, 0))
        if type_ not in _WHOLE_NUMBERS:
            return np.empty(0, np.uint8)
        dtype = np.dtype(self.order + _WHOLE_NUMBERS[type_])
        if at + count * dtype.itemsize > len(self.data):
            raise BadFrameError(
                f"image: must be a complete TIFF, got {len(self.data)} bytes, tag {tag} lies beyond the end"
            )
        return np.frombuffer(self.data, dtype, count, at)

    def first(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        values = self.read(tag)
        return int(values[0]) if values.size else default


def is_tiff(data: memoryview) -> bool:
    """Whether it starts as a TIFF file does."""
    return bytes(data[:4]) in _STARTS


def read_first(data: memoryview) -> Directory:
    """The first directory of a TIFF file or of Exif data.

    Raises:
        BadFrameError: it does not start so, or claims more than there is.
    """
    order, is_big = _STARTS.get(bytes(data[:4]), ("", False))
    if not order:
        raise BadFrameError(f"image: tags must start like a TIFF, got {bytes(data[:4])!r}")
    try:
        (offset,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
        return read_at(data, order, is_big, offset)
    except (struct.error, OverflowError) as error:
        raise BadFrameError(
            f"image: must be a complete TIFF, got {len(data)} bytes, its tags lie beyond the end"
        ) from error


def count_directories(data: memoryview, first: Directory, limit: int) -> int:
    """How many there are in the file, no further than `limit`: they may lead round in a circle."""
    is_big = bytes(data[:4])[2:4].strip(b"\0") == b"+"
    count, directory = 1, first
    while directory.next_offset and count < limit:
        count += 1
        try:
            directory = read_at(data, first.order, is_big, directory.next_offset)
        except (struct.error, OverflowError):
            break
    return count


def read_at(data: memoryview, order: str, is_big: bool, offset: int) -> Directory:
    """The directory at an offset.

    Raises:
        struct.error, OverflowError: it does not lie within the data.
    """
    entry, size, inline = (order + "HHQ", 20, 8) if is_big else (order + "HHI", 12, 4)
    number = order + ("Q" if is_big else "I")
    (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, offset)
    start = offset + (8 if is_big else 2)
    end = start + count * size
    entries: dict[int, tuple[int, int, int]] = {}
    if end > len(data):
        raise struct.error("past the end")
    # Viewers read Exif that ends here.
    following = struct.unpack_from(number, data, end)[0] if end + inline <= len(data) else None
    for at in range(start, start + count * size, size):
        tag, type_, values = struct.unpack_from(entry, data, at)
        place, taken = at + size - inline, values * _SIZES.get(type_, 0)
        if taken > inline:
            (place,) = struct.unpack_from(number, data, place)
            end = max(end, place + taken) if place + taken <= len(data) else end
        entries[tag] = (type_, values, place)
    return Directory(data, order, entries, following, end + inline)


def read_exif_orientation(exif: memoryview) -> int:
    """What Exif data says of how to turn the picture; 1, upright, where it says nothing or cannot be read.

    Raises:
        BadFrameError: it says so in a type that viewers may read or not.
    """
    if bytes(exif[:6]) == b"Exif\0\0":
        exif = exif[6:]
    try:
        directory = read_first(exif)
    except BadFrameError:
        return 1
    return read_orientation(directory)


def read_orientation(directory: Directory) -> int:
    """The orientation tag (TIFF 6.0, section 8); 1, upright, where there is none.

    Raises:
        BadFrameError: it holds something else than one whole number.
    """
    type_, count, _ = directory.entries.get(ORIENTATION, (3, 1, 0))
    if type_ not in _WHOLE_NUMBERS or count < 1:
        raise BadFrameError(f"orientation: must be one unsigned whole number, got {count} of TIFF type {type_}")
    return directory.first(ORIENTATION, 1)
