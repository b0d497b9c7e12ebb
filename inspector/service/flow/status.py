"""Who speaks, and what it says: a result, and the status with each camera's last result for those who join late."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from inspector.config import Part
from inspector.service.flow.judges import Judge
from inspector.service.flow.ledger import Outcome
from inspector.service.orders.deciding import Decided
from inspector.service.telemetry.health import Health
from inspector.sources.report import CameraReport
from inspector.types import SCHEMA, Result, Verdict

_OF_LEAD = ("score", "threshold", "recipe_id", "recipe_sha256", "model_sha256")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks."""

    station: str
    boot_id: str

    def build_result(self, outcome: Outcome, seq: int, judge: Judge | None) -> Result:
        """What is said of an outcome, under this number; `judge` is the camera's, None: it has none."""
        frame = outcome.ticket.frame
        decision = outcome.judgement.decision if outcome.judgement else None
        result = Result(
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
            web=frame.web,
            **(judge.identity if judge else {}),
        )
        return result if outcome.part is None else _add_views(result, outcome.part)


def _add_views(result: Result, part: Decided) -> Result:
    """What a part's views say; a PASS or FAIL has score, threshold and recipe of the one that is nearest to a FAIL."""
    lead = None if result.verdict is Verdict.ERROR else part.lead
    said: dict[str, Any] = {} if lead is None else {name: getattr(lead, name) for name in _OF_LEAD}
    part_id = next((frame.part_id for frame in part.frames if frame.part_id is not None), None)
    return replace(result, part_id=part_id, views=part.views, simulated=part.is_simulated, warn=part.warns, **said)


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


def describe_parts(parts: Mapping[str, Part]) -> dict[str, Any]:
    """What the status says of the parts that several cameras see."""
    return {"parts": {name: part.model_dump(mode="json") for name, part in parts.items()}}


def describe_sources(reports: Mapping[str, CameraReport]) -> dict[str, Any]:
    """For the status: each camera as its source last found it, with every setting written and read back."""
    return {"sources": {camera: asdict(each) for camera, each in reports.items()}}


def _compact(wire: Mapping[str, Any]) -> dict[str, Any]:
    return {**wire, "regions": [], "replay": True}
