"""The station's folder: can be written, has room for what it may keep, and a journal this program understands."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from inspector.cli.check.finding import Finding
from inspector.config import Station
from inspector.errors import JournalError

if TYPE_CHECKING:
    from inspector.journal.mark import Mark


def check_disk(station: Station) -> list[Finding]:
    """Folder, room and journal as they are now. Nothing is written."""
    folder = station.folder
    # Not `Path.exists`, which raises where this user may not enter the folder above.
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        fix = f"make {station.state_dir} writable for the station's user, or choose another folder"
        return [Finding("state_dir", problem=f"{existing}: must be a folder this user can write", fix=fix)]
    return [_check_room(station, folder, existing), _check_limits(station, folder, existing), _check_journal(folder)]


def _check_room(station: Station, folder: Path, existing: Path) -> Finding:
    usage = shutil.disk_usage(existing)
    needed = station.evidence.min_free
    if usage.free < needed:
        problem = (
            f"{existing}: must have at least evidence.min_free ({_show(needed)}) of free space, has {_show(usage.free)}"
        )
        return Finding("state_dir", problem=problem, fix="free some disk space, or choose a folder on another disk")
    return Finding("state_dir", f"{folder}: {_show(usage.free)} free of {_show(usage.total)}")


def _check_limits(station: Station, folder: Path, existing: Path) -> Finding:
    """Whether evidence and journal reach their limits before the disk reaches its."""
    evidence, journal = station.evidence, station.journal
    kept = evidence.max_bytes if evidence.frames != "none" else 0
    limit = kept + (journal.max_bytes or 0)
    room = shutil.disk_usage(existing).free - evidence.min_free
    if limit > room:  # else what is there already need not be counted
        room += _measure(folder)
    if limit > room:
        room = max(room, 0)
        problem = (
            f"together with journal.max_bytes up to {_show(limit)} may be stored, but above "
            f"min_free only {_show(room)} fit"
        )
        fix = (
            f"free some disk space, or lower both to {_show(room)} in total: once the disk is full, "
            "no evidence is stored"
        )
        return Finding("evidence.max_bytes", problem=problem, fix=fix, fatal=False)
    return Finding(
        "evidence.max_bytes", f"together with journal.max_bytes up to {_show(limit)}, {_show(room)} available"
    )


def _measure(folder: Path) -> int:
    """Bytes of all files below; a running daemon removes some meanwhile."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += Path(place, name).lstat().st_size
    return size


def _check_journal(folder: Path) -> Finding:
    from inspector.journal.checking import check_journal
    from inspector.journal.mark import read_mark
    from inspector.journal.reader import read_journal_version
    from inspector.journal.schema import MIGRATIONS

    path = folder / "journal.sqlite"
    try:
        mark = read_mark(path)
        if not path.exists():
            return _describe_absence(path, mark)
        version = read_journal_version(path)
        check_journal(path, mark)
    except (JournalError, sqlite3.Error, OSError) as error:
        fix = "run the check as the station's user; for a damaged or old journal see docs/operator/journal-restore.md"
        problem = str(error) if str(path) in str(error) else f"{path}: {error}"
        return Finding("journal", problem=problem, fix=fix)
    if version < len(MIGRATIONS):
        return Finding("journal", f"{path}: version {version}, the next start upgrades it to version {len(MIGRATIONS)}")
    return Finding("journal", f"{path}: version {version}, readable; for a full check run inspector journal verify")


def _describe_absence(path: Path, mark: Mark | None) -> Finding:
    if mark is None:
        return Finding("journal", f"{path}: none yet")
    problem = f"{path}: must have {mark.head_n} rows, but the file is missing"
    fix = "restore it from a copy; otherwise the station starts a new one and continues above the last numbers used"
    return Finding("journal", problem=problem, fix=fix, fatal=False)


def _show(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
