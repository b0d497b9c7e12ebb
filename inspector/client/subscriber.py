"""The subscriber: what a program that follows a station uses."""

from __future__ import annotations

import errno
import math
import os
import threading
import weakref
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from inspector.client.connections import Connections, read_clock
from inspector.client.events import Event, Verdict
from inspector.client.finals import Ids
from inspector.client.follower import Follower
from inspector.client.keys import ClientKey, load_key
from inspector.client.pump import Pump

_JOIN_S = 10.0
_MAX_WAIT_S = 3600.0  # a lock cannot wait for ever


class SubscriberError(RuntimeError):
    """Raised when a subscriber can read no more: its thread died, or this is a fork of the process that made it."""


class Subscriber:
    """Follows one station. A thread of its own reads at once what comes; all methods may be called from any thread.

    A PASS is judged when it is handed out. It passes only where, at that moment,
    - the heartbeat is there: within `heartbeat_s` a status was published whose lifebit had moved. How long ago that was
      is estimated without trust in equal clocks. After connecting, after a restart of the station, and after each
      silence or pause of this process, statuses must arrive as they are sent for half a second first;
    - it was published within `heartbeat_s`, the time it waited for the user included;
    - the station is READY, RUNNING or DEGRADED. What a station still judges while it stops is in doubt;
    - it was live, of a real part, and kept every rule of the protocol;
    - no other process speaks as this station, and no part that shares an id with it was answered NO_ANSWER.

    A delay that was there from the first message on and never became less cannot be noticed by one who only listens.
    """

    def __init__(
        self,
        results: str,
        *,
        station: str | None = None,
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
            station: its name; messages of others are refused, counted and told as `Foreign`. None: the name in the key
                file, or else the first that speaks, and nothing passes while another one speaks there too.
            requests: its `sockets.requests`; without it what is missed is `Lost` at once.
            cameras: those to hear of, parts among them as `part/NAME`; None: all cameras and parts.
            heartbeat_s: how long the station may be silent or stand still, and how old a PASS may be when it is handed
                out. The station sends a status every 0.4 s: give 1 or more.
            from_seq: camera → the first `seq` wanted, where the place was kept over a restart of the subscriber. Any
                other camera begins with its newest verdict, as a replay.
            accept_simulated: a PASS of a simulated frame passes too, for trying a line out.
            key: the key file that `inspector keys new` wrote, for a station with `security`. It needs the role
                subscriber, and requester where `requests` is given.

        Raises:
            zmq.ZMQError: an endpoint is none.
            KeyFileError: the key file is missing, open to others, or none.
            ValueError: `heartbeat_s` is not above 0 and finite, or the key file is for another station.
        """
        if not 0 < heartbeat_s < math.inf:
            raise ValueError(f"heartbeat_s: must be above 0 and finite, got {heartbeat_s!r}")
        loaded = None if key is None else load_key(key)
        name = _find_station(station, loaded)
        connections = Connections(results, requests, cameras, loaded)
        try:
            self._follower = Follower(
                station=name,
                cameras=cameras,
                heartbeat_s=heartbeat_s,
                from_seq=from_seq or {},
                accept_simulated=accept_simulated,
                ask=connections.ask if connections.has_requests else None,
                now=read_clock(),
            )
            self._pid = os.getpid()
            self._pump = Pump(connections, self._follower)
            self._pump.start()
        except BaseException:
            connections.close()
            raise
        weakref.finalize(self, self._pump.stop)

    @property
    def malformed(self) -> int:
        """Messages that broke the protocol. Nothing passes from one of them to the next sound status."""
        return self._follower.malformed

    @property
    def dropped(self) -> int:
        """Events that nobody fetched in time: 5000 wait. Their verdicts come as replays once there is room."""
        return self._follower.dropped

    @property
    def foreign(self) -> int:
        """Messages of other stations, or of other processes of this one, that were refused."""
        return self._follower.refused

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close everything; nothing lingers. Who waits in `receive` or `wait_for` comes back."""
        if os.getpid() != self._pid:
            return  # the sockets are those of the process that was forked
        self._pump.stop()
        if self._pump is not threading.current_thread():
            self._pump.join(_JOIN_S)

    def __iter__(self) -> Iterator[Event]:
        """Events until it is closed."""
        while (event := self._receive_until_closed()) is not None:
            yield event

    def _receive_until_closed(self) -> Event | None:
        try:
            return self.receive()
        except zmq.ZMQError:
            return None

    def receive(self, timeout_s: float | None = None) -> Event | None:
        """The next event, or None where none came in time. Without a timeout it waits for ever.

        Raises:
            zmq.ZMQError: the subscriber is closed.
            SubscriberError: its thread died, or this is a fork of the process that made it.
        """
        deadline = math.inf if timeout_s is None else read_clock() + timeout_s
        self._refuse_fork()
        with self._pump.changed:
            while True:
                self._refuse_end()
                if event := self._follower.next_event(read_clock()):
                    return event
                if not self._wait(deadline):
                    return None

    def wait_for(
        self,
        camera: str,
        *,
        frame_id: str | None = None,
        part_id: str | None = None,
        trigger_id: str | None = None,
        timeout_s: float,
    ) -> Verdict:
        """The verdict of the frame that has all ids given, or of the part, where `camera` is `part/NAME`; it may have
        come before the call. Other events are kept.

        Give an id that is used once. Where several verdicts wait, one that is not PASS counts. Silence, a lost
        heartbeat, and a PASS that must not let the part through are answered ERROR NO_ANSWER, made here (`local`).
        That is final: no PASS that shares an id with the part ever passes, here or by `receive`, for it could be the
        late one of the part before. PASS never comes after `timeout_s`; with a timeout of 0 it never comes.

        Raises:
            ValueError: no id is given, or `timeout_s` is no number.
            SubscriberError: this is a fork of the process that made it.
        """
        deadline = read_clock() + timeout_s
        ids = (frame_id, part_id, trigger_id)
        if ids == (None, None, None):
            raise ValueError("wait_for: must be called with frame_id, part_id or trigger_id, got none of them")
        if math.isnan(timeout_s):
            raise ValueError(f"wait_for: timeout_s must be a number, got {timeout_s!r}")
        self._refuse_fork()
        with self._pump.changed:
            answer = self._await_answer(camera, ids, deadline)
            if answer.passed and read_clock() > deadline:
                answer = self._follower.give_up(camera, ids, "PASS was received, but not in time", answer.raw)
        return answer

    def _await_answer(self, camera: str, ids: Ids, deadline: float) -> Verdict:
        while True:
            if self._pump.failure is not None:
                return self._follower.give_up(camera, ids, f"the subscriber's thread died: {self._pump.failure!r}")
            if self._is_closed:
                return self._follower.give_up(camera, ids, "the subscriber is closed")
            if answer := self._follower.find_answer(camera, ids, read_clock(), deadline):
                return answer
            self._wait(deadline)

    def _wait(self, deadline: float) -> bool:
        """Until something may have come; False where there is no time left."""
        remaining_s = deadline - read_clock()
        if remaining_s > 0:
            self._pump.changed.wait(min(remaining_s, _MAX_WAIT_S))
        return remaining_s > 0

    @property
    def _is_closed(self) -> bool:
        return self._pump.has_ended and self._pump.failure is None

    def _refuse_end(self) -> None:
        if self._pump.failure is not None:
            raise SubscriberError(f"the subscriber's thread died: {self._pump.failure!r}") from self._pump.failure
        if self._is_closed:
            raise zmq.ZMQError(errno.ENOTSOCK, "the subscriber is closed")

    def _refuse_fork(self) -> None:
        if os.getpid() != self._pid:  # its thread is not here, and its lock may be held for ever
            raise SubscriberError("a subscriber must be used in the process that created it, not in a fork of it")


def _find_station(station: str | None, key: ClientKey | None) -> str | None:
    if key is None:
        return station
    if station not in {None, key.station}:
        raise ValueError(f"station: must match the key file, {key.station!r}, got {station!r}")
    return key.station
