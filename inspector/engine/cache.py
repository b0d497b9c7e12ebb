"""Compiled artefacts on disk: a folder per recipe, machine and library versions, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from inspector.errors import RecipeError
from inspector.files import compute_sha256, read_verified

logger = logging.getLogger(__name__)

_MANIFEST = "sha256.json"
_KEEP_S = 30 * 24 * 3600


def find_user_cache() -> Path:
    """Where commands keep compiled artefacts: $XDG_CACHE_HOME/inspector, ~/.cache/inspector by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inspector"


def compute_key(facts: dict[str, object]) -> str:
    """The name of a folder: whatever of `facts` or of this machine is another gives another one."""
    text = json.dumps(facts | {"machine": platform.machine()}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


Files = Mapping[str, bytes]
"""What a folder holds, by name: verified, and from then on only in memory."""


def has(cache: Path, key: str) -> bool:
    """Whether the folder of `key` is there, as it was written."""
    return _read(cache / key) is not None


def fetch(cache: Path, key: str, make: Callable[[Path], None]) -> Files | None:
    """The files of `key`, made by `make` in an empty folder where they are not there or not as they were written.

    A cache that cannot be written costs time at the next start, nothing else: then None.
    """
    folder = cache / key
    try:
        if (files := _read(folder)) is not None:
            with contextlib.suppress(OSError):  # another user's, or on a disk that is read only
                os.utime(folder)
            return files
        shutil.rmtree(folder, ignore_errors=True)
        _write(folder, make)
        _drop_longest_unused(cache)
        return _read(folder)
    except OSError as error:
        logger.warning("%s: compiled artefacts cannot be stored, the next start will compile again: %s", cache, error)
        return None


def _read(folder: Path) -> Files | None:
    manifest = folder / _MANIFEST
    if not manifest.exists():
        return None
    try:
        sums = json.loads(manifest.read_text(encoding="utf-8"))
        if not isinstance(sums, dict) or not sums:
            raise ValueError(f"must name files, got {sums!r}")
        return {name: read_verified(folder / name, sha256) for name, sha256 in sums.items()}
    except (OSError, ValueError, RecipeError) as error:
        logger.warning("%s: changed since it was written, created again: %s", folder, error)
        return None


def _write(folder: Path, make: Callable[[Path], None]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        make(new)
        sums = {path.name: compute_sha256(path) for path in sorted(new.iterdir())}
        (new / _MANIFEST).write_text(json.dumps(sums), encoding="utf-8")
        try:
            new.rename(folder)
        except OSError:
            if _read(folder) is None:
                raise
            # Another process was faster, and may be reading its own just now.
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _drop_longest_unused(cache: Path) -> None:
    """One at most for each that is made: a clock that is years ahead must not take what others will start with."""
    ours = (
        folder
        for folder in cache.iterdir()  # torch.compile keeps its own there
        if (folder / _MANIFEST).is_file() or folder.name.startswith(".new-")
    )
    used, folder = min((folder.stat().st_mtime, folder) for folder in ours)
    if used < time.time() - _KEEP_S:
        shutil.rmtree(folder, ignore_errors=True)
