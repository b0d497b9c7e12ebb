"""Who listens to a station in a thread of its own, and the account of its triggers and parts."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, Self

from prometheus_client.parser import text_string_to_metric_families

from inspector.testing.station_process import RunningStation

WAIT_S = 60.0


class Listener:
    """Takes all that a station sends, from before it is entered on."""

    def __init__(self, station: RunningStation) -> None:
        self._in = station.subscribe()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def take(self, topic: str, message: dict[str, Any]) -> None:
        """Called with each message, in the listener's thread."""
        raise NotImplementedError

    def _listen(self) -> None:
        while not self._stop.is_set():
            if self._in.poll(50):
                topic, body = self._in.recv_multipart()
                self.take(topic.decode(), json.loads(body))


def wait_for(heard: Sequence[Any], count: int) -> None:
    """Until so many were heard."""
    deadline = time.monotonic() + WAIT_S
    while len(heard) < count:
        assert time.monotonic() < deadline, (len(heard), heard[-3:])
        time.sleep(0.02)


def read_account(station: RunningStation, what: Literal["trigger", "part"]) -> tuple[float, float]:
    """How many there were, and their results with those open, of one scrape."""
    values: Counter[str] = Counter()
    for family in text_string_to_metric_families(station.get("/metrics")[1]):
        for sample in family.samples:
            values[sample.name] += sample.value
    answered = values[f"inspector_{what}_results_total"] + values[f"inspector_{what}s_open"]
    return values[f"inspector_{what}s_total"], answered
