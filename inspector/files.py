"""Files that are written whole or not at all, and read whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from inspector.errors import BadFrameError, InspectorError, RecipeError, UnsettledFileError

_MAX_BYTES = 2**30
_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def write_whole(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write a file, or leave what was there: a full disk or a kill makes no half file.

    Args:
        path: where.
        content: all of it.
        mode: its permissions, whatever the umask; by default those the umask gives.

    Raises:
        InspectorError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        # Made anew, with its mode: nobody may have it open from before it was narrowed, and read what comes later.
        temporary.unlink(missing_ok=True)
        temporary.touch(0o666 if mode is None else mode)
        with temporary.open("wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise InspectorError(f"{path}: cannot be written: {error}") from error


@dataclass(frozen=True, slots=True)
class Stamp:
    """What shows whether a path still leads to the same file, and whether that was written to."""

    mode: int
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


def read_stamp(path: Path | int) -> Stamp:
    """A path, its links followed, or an open descriptor, as it is now.

    Raises:
        OSError: it is not there, or cannot be asked.
    """
    status = os.stat(path)  # noqa: PTH116 (a descriptor too)
    return Stamp(
        status.st_mode, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )  # fmt: skip


def read_whole(path: Path, seen: Stamp | None = None, *, may_have_holes: bool = True) -> bytes:
    """Read a file to which nobody writes meanwhile: never half of it old and half of it new.

    What is no regular file is not opened: a pipe or a device need never end. A change that leaves size and times as
    they are is not seen: through a mapping, on a share that caches times, or within one tick of the file's last change.

    Args:
        path: which file.
        seen: how it looked when it was found; None: however it looks now.
        may_have_holes: whether it may have room that was never written, as one has that was made at its full size.

    Raises:
        OSError: it cannot be read.
        BadFrameError: it is no regular file, is larger than 1 GiB, or has a hole.
        UnsettledFileError: it changed while it was read, or since it was `seen`.
    """
    before = seen or read_stamp(path)
    _refuse(before)
    # NONBLOCK: what was put in the file's place just now may be a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 (no path)
        content = b""
        if read_stamp(descriptor) == before:
            if not may_have_holes:
                _refuse_hole(descriptor, before.size)
            content = file.read(before.size + 1)
        if not before == read_stamp(descriptor) == read_stamp(path) or len(content) != before.size:
            raise UnsettledFileError("file: must not change while it is read")
    return content


def _refuse(stamp: Stamp) -> None:
    if not stat.S_ISREG(stamp.mode):
        kind = _KINDS.get(stat.S_IFMT(stamp.mode), "special file")
        raise BadFrameError(f"file: must be a regular file, got a {kind}")
    if stamp.size > _MAX_BYTES:
        raise BadFrameError(f"file: must be at most {_MAX_BYTES} bytes, got {stamp.size}")


def _refuse_hole(descriptor: int, size: int) -> None:
    hole = size
    with contextlib.suppress(OSError):  # an empty file, or a file system that does not tell
        hole = os.lseek(descriptor, 0, os.SEEK_HOLE)
    os.lseek(descriptor, 0, os.SEEK_SET)
    if hole < size:
        raise BadFrameError(f"file: must be complete, but byte {hole} of {size} is missing")


def compute_sha256(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_sha256(path: Path, expected: str) -> None:
    """Check a file's SHA-256.

    Raises:
        RecipeError: another one, or the file cannot be read.
    """
    try:
        found = compute_sha256(path)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from error
    if found != expected:
        raise RecipeError(f"{path}: altered: sha256 must be {expected}, got {found}")


def read_verified(path: Path, sha256: str) -> bytes:
    """Read a file of a recipe whole; what is returned is what was verified.

    Raises:
        RecipeError: another checksum, or it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise RecipeError(f"{path}: altered: sha256 must be {sha256}, got {found}")
    return content
