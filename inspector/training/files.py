"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from inspector.errors import InspectorError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or leave what was there: a full disk or a kill makes no half file.

    Raises:
        InspectorError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InspectorError(f"{path}: cannot be written: {error}") from error
