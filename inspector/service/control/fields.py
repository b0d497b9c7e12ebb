"""What of a station file may change while the station runs. The rest needs a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from inspector.config import Station
from inspector.errors import ConfigError
from inspector.secret import mask_secrets

_MAY_CHANGE = {"overlays", "evidence", "journal", "logging", "buffer", "stop_timeout_s"}
_MAY_CHANGE_OF_CAMERA = {"recipe", "deadline_ms", "max_age_ms", "expected_fps"}


def refuse_fixed_changes(old: Station, new: Station) -> None:
    """See that a running station can become another.

    Raises:
        ConfigError: it cannot without a restart; all fields that stand in the way are named, a line each.
    """
    faults = [
        mask_secrets(f"{field}: cannot change without a restart, is {before!r}, got {after!r}")
        for field, before, after in _compare(_pick_fixed(old), _pick_fixed(new))
    ]
    for name, camera in old.cameras.items():
        if camera.recipe is not None and name in new.cameras and new.cameras[name].recipe is None:
            faults.append(f"cameras.{name}.recipe: cannot be removed without a restart, is {str(camera.recipe)!r}")
    if faults:
        raise ConfigError("\n".join(faults))


def list_changes(old: Station, new: Station) -> list[dict[str, Any]]:
    """Every field whose value differs, with both values, for the record."""
    before, after = (station.model_dump(mode="json", by_alias=True) for station in (old, new))
    return [{"field": field, "old": was, "new": is_} for field, was, is_ in _compare(before, after)]


def _pick_fixed(station: Station) -> dict[str, Any]:
    fields = station.model_dump(mode="json", by_alias=True, exclude=_MAY_CHANGE)
    cameras = {
        name: {field: value for field, value in camera.items() if field not in _MAY_CHANGE_OF_CAMERA}
        for name, camera in fields["cameras"].items()
    }
    return fields | {"cameras": cameras}


def _compare(old: Mapping[str, Any], new: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Fields that differ, as `cameras.top.simulated`, with their values; None where it is not there."""
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _compare(before, after, f"{above}{key}.")
        elif before != after:
            yield f"{above}{key}", before, after
