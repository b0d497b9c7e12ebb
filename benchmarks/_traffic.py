"""A line at a steady rate, and its account, kept from what was sent and received: the journal is pruned meanwhile."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zmq

from inspector.client.keys import ClientKey
from inspector.config import RECIPE_FILE, Threshold, dump_recipe
from inspector.recipe.opening import open_detector
from inspector.testing.station_process import build_message
from inspector.types import PixelFormat

CAMERA = "top"
LEAST_HW = (160, 192)
DEADLINE_MS = 2000
_LATE_MS = 100.0
"""Beyond the deadline; the daemon allows itself 30 ms to notice one and to answer it."""
_BAD_SHARE = 0.2
_STOP_CHECK_MS = 20
_WINDOW = 4
"""Frames under way while capacity is measured: enough that the device never waits."""


class Account:
    """What is owed and what came. Shared by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting: dict[str, float] = {}  # frame → when it was sent (monotonic, seconds)
        self.verdicts: dict[str, str] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.twice: list[str] = []
        self.undeserved: list[str] = []
        self.late: list[str] = []
        self.owed_to_others = 0
        self.others = 0
        self.last_seq = 0
        self.latencies: list[tuple[float, float]] = []  # arrival (monotonic, seconds), total of what was judged (ms)
        self.round_trips: list[tuple[float, float]] = []  # arrival, and from sending to it (ms)

    @property
    def sent(self) -> int:
        """Frames of known ids."""
        return len(self.waiting) + len(self.verdicts)

    @property
    def received(self) -> int:
        """All messages."""
        return sum(self.counts.values())

    @property
    def missing_seqs(self) -> int:
        """Sequence numbers that no message had; the station is a new one, and begins with 1."""
        return self.last_seq - self.received

    @property
    def is_settled(self) -> bool:
        """Whether all that is owed has come."""
        return not self.waiting and self.others >= self.owed_to_others

    def send(self, frame_id: str) -> None:
        """This frame is about to be sent: it is owed one verdict."""
        with self._lock:
            self.waiting[frame_id] = time.monotonic()

    def withdraw(self, frame_id: str) -> None:
        """It was not sent after all."""
        with self._lock:
            self.waiting.pop(frame_id, None)

    def owe_others(self, count: int = 1) -> None:
        """So many messages are about to be sent that name their camera, and perhaps not their frame."""
        with self._lock:
            self.owed_to_others += count

    def accuse(self, frame_id: str) -> None:
        """A part would have been let through by what is no PASS of its own."""
        with self._lock:
            self.undeserved.append(frame_id)

    def take(self, message: dict[str, Any], at_s: float) -> None:
        """A verdict came."""
        frame_id, verdict = message["frame_id"], message["verdict"]
        with self._lock:
            self.counts[verdict, message["reason"]] += 1
            self.last_seq = max(self.last_seq, message["seq"])
            known = frame_id in self.waiting
            if known:
                self.round_trips.append((at_s, 1e3 * (at_s - self.waiting.pop(frame_id))))
                self.verdicts[frame_id] = verdict
            elif frame_id in self.verdicts:
                self.twice.append(frame_id)
            else:
                self.others += 1
            if verdict == "PASS" and not _deserves_pass(message, known=known):
                self.undeserved.append(frame_id)
            total_ms = message["latency_ms"]["total"]
            if total_ms > message["deadline_ms"] + _LATE_MS:
                self.late.append(frame_id)
            if verdict != "ERROR":
                self.latencies.append((at_s, total_ms))


def _deserves_pass(message: dict[str, Any], *, known: bool) -> bool:
    score, threshold = message["score"], message["threshold"]
    # A damaged JPEG has no checksum: what it decodes to may be good.
    good = (known and message["frame_id"].startswith("good-")) or message["frame_id"].startswith("damaged-")
    return good and None not in {score, threshold} and score <= threshold


@dataclass(frozen=True, slots=True)
class _Order:
    """One frame a period, or as many as are answered."""

    period_s: float | None


class Traffic:
    """A sender and a subscriber in threads of their own, from `with` to its end."""

    def __init__(
        self,
        sockets: dict[str, Any],
        frame_hw: tuple[int, int],
        seed: int,
        *,
        sender_key: ClientKey | None = None,
        subscriber_key: ClientKey | None = None,
    ) -> None:
        """Make it for a running station, with the keys it wants where it wants some."""
        self.account = Account()
        self.bad = make_frame(frame_hw, bad=True)
        self._frames = {"good": make_frame(frame_hw, bad=False), "bad": self.bad}
        self._sockets = sockets
        self._sender_key, self._subscriber_key = sender_key, subscriber_key
        self._random = random.Random(seed)
        self._order: _Order | None = None
        self._burst = (1.0, 0.0)  # times faster, until when
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._subscribed = threading.Event()
        self._stop_asked = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._receive_all, self._send_all)]

    def __enter__(self) -> Traffic:
        """Start; returns once subscribed."""
        for thread in self._threads:
            thread.start()
        if not self._subscribed.wait(20):
            raise SystemExit("the station sends no status")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_asked.set()
        for thread in self._threads:
            thread.join()
        self._context.destroy(linger=0)

    def measure_capacity(self, seconds: float = 6.0) -> float:
        """Frames per second that are answered while a few are always under way."""
        self._order = _Order(None)
        time.sleep(seconds / 3)
        before, started = self.account.received, time.monotonic()
        time.sleep(seconds)
        rate = (self.account.received - before) / (time.monotonic() - started)
        self.pause()
        return rate

    def flow(self, rate: float) -> None:
        """Send so many frames per second from now on."""
        self._order = _Order(1 / rate)

    def burst(self, times: float, seconds: float) -> None:
        """Send so many times faster for a while."""
        self._burst = (times, time.monotonic() + seconds)

    def pause(self) -> None:
        """Send no more."""
        self._order = None

    def wait_settled(self, timeout_s: float = 30.0) -> bool:
        """Until all that is owed has come; False where it does not, in time."""
        limit = time.monotonic() + timeout_s
        while not self.account.is_settled and time.monotonic() < limit:
            time.sleep(0.05)
        return self.account.is_settled

    # ------------------------------------------------------------ in threads

    def _send_all(self) -> None:
        with self._context.socket(zmq.PUSH) as socket:
            socket.linger = 0
            socket.sndhwm = 1
            socket.sndtimeo = _STOP_CHECK_MS
            if self._sender_key is not None:
                self._sender_key.apply(socket)
            socket.connect(self._sockets["frames"])
            number, due = 0, time.monotonic()
            while not self._stop_asked.is_set():
                order, now = self._order, time.monotonic()
                if order is None or (order.period_s is None and len(self.account.waiting) >= _WINDOW) or now < due:
                    time.sleep(0.002)
                    continue
                times, until = self._burst
                period_s = (order.period_s or 0.0) / (times if now < until else 1.0)
                due = max(due + period_s, now - period_s)  # what was held up is not made up for
                self._send(socket, number)
                number += 1

    def _send(self, socket: zmq.Socket[bytes], number: int) -> None:
        kind = "bad" if self._random.random() < _BAD_SHARE else "good"
        frame_id = f"{kind}-{number}"
        parts = build_message(CAMERA, frame_id, self._frames[kind])
        self.account.send(frame_id)
        while not self._stop_asked.is_set():
            with contextlib.suppress(zmq.Again):
                socket.send_multipart(parts)
                return
        self.account.withdraw(frame_id)

    def _receive_all(self) -> None:
        with self._context.socket(zmq.SUB) as socket:
            socket.rcvhwm = 0
            socket.rcvtimeo = _STOP_CHECK_MS
            socket.subscribe(f"result/{CAMERA}")
            socket.subscribe("status")
            if self._subscriber_key is not None:
                self._subscriber_key.apply(socket)
            socket.connect(self._sockets["results"])
            while not self._stop_asked.is_set():
                with contextlib.suppress(zmq.Again):
                    topic, body = socket.recv_multipart()
                    self._subscribed.set()
                    if topic != b"status":
                        self.account.take(json.loads(body), time.monotonic())


def make_frame(frame_hw: tuple[int, int], *, bad: bool) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(H, W, 3) uint8, flat; a bad one has a patch of noise across the corner of four tiles, where it shows most."""
    frame = np.full((*frame_hw, 3), 90, dtype=np.uint8)
    if bad:
        frame[100:140, 100:150] = np.random.default_rng(7).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    return frame


def fit_recipe(folder: Path, frame_hw: tuple[int, int]) -> Path:
    """Have it take frames of this size alone, with the threshold between the good frame's score and the bad one's."""
    detector = open_detector(folder, device=torch.device("cpu"))
    scores = [detector.judge(make_frame(frame_hw, bad=bad), PixelFormat.RGB8).decision.score for bad in (False, True)]
    if not 1.01 * scores[0] < scores[1]:
        raise SystemExit(f"the recipe cannot tell the good frame from the bad one: scores {scores}")
    recipe = detector.recipe
    changes = {
        "preprocessing": recipe.preprocessing.model_copy(update={"frame_hw": frame_hw}),
        "threshold": Threshold(value=sum(scores) / 2, method="manual"),
    }
    (folder / RECIPE_FILE).write_text(dump_recipe(recipe.model_copy(update=changes)), encoding="utf-8")
    return folder
