"""What a subscriber is told: frozen, slotted dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """The station's word on one frame; the fields are those of the wire, all of them are in `raw`.

    Attributes:
        doubt: why it must not let a part through, whatever it says; None where nothing spoke against it when it was
            handed out.
        local: made by this subscriber, not by the station.
    """

    camera: str
    seq: int
    boot_id: str
    frame_id: str
    part_id: str | None
    trigger_id: str | None
    verdict: str
    reason: str
    reason_code: int
    score: float | None
    threshold: float | None
    warn: bool
    simulated: bool
    replay: bool
    message: str | None
    doubt: str | None = None
    local: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether the part may be let through: a PASS without doubt, neither replayed nor made locally."""
        return self.verdict == "PASS" and self.doubt is None and not self.replay and not self.local


@dataclass(frozen=True, slots=True)
class Gap:
    """Verdicts of one camera did not arrive, both ends included. They come as replays, or are told as `Lost`."""

    camera: str
    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Verdicts of one camera that will not come any more, both ends included."""

    camera: str
    first_seq: int
    last_seq: int
    why: str


@dataclass(frozen=True, slots=True)
class HeartbeatLost:
    """The station is silent, stands still, or is heard too late: until `HeartbeatBack` nothing passes."""

    why: str


@dataclass(frozen=True, slots=True)
class HeartbeatBack:
    """The station makes progress again, and is heard without delay."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """The station has restarted."""

    old_boot_id: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The station's state changed (or is known now); `status` is the whole message.

    The first one of a process comes when its heartbeat is established, up to a second after its first status: from then
    on its PASS passes.
    """

    state: str
    status: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The station does not let this subscriber in; told once, and tried again for ever.

    Attributes:
        socket: results or requests.
    """

    socket: str
    why: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message broke the protocol; it counts for nothing. Told once until the next sound status.

    Attributes:
        why: field, rule and value received.
    """

    why: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """Another station speaks here, or another process of the same name. It is refused; told once for each process."""

    station: str
    boot_id: str


Event = Verdict | Gap | Lost | HeartbeatLost | HeartbeatBack | Restarted | StatusChanged | Refused | Malformed | Foreign
