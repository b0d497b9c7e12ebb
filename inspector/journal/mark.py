"""How far a journal had come, in a small file beside it: tells one that vanished, was cut or is an older copy."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inspector.errors import InspectorError, JournalError
from inspector.files import write_whole

logger = logging.getLogger(__name__)

MARGIN = 10_000
"""Numbers that a camera may have been given after its mark was written; see `Recorder`, which writes it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The last row of results on record, and the last number that each camera was given, on record or not.

    Attributes:
        accepted_by: who let the station go on with a journal that is older than this mark was.
    """

    head_n: int
    head_hash: bytes
    seqs: Mapping[str, int]
    accepted_by: str | None = None


def find_mark(journal: Path) -> Path:
    """The mark's file of a journal."""
    return journal.with_name(f"{journal.stem}-mark.json")


def read_mark(journal: Path) -> Mark | None:
    """The mark of a journal; None where there is none, or none that makes sense.

    Raises:
        JournalError: it is there, but the disk or its owner does not let it be read.
    """
    path = find_mark(journal)
    try:
        found = json.loads(path.read_bytes())
        seqs = {str(camera): int(seq) for camera, seq in found["seqs"].items()}
        return Mark(int(found["head"]), bytes.fromhex(found["sha256"]), seqs, found.get("accepted_by"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        logger.error("%s: not valid, so it is unknown whether the journal is the latest one: %r", path, error)
        return None


def write_mark(journal: Path, mark: Mark) -> None:
    """Replace the mark of a journal; its folder is made where it is gone.

    Raises:
        JournalError: it cannot be written.
    """
    content = {"head": mark.head_n, "sha256": mark.head_hash.hex(), "seqs": dict(mark.seqs)}
    if mark.accepted_by is not None:
        content["accepted_by"] = mark.accepted_by
    path = find_mark(journal)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content).encode())
    except (OSError, InspectorError) as error:
        raise JournalError(f"journal's mark: {error}") from error
