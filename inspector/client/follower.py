"""All that a subscriber knows and decides. No sockets, no threads, no clock of its own: each call is told the time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from inspector.client.events import (
    Event,
    Foreign,
    HeartbeatBack,
    HeartbeatLost,
    Malformed,
    Refused,
    Restarted,
    StatusChanged,
    Verdict,
)
from inspector.client.finals import Finals, Ids
from inspector.client.gaps import Gaps
from inspector.client.inbox import Arrival, Inbox, Item
from inspector.client.messages import (
    PART,
    MalformedError,
    load,
    parse_status,
    parse_verdict,
    read_camera,
    read_parts,
    read_speaker,
)
from inspector.client.pulse import Pulse
from inspector.client.speakers import Speakers

_PASSING_STATES = frozenset({"READY", "RUNNING", "DEGRADED"})
"""READY: the first frame's verdict comes before the status that says RUNNING. What a stopping station still judges does
not pass: its threads are being ended, and its lifebit stands still."""
_NO_ANSWER_CODE = -1  # the station's are not negative


class Follower:
    """Takes a station's messages and hands out events. PASS is judged when it is handed out.

    Attributes:
        malformed: messages that broke the protocol.
        refusal: why the station does not let the results socket in, as it stands.
    """

    def __init__(
        self,
        *,
        station: str | None,
        cameras: Collection[str] | None,
        heartbeat_s: float,
        from_seq: Mapping[str, int],
        accept_simulated: bool,
        ask: Callable[[bytes, dict[str, Any]], float] | None,
        now: float,
    ) -> None:
        """Start; the arguments are those of `Subscriber`, `ask` is that of `Gaps`."""
        self._cameras = None if cameras is None else frozenset(cameras)
        self._heartbeat_s = heartbeat_s
        self._accept_simulated = accept_simulated
        self._inbox = Inbox(self._give_back)
        self._gaps = Gaps(self._emit, ask, from_seq)
        self._speakers = Speakers(station, heartbeat_s)
        self._finals = Finals()
        self._pulse = Pulse(heartbeat_s)
        self._alive: bool | None = None  # as it was told; None: nothing yet
        self._alive_at = now
        self._boot_id: str | None = None
        self._state: str | None = None
        self._parts: dict[str, list[str]] = {}  # the cameras of each part, as the last status says
        self._told_state: str | None = None
        self._unclear: str | None = None  # the rule that a message broke since the last sound status
        self.refusal: str | None = None
        self.malformed = 0

    @property
    def refused(self) -> int:
        """Messages of other stations or processes."""
        return self._speakers.refused

    @property
    def dropped(self) -> int:
        """Events that nobody fetched in time."""
        return self._inbox.dropped

    # ------------------------------------------------------------ messages

    def take_message(self, parts: list[bytes], now: float, queued_s: float) -> None:
        """A message of the results socket; it waited in its queue for at most `queued_s`."""
        try:
            self._read_message(parts, now, queued_s)
        except MalformedError as error:
            self._note_malformed(error)

    def take_answer(self, parts: list[bytes]) -> None:
        """A message of the requests socket."""
        try:
            if not self._gaps.take_answer(parts[0], load(parts[-1]), self._speakers.station):
                raise MalformedError("replay: must contain only valid results of this station")
        except MalformedError as error:
            self._note_malformed(error)

    def take_refusal(self, socket: str, why: str) -> None:
        """The station does not let a socket in, which is new."""
        self._emit(Refused(socket, why))

    def look(self, now: float) -> None:
        """Notice what did not come. Called often, by who sends the requests."""
        self._judge_heartbeat(now)
        self._gaps.expire(now)
        if self._inbox.has_room:
            self._gaps.fetch_returned()

    def _note_malformed(self, error: MalformedError) -> None:
        self.malformed += 1
        if self._unclear is None:
            self._emit(Malformed(str(error)))
        self._unclear = f"a malformed message was received: {error}"

    def _read_message(self, parts: list[bytes], now: float, queued_s: float) -> None:
        if len(parts) != 2:
            raise MalformedError(f"results: must have two parts, got {len(parts)}")
        topic, message = parts[0].decode(errors="replace"), load(parts[1])
        camera = read_camera(topic)
        if topic != "status" and (camera is None or not self._wants(camera)):
            return
        station, boot_id = read_speaker(message)
        if self._speakers.refuses(station, boot_id, now):
            self._tell_foreign(station, boot_id)
            return
        read = parse_status(message) if camera is None else parse_verdict(message, camera, station)
        self._speakers.accept(station, boot_id, now)
        self._note_boot(boot_id)
        if isinstance(read, Verdict):
            self._take_verdict(read, now)
        else:
            self._take_status(read, now, queued_s)

    def _tell_foreign(self, station: str, boot_id: str) -> None:
        if not self._speakers.is_told(station, boot_id):
            self._emit(Foreign(station, boot_id))

    def _note_boot(self, boot_id: str) -> None:
        if self._boot_id == boot_id:
            return
        if self._boot_id is not None:
            self._emit(Restarted(self._boot_id, boot_id))
        self._boot_id = boot_id
        self._pulse, self._state, self._parts = Pulse(self._heartbeat_s), None, {}

    def _take_verdict(self, verdict: Verdict, now: float) -> None:
        doubt = self._find_doubt(now) or self._unclear or self._find_odd_views(verdict)
        if verdict.simulated and not self._accept_simulated:
            doubt = "the frame is simulated"
        self._gaps.take_verdict(replace(verdict, doubt=doubt))

    def _find_odd_views(self, verdict: Verdict) -> str | None:
        """What is wrong with the views of a part; those of a PASS are distinct, and PASS."""
        if verdict.verdict != "PASS" or not verdict.camera.startswith(PART):
            return None
        cameras = [view["camera"] for view in verdict.raw["views"]]
        expected = self._parts.get(verdict.camera)
        return None if sorted(cameras) == expected else f"the station says its cameras are {expected}, not {cameras}"

    def _take_status(self, status: dict[str, Any], now: float, queued_s: float) -> None:
        if not self._pulse.take_status(status["published_utc_ns"] / 1e9, status["lifebit"], now, queued_s):
            return
        self._unclear = None  # what could not be read shows as a gap before the status's last_seq
        self._state = status["state"]
        self._parts = {f"{PART}{name}": sorted(cameras) for name, cameras in read_parts(status).items()}
        newest = self._read_last_results(status)
        self._judge_heartbeat(now)
        if self._told_state != self._state and (self._pulse.is_alive(now) or self._alive is False):
            self._told_state = self._state
            self._emit(StatusChanged(status["state"], status))
        for camera, seq in status["last_seq"].items():
            if self._wants(camera):
                self._gaps.take_last_seq(camera, status["boot_id"], seq)
        for verdict in newest:
            self._emit(verdict)

    def _read_last_results(self, status: Mapping[str, Any]) -> list[Verdict]:
        """The newest verdict of each camera of which nothing is known yet."""
        newest = []
        for camera, raw in status.get("last_result", {}).items():
            if raw is not None and self._wants(camera) and not self._gaps.knows(camera):
                try:
                    newest.append(parse_verdict(raw, camera, status["station"], replayed=True))
                except MalformedError:  # of an earlier version of the station, say: not worth the whole status
                    self.malformed += 1
        return newest

    def _wants(self, camera: str) -> bool:
        return self._cameras is None or camera in self._cameras

    def _judge_heartbeat(self, now: float) -> None:
        self._alive_at = max(self._alive_at, self._pulse.alive_at)
        if self._pulse.is_alive(now):
            if self._alive is False:
                self._emit(HeartbeatBack())
            self._alive = True
        elif self._alive is not False and now - self._alive_at > self._heartbeat_s:
            self._alive = False
            self._emit(HeartbeatLost(self._pulse.explain_silence(now)))

    def _emit(self, event: Event) -> None:
        if not isinstance(event, Verdict):
            self._inbox.put(event)
            return
        arrival = Arrival(event, self._pulse, self._pulse.alive_at)
        self._finals.tie(event.camera, arrival.ids)
        self._inbox.put(arrival)

    def _give_back(self, item: Item) -> None:
        """It was dropped; a verdict is missing again, and comes as a replay when there is room for it."""
        if isinstance(item, Arrival):
            self._gaps.give_back(item.verdict)

    # ------------------------------------------------------------ what is handed out

    def next_event(self, now: float) -> Event | None:
        """The oldest event that waits; a verdict is judged now."""
        self._judge_heartbeat(now)
        item = self._inbox.take_next()
        return self._judge(item, now) if isinstance(item, Arrival) else item

    def find_answer(self, camera: str, ids: Ids, now: float, deadline: float) -> Verdict | None:
        """The verdict of the frame that has all ids given, or NO_ANSWER; None where it is still to be waited for."""
        self._judge_heartbeat(now)
        if found := [self._judge(arrival, now) for arrival in self._inbox.take_of(camera, ids)]:
            return self._choose(camera, ids, found, is_late=now > deadline)
        if self._alive is False or now >= deadline:
            return self.give_up(
                camera, ids, self._find_doubt(now) or self._unclear or "no verdict was received in time"
            )
        return None

    def give_up(self, camera: str, ids: Ids, why: str, raw: Mapping[str, Any] | None = None) -> Verdict:
        """Answer NO_ANSWER: final for these ids, and for all that belong to the same part."""
        self._finals.close(camera, ids)
        return Verdict(
            camera=camera, seq=0, boot_id=self._boot_id or "", frame_id=ids[0] or "", part_id=ids[1], trigger_id=ids[2],
            verdict="ERROR", reason="NO_ANSWER", reason_code=_NO_ANSWER_CODE, score=None, threshold=None, warn=False,
            simulated=False, replay=False, message=f"made by the subscriber: {why}", doubt=why, local=True,
            raw=raw or {},
        )  # fmt: skip

    def _choose(self, camera: str, ids: Ids, found: list[Verdict], *, is_late: bool) -> Verdict:
        if refused := [verdict for verdict in found if verdict.verdict != "PASS"]:
            return refused[0]
        doubt = found[0].doubt
        if found[0].replay:
            doubt = "it is a replay"
        elif len(found) > 1:
            doubt = f"{len(found)} frames have these ids"
        elif is_late:
            doubt = doubt or "it was not in time"
        return self.give_up(camera, ids, f"PASS was received, but {doubt}", found[0].raw) if doubt else found[0]

    # ------------------------------------------------------------ doubt

    def _judge(self, arrival: Arrival, now: float) -> Verdict:
        """The verdict, with what speaks against it now."""
        verdict = arrival.verdict
        doubt = None if verdict.replay else verdict.doubt or self._find_doubt(now) or self._find_age(arrival, now)
        if doubt is None and self._finals.holds(verdict.camera, arrival.ids):
            doubt = "it shares an id with a part that was answered NO_ANSWER"
        return verdict if doubt == verdict.doubt else replace(verdict, doubt=doubt)

    def _find_age(self, arrival: Arrival, now: float) -> str | None:
        if arrival.pulse is not self._pulse:
            return "the station has restarted since then"
        age_s = arrival.pulse.compute_age(arrival.verdict.raw["published_utc_ns"] / 1e9, now)
        if age_s > self._heartbeat_s:
            return f"it is {age_s:.1f} s old"
        # Whatever the station's clock does: it left after the last sign of life that came before it.
        if now - arrival.alive_at > self._heartbeat_s:
            return f"it may be {now - arrival.alive_at:.1f} s old"
        return None

    def _find_doubt(self, now: float) -> str | None:
        """What speaks against any verdict now."""
        if not self._pulse.is_alive(now):
            return self.refusal or ("the heartbeat is lost" if self._alive is False else "no heartbeat yet")
        if doubt := self._speakers.find_doubt(now):
            return doubt
        if self._state not in _PASSING_STATES:
            return f"the station is in {self._state}"
        return None
