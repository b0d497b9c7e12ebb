"""The keys of each request: one that is missing, or that nobody reads, is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """What a request must have beside `request`, and what it may have."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


KEYS: Mapping[str, Keys] = {
    "status": Keys(),
    "replay": Keys(("camera", "from_seq")),
    "drain": Keys(),
    "recipe": Keys(("action",), ("camera", "recipe", "id", "recipe_sha256")),
    "offline": Keys((), ("camera", "keep")),
    "online": Keys((), ("camera",)),
    "snapshot": Keys(("camera",), ("width",)),
    "live": Keys(("camera",), ("rate_hz", "seconds", "width")),
    "trigger": Keys(("camera", "trigger_id"), ("part_id", "timeout_ms")),
    "announce": Keys(("camera", "trigger_id"), ("part_id", "timeout_ms", "given_utc_ns")),
}


def check_keys(name: str, request: Mapping[str, object]) -> None:
    """See that a request has its keys, and no others: a wrong one would be a wish that is not fulfilled.

    Raises:
        ValueError: a key is missing, or unknown.
    """
    keys = KEYS.get(name, Keys())
    known = ("request", *keys.required, *keys.optional)
    for key in keys.required:
        if key not in request:
            raise ValueError(f"{key}: is missing; {name} takes {list(known)}")
    for key in request:
        if key not in known:
            raise ValueError(f"{key:.80}: must be one of {list(known)}, the keys of {name}")
