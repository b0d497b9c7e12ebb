"""Who speaks, and what it says: a result, and the status with each camera's last result for those who join late."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from inspector.service.flow.judges import Judge
from inspector.service.flow.ledger import Outcome
from inspector.service.telemetry.health import Health
from inspector.types import SCHEMA, Result


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks."""

    station: str
    boot_id: str

    def build_result(self, outcome: Outcome, seq: int, judge: Judge | None) -> Result:
        """What is said of an outcome, under this number; `judge` is the camera's, None: it has none."""
        frame = outcome.ticket.frame
        decision = outcome.judgement.decision if outcome.judgement else None
        return Result(
            station=self.station,
            boot_id=self.boot_id,
            seq=seq,
            camera=frame.camera,
            frame_id=frame.frame_id,
            part_id=frame.part_id,
            trigger_id=frame.trigger_id,
            verdict=outcome.verdict,
            reason=outcome.reason,
            score=decision.score if decision else None,
            threshold=judge.threshold if judge else None,
            regions=decision.regions if decision else (),
            captured_utc_ns=frame.captured_utc_ns,
            received_utc_ns=frame.received_utc_ns,
            published_utc_ns=time.time_ns(),
            deadline_ms=outcome.ticket.deadline_ms,
            latency_ms={**outcome.latency_ms, "total": (time.monotonic_ns() - frame.received_monotonic_ns) / 1e6},
            simulated=frame.simulated,
            message=outcome.message,
            pose=outcome.judgement.pose if outcome.judgement else None,
            warn=decision.warn if decision else False,
            **(judge.identity if judge else {}),
        )


class StatusBoard:
    """What the status message says. Results are noted by one thread; any may have it built."""

    def __init__(
        self,
        identity: Identity,
        cameras: Iterable[str],
        *,
        last_seqs: Mapping[str, int],
        last_results: Mapping[str, Mapping[str, Any]],
        queue_depth: Callable[[], int],
        more: Callable[[], Mapping[str, Any]],
        health: Health,
    ) -> None:
        """Make it.

        Args:
            identity: who speaks.
            cameras: those of the station; others may have results from before.
            last_seqs, last_results: each camera's on record, as on the wire.
            queue_depth: frames that wait for the device.
            more: what others add.
            health: of the station.
        """
        self._identity = identity
        # A counter: a frame left open may be of a camera that this station no longer has.
        self._sent = Counter(dict.fromkeys(cameras, 0) | dict(last_seqs))
        self._last = {camera: _compact(result) for camera, result in last_results.items()}
        self._queue_depth = queue_depth
        self._more = more
        self._health = health

    def note(self, result: Result, wire: Mapping[str, Any]) -> None:
        """A result was sent; one answered at its deadline may have overtaken another."""
        if result.seq > self._sent[result.camera]:
            self._sent[result.camera] = result.seq
            self._last[result.camera] = _compact(wire)

    def build(self) -> dict[str, Any]:
        """The message, with each camera's last result less its regions."""
        return {
            "schema": SCHEMA,
            "station": self._identity.station,
            "boot_id": self._identity.boot_id,
            "state": self._health.state.value,
            "lifebit": self._health.lifebit,
            "last_seq": dict(self._sent),
            "last_result": dict(self._last),
            "queue_depth": self._queue_depth(),
            "last_error": self._health.last_error,
            "published_utc_ns": time.time_ns(),
            **self._more(),
        }


def _compact(wire: Mapping[str, Any]) -> dict[str, Any]:
    return {**wire, "regions": [], "replay": True}
