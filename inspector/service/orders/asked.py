"""What a request to trigger or to announce says, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inspector.sources.wire import MAX_TEXT, read_text

MAX_TIMEOUT_MS = 600_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A trigger as it was asked for.

    Attributes:
        cameras: one, or a group; each of the station, none twice.
        trigger_id: of all of them.
        part_id: for their verdicts.
        timeout_ms: how long each frame may take to come; None: its camera's deadline.
        given_utc_ns: when its signal was given, by the clock that the camera has too; None: it is to come.
    """

    cameras: tuple[str, ...]
    trigger_id: str
    part_id: str | None
    timeout_ms: int | None
    given_utc_ns: int | None


def read_asked(request: Mapping[str, Any], cameras: list[str]) -> Asked:
    """What a request says; `cameras` are the station's.

    Raises:
        ValueError: a field that breaks its rule.
    """
    timeout_ms = request.get("timeout_ms")
    if "timeout_ms" in request and (type(timeout_ms) is not int or not 1 <= timeout_ms <= MAX_TIMEOUT_MS):
        raise ValueError(f"timeout_ms: must be a whole number from 1 to {MAX_TIMEOUT_MS}, got {timeout_ms!r:.80}")
    given_utc_ns = request.get("given_utc_ns")
    if "given_utc_ns" in request and (type(given_utc_ns) is not int or not 0 < given_utc_ns < 2**63):
        raise ValueError(f"given_utc_ns: must be a whole number of nanoseconds since 1970, got {given_utc_ns!r:.80}")
    named = _read_cameras(request.get("camera"), cameras)
    if given_utc_ns is not None and len(named) > 1:
        raise ValueError("given_utc_ns: must be told of one camera at a time: its frame may be here already")
    return Asked(
        named,
        _read_id(request, "trigger_id"),
        None if request.get("part_id") is None else _read_id(request, "part_id"),
        timeout_ms,
        given_utc_ns,
    )


def _read_cameras(named: object, cameras: list[str]) -> tuple[str, ...]:
    names = named if isinstance(named, list) else [named]
    for name in names:
        if name not in cameras:  # a list: others also ask for what cannot be hashed
            raise ValueError(f"camera: must be one of {cameras}, or a list of such, got {name!r:.80}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"camera: a list must name at least one camera, and none twice, got {named!r:.80}")
    return tuple(names)


def _read_id(request: Mapping[str, Any], key: str) -> str:
    text = read_text(request.get(key))
    if text is None:
        raise ValueError(f"{key}: must be text of 1 to {MAX_TEXT} characters, or a whole number, "
                         f"got {request.get(key)!r:.80}")  # fmt: skip
    return text
