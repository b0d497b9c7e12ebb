"""One text serves a flood of scrapes, and each that is written balances."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from inspector.service.flow.ledger import Ledger
from inspector.service.http.exposition import Exposition
from inspector.types import Frame, Reason, Verdict


class Counting:
    """A metric that says how often it was collected, and takes its time."""

    def __init__(self) -> None:
        self.times = 0
        self.costs_s = 0.0
        self.clock: Clock | None = None

    def collect(self) -> Any:
        self.times += 1
        if self.clock is not None:
            self.clock.now_s += self.costs_s
        yield GaugeMetricFamily("times", "How often.", value=self.times)


@pytest.fixture
def counting(registry: CollectorRegistry) -> Counting:
    counting = Counting()
    registry.register(counting)
    counting.times = 0
    return counting


def get(exposition: Exposition, accept_encoding: str = "") -> tuple[dict[str, str], bytes]:
    body, headers = exposition.answer(accept_encoding)
    return dict(headers), body


def read_times(body: bytes) -> float:
    (family,) = (f for f in text_string_to_metric_families(body.decode()) if f.name == "times")
    return family.samples[0].value


class Clock:
    """Both of the clocks that the exposition reads; writing a text takes what `counting` says."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def thread_time(self) -> float:
        return self.now_s


@pytest.fixture
def clock(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("inspector.service.http.exposition.time", clock)
    counting.clock = clock
    return clock


@pytest.mark.parametrize(("costs_s", "serves_s"), [(0.003, 0.1), (0.2, 1.0)])
def test_text_serves_until_it_has_paid_for_itself_but_a_second_at_most(
    registry: CollectorRegistry, counting: Counting, clock: Clock, costs_s: float, serves_s: float
) -> None:
    counting.costs_s = costs_s
    exposition = Exposition(registry)
    assert {read_times(get(exposition)[1]) for _ in range(50)} == {1}
    clock.now_s += serves_s - 0.001
    assert read_times(get(exposition)[1]) == 1
    clock.now_s += 0.002
    assert read_times(get(exposition)[1]) == 2


def test_gzip_is_the_same_text_when_asked_for(registry: CollectorRegistry, counting: Counting, clock: Clock) -> None:
    counting.costs_s = 0.02
    exposition = Exposition(registry)
    plain, text = get(exposition)
    packed, body = get(exposition, "gzip, deflate")
    assert "Content-Encoding" not in plain
    assert packed["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == text
    assert plain["Content-Type"] == packed["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_account_balances_in_each_answer_when_frames_flow(
    registry: CollectorRegistry, whole: Any, ledger: Ledger, make_frame: Callable[..., Frame]
) -> None:
    exposition, done = Exposition(registry), threading.Event()

    def flow() -> None:
        for number in range(3000):
            ticket = ledger.accept(make_frame(f"f{number}"))
            if number % 10:
                ledger.close(ticket, Verdict.PASS, Reason.OK)
        done.set()

    thread = threading.Thread(target=flow)
    thread.start()
    answers = set()
    while not done.is_set():
        answers.add(get(exposition)[1])
    thread.join(10)
    for body in answers:
        values = {
            "inspector_frames_received_total": 0.0,
            "inspector_results_total": 0.0,
            "inspector_frames_in_flight": 0.0,
        }
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                if sample.name in values:
                    values[sample.name] += sample.value
        received, answered, in_flight = values.values()
        assert received == answered + in_flight
