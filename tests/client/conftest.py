"""What the tests of the client share: a made-up station, and subscribers of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from inspector.client import Event, StatusChanged, Subscriber, pulse
from inspector.testing.fake_station import LAST, WAIT_S, Answers, Station


@pytest.fixture
def station(context: zmq.Context[zmq.Socket[bytes]]) -> Station:
    return Station(context)


@pytest.fixture
def make_subscriber(station: Station, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Subscriber]]:
    """A subscriber whose subscriptions have arrived. No heartbeat is missed in a test but where it says so.

    A tenth of a second of statuses establishes it: what takes longer is tested without sockets.
    """
    made: list[Subscriber] = []
    monkeypatch.setattr(pulse, "_SPAN_S", 0.1)

    def make(**options: Any) -> Subscriber:
        made.append(
            Subscriber(
                station.results, **{"station": "press-3", "requests": station.requests, "heartbeat_s": 60.0} | options
            )
        )
        station.join(1 + len(options.get("cameras") or [""]))
        return made[-1]

    yield make
    for subscriber in made:
        subscriber.close()


@pytest.fixture
def collect(station: Station) -> Callable[[Subscriber], list[Event]]:
    """Every event of what was published so far."""

    def collect(subscriber: Subscriber) -> list[Event]:
        events = station.settle(subscriber, state=LAST)
        while event := subscriber.receive(0.05):  # what that status itself brought to light
            events.append(event)
        station.status()
        back = subscriber.receive(WAIT_S)
        assert isinstance(back, StatusChanged)
        return [event for event in events if not isinstance(event, StatusChanged)]

    return collect


@pytest.fixture
def subscriber(station: Station, make_subscriber: Callable[..., Subscriber]) -> Subscriber:
    """One that knows of a running station with ten verdicts of camera `top` behind it."""
    made = make_subscriber()
    station.last_seq["top"] = 10
    assert len(station.settle(made)) == 1
    return made


@pytest.fixture
def answers(station: Station) -> Answers:
    return Answers(station)
