"""The subscriber: reads results, status and replays, watches the heartbeat, and says which PASS counts."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from inspector.client.events import Event, HeartbeatBack, HeartbeatLost, Refused, Restarted, StatusChanged, Verdict
from inspector.client.gaps import Gaps
from inspector.client.handshakes import Handshakes
from inspector.client.keys import load_key
from inspector.client.messages import MalformedError, load, parse_status, parse_verdict

_RECEIVE_HIGH_WATER_MARK = 20_000
_MAX_MESSAGE_BYTES = 64 << 20
_REPLAY_TIMEOUT_S = 2.0  # for each page
_MAX_BURST = 500  # messages between two looks at the clock; a live station sends a status among so many
_MAX_EVENTS = 5000  # more than a burst and a page of replay make, so that only `wait_for` ever drops some
_MAX_UNANSWERED = 1000
_NO_ANSWER_CODE = -1  # the station's are not negative

Ids = tuple[str | None, str | None, str | None]
"""frame_id, part_id, trigger_id."""


class Subscriber:
    """Reads a station's results, for one thread. Nothing is read, and no clock looked at, but in its methods.

    Attributes:
        malformed: messages that broke the protocol. Nothing passes from one of them to the next sound status.
        dropped: events that nobody fetched with `receive` while `wait_for` collected them.
    """

    def __init__(
        self,
        results: str,
        *,
        requests: str | None = None,
        cameras: Collection[str] | None = None,
        heartbeat_s: float = 2.0,
        from_seq: Mapping[str, int] | None = None,
        accept_simulated: bool = False,
        key: Path | str | None = None,
    ) -> None:
        """Connect; a station that is not there yet is waited for.

        Args:
            results: the station's `sockets.results`.
            requests: its `sockets.requests`; without it what is missed is `Lost` at once.
            cameras: those to hear of; None: all.
            heartbeat_s: how long the station may be silent or stand still; it sends a status every half second.
            from_seq: camera → the first `seq` wanted, where the place was kept over a restart of the subscriber. Any
                other camera begins with its newest verdict, as a replay.
            accept_simulated: a PASS of a simulated frame passes too, for trying a line out.
            key: the key file that `inspector keys new` wrote, for a station with `security`. It needs the role
                subscriber, and requester where `requests` is given.

        Raises:
            zmq.ZMQError: an endpoint is none.
            KeyFileError: the key file is missing, open to others, or none.
        """
        self._key = None if key is None else load_key(key)
        self._cameras = None if cameras is None else frozenset(cameras)
        self._heartbeat_s = heartbeat_s
        self._accept_simulated = accept_simulated
        self._events: deque[Event] = deque()
        self._unanswered: deque[tuple[str, Ids]] = deque(maxlen=_MAX_UNANSWERED)
        self._boot_id: str | None = None
        self._state: str | None = None
        self._lifebit: int | None = None
        self._alive: bool | None = None  # None before the first status
        self._status_at = self._moved_at = time.monotonic()
        self._unclear = False  # a malformed message came since the last sound status
        self.malformed = 0
        self.dropped = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._handshakes: dict[str, Handshakes] = {}
        self._results = self._open(zmq.SUB, results, "results")
        self._requests = None if requests is None else self._open(zmq.DEALER, requests, "requests")
        self._gaps = Gaps(self._emit, self._ask if self._requests else None, from_seq or {})
        for topic in ["status", *(["result/"] if cameras is None else [f"result/{name}" for name in cameras])]:
            self._results.subscribe(topic)

    def _open(self, kind: int, endpoint: str, name: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.rcvhwm = _RECEIVE_HIGH_WATER_MARK
        socket.maxmsgsize = _MAX_MESSAGE_BYTES
        socket.heartbeat_ivl, socket.heartbeat_timeout = 1000, 3000  # a pulled cable is noticed, and connected again
        if self._key is not None:
            self._key.apply(socket)
        try:
            watch = Handshakes(self._context, socket, endpoint, has_key=self._key is not None)
        except zmq.ZMQError:
            self.close()
            raise
        self._handshakes[name] = watch
        for each in (socket, watch.monitor):
            self._poller.register(each, zmq.POLLIN)
        return socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close everything; nothing lingers."""
        for watch in self._handshakes.values():
            watch.close()
        self._context.destroy(linger=0)

    def __iter__(self) -> Iterator[Event]:
        """Events until it is closed."""
        while not self._results.closed:
            event = self.receive()
            if event is not None:
                yield event

    def receive(self, timeout_s: float | None = None) -> Event | None:
        """The next event, or None where none came in time. Without a timeout it waits for ever.

        Raises:
            zmq.ZMQError: the subscriber is closed.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self._events:
            remaining_s = deadline - time.monotonic()
            self._pump(remaining_s)
            if remaining_s <= 0:
                break
        return self._events.popleft() if self._events else None

    def wait_for(
        self,
        camera: str,
        *,
        frame_id: str | None = None,
        part_id: str | None = None,
        trigger_id: str | None = None,
        timeout_s: float,
    ) -> Verdict:
        """The verdict of the frame that has all ids given; it may have come before the call. Other events are kept.

        Give an id that is used once. Where several verdicts wait, one that is not PASS counts. Silence, a lost
        heartbeat, and a PASS that must not let the part through are answered ERROR NO_ANSWER, made here (`local`).
        That is final: a PASS for the same ids does not pass later, for it could be the late one of the part before.

        Raises:
            ValueError: no id is given.
        """
        ids = (frame_id, part_id, trigger_id)
        if ids == (None, None, None):
            raise ValueError("wait_for: must be given frame_id, part_id or trigger_id, got none of them")
        deadline = time.monotonic() + timeout_s
        self._pump(0)
        while not (found := [event for event in self._events if _is_of(event, camera, ids)]):
            remaining_s = deadline - time.monotonic()
            if self._alive is False or remaining_s <= 0:
                return self._build_no_answer(camera, ids, self._find_doubt() or f"no verdict within {timeout_s} s")
            self._pump(remaining_s)
        self._events = deque(event for event in self._events if event not in found)
        return self._choose(camera, ids, [event for event in found if isinstance(event, Verdict)])

    def _choose(self, camera: str, ids: Ids, found: list[Verdict]) -> Verdict:
        if refused := [verdict for verdict in found if verdict.verdict != "PASS"]:
            return refused[0]
        doubt = found[0].doubt or self._find_doubt()
        if found[0].replay:
            doubt = "it is a replay"
        elif len(found) > 1:
            doubt = f"{len(found)} frames have these ids"
        elif (camera, ids) in self._unanswered:
            doubt = "these ids were answered NO_ANSWER before"
        if doubt:
            return self._build_no_answer(camera, ids, f"PASS came, but {doubt}", found[0].raw)
        return found[0]

    def _build_no_answer(self, camera: str, ids: Ids, why: str, raw: Mapping[str, Any] | None = None) -> Verdict:
        self._unanswered.append((camera, ids))
        return Verdict(
            camera=camera, seq=0, boot_id=self._boot_id or "", frame_id=ids[0] or "", part_id=ids[1], trigger_id=ids[2],
            verdict="ERROR", reason="NO_ANSWER", reason_code=_NO_ANSWER_CODE, score=None, threshold=None, warn=False,
            simulated=False, replay=False, message=f"made by the subscriber: {why}", doubt=why, local=True,
            raw=raw or {},
        )  # fmt: skip

    def _pump(self, wait_s: float) -> None:
        """Read what is there, after at most `wait_s`; then look at the clock."""
        timers = self._gaps.deadlines()
        if self._alive is not False:
            timers.append(self._moved_at + self._heartbeat_s)
        wait_s = min([wait_s, 60.0, *(at - time.monotonic() for at in timers)])
        self._poller.poll(math.ceil(max(0.0, wait_s) * 1000))
        for name, watch in self._handshakes.items():
            if why := watch.read():
                self._emit(Refused(name, why))
        if self._requests and (parts := _receive_parts(self._requests)):
            self._read(self._read_answer, parts)
        for _ in range(_MAX_BURST):  # before the clock: after a while away, the statuses of that while still wait here
            if not (parts := _receive_parts(self._results)):
                break
            self._read(self._read_message, parts)
        self._judge_heartbeat(time.monotonic())
        self._gaps.expire(time.monotonic())

    def _read(self, read: Callable[[list[bytes]], None], parts: list[bytes]) -> None:
        try:
            read(parts)
        except MalformedError:
            self.malformed += 1
            self._unclear = True

    def _read_message(self, parts: list[bytes]) -> None:
        if len(parts) != 2:
            raise MalformedError(f"results: must come in two parts, got {len(parts)}")
        topic = parts[0].decode(errors="replace")
        if topic == "status":
            self._read_status(parse_status(parts[1]))
        elif topic.startswith("result/") and self._wants(camera := topic.removeprefix("result/")):
            verdict = parse_verdict(load(parts[1]), camera)
            self._note_boot(verdict.boot_id)
            doubt = self._find_doubt()
            if verdict.simulated and not self._accept_simulated:
                doubt = "the frame is simulated"
            self._gaps.take_verdict(replace(verdict, doubt=doubt))

    def _read_answer(self, parts: list[bytes]) -> None:
        if not self._gaps.take_answer(parts[0], load(parts[-1])):
            raise MalformedError("replay: holds what is no result")

    def _read_status(self, status: dict[str, Any]) -> None:
        newest = []
        for camera, raw in status.get("last_result", {}).items():
            if raw is not None and self._wants(camera) and not self._gaps.knows(camera):
                try:
                    newest.append(parse_verdict(raw, camera, replayed=True))
                except MalformedError:  # of an earlier version of the station, say: not worth the whole status
                    self.malformed += 1
        moved = (status["boot_id"], status["lifebit"]) != (self._boot_id, self._lifebit)
        self._note_boot(status["boot_id"])
        self._note_life(status, moved=moved)
        for camera, seq in status["last_seq"].items():
            if self._wants(camera):
                self._gaps.take_last_seq(camera, status["boot_id"], seq)
        for verdict in newest:
            self._emit(verdict)

    def _note_boot(self, boot_id: str) -> None:
        if self._boot_id is not None and self._boot_id != boot_id:
            self._emit(Restarted(self._boot_id, boot_id))
        self._boot_id = boot_id

    def _note_life(self, status: dict[str, Any], *, moved: bool) -> None:
        self._unclear = False  # what could not be read shows as a gap before the status's last_seq
        self._lifebit = status["lifebit"]
        self._status_at = time.monotonic()
        if moved:
            self._moved_at = self._status_at
            if self._alive is False:
                self._emit(HeartbeatBack())
            self._alive = True
        if self._state != status["state"]:
            self._state = status["state"]
            self._emit(StatusChanged(status["state"], status))

    def _judge_heartbeat(self, now: float) -> None:
        if self._alive is not False and now - self._moved_at > self._heartbeat_s:
            self._alive = False
            silent = now - self._status_at > self._heartbeat_s
            self._emit(HeartbeatLost("no status" if silent else "the lifebit stands still"))

    def _find_doubt(self) -> str | None:
        if not self._alive:
            silence = "no status came yet" if self._alive is None else "the heartbeat is lost"
            return self._handshakes["results"].refusal or silence
        if self._state == "FAULT":
            return "the station is in FAULT"
        return "a malformed message came" if self._unclear else None

    def _wants(self, camera: str) -> bool:
        return self._cameras is None or camera in self._cameras

    def _ask(self, token: bytes, request: dict[str, Any]) -> float:
        """Send a request; the station gives its envelope, and so the token, back with the answer."""
        if self._requests:
            with contextlib.suppress(zmq.Again):  # as good as unanswered
                self._requests.send_multipart([token, b"", json.dumps(request).encode()], flags=zmq.DONTWAIT)
        return time.monotonic() + _REPLAY_TIMEOUT_S

    def _emit(self, event: Event) -> None:
        if len(self._events) >= _MAX_EVENTS:
            self._events.popleft()
            self.dropped += 1
        self._events.append(event)


def _receive_parts(socket: zmq.Socket[bytes]) -> list[bytes] | None:
    try:
        return socket.recv_multipart(zmq.DONTWAIT)
    except zmq.Again:
        return None


def _is_of(event: Event, camera: str, ids: Ids) -> bool:
    if not isinstance(event, Verdict) or event.camera != camera:
        return False
    theirs = (event.frame_id, event.part_id, event.trigger_id)
    return all(wanted in {None, given} for wanted, given in zip(ids, theirs, strict=True))
