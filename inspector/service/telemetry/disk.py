"""Room on a disk. Asking may hang for as long as a mount does: for a sampler's thread."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Bytes; free are those this process may still write."""

    free_bytes: int
    size_bytes: int


def read_disk(path: Path) -> DiskUsage:
    """Of the disk that `path` is on.

    Raises:
        OSError: it cannot be read.
    """
    usage = shutil.disk_usage(path)
    return DiskUsage(usage.free, usage.total)
