"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from inspector.errors import InspectorError


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
