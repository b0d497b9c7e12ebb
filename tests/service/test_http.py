"""What a scraper and a supervisor get over HTTP."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from inspector.config import Http
from inspector.errors import ConfigError
from inspector.service.health import Health, State
from inspector.service.http import HttpThread
from inspector.service.metrics import Metrics

Launch = Callable[[Any], Any]


Make = Callable[..., HttpThread]


@pytest.fixture
def make(registry: CollectorRegistry, health: Health, metrics: Metrics) -> Make:
    """A server that is bound, on a free port unless `http` names one, and not started."""
    return lambda **http: HttpThread(Http(**{"port": 0} | http), registry=registry, health=health, metrics=metrics)


@pytest.fixture
def server(launch: Launch, make: Make) -> HttpThread:
    return launch(make())


def get(server: HttpThread, path: str) -> tuple[int, str, str]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


def test_metrics_are_served_from_the_registry_when_scraped(server: HttpThread, metrics: Metrics) -> None:
    metrics.tiles.inc(12)
    status, kind, body = get(server, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert "\ninspector_tiles_total 12.0\n" in body


@pytest.mark.parametrize(
    ("state", "live", "ready"),
    [(State.STARTING, 200, 503), (State.READY, 200, 200), (State.RUNNING, 200, 200), (State.STOPPING, 200, 503)],
)
def test_live_and_ready_tell_the_state_when_asked(
    server: HttpThread, health: Health, bring: Callable[..., None], state: State, live: int, ready: int
) -> None:
    bring(health, state)
    assert get(server, "/live") == (live, "text/plain; charset=utf-8", f"{state.value}\n")
    assert get(server, "/ready") == (ready, "text/plain; charset=utf-8", f"{state.value}\n")


def test_ready_names_the_component_when_one_has_a_problem(server: HttpThread, running: Health) -> None:
    running.report("journal", "disk full – 0 bytes")
    assert get(server, "/live")[0] == 200
    status, _, body = get(server, "/ready")
    assert (status, body) == (503, "DEGRADED: journal: disk full – 0 bytes\n")


def test_neither_live_nor_ready_when_at_fault(server: HttpThread, health: Health) -> None:
    health.fault("device", "CUDA error")
    for path in ("/live", "/ready"):
        status, _, body = get(server, path)
        assert (status, body) == (503, "FAULT: device: CUDA error\n")


@pytest.mark.parametrize("path", ["/", "/nowhere", "/metrics/", "/live/x"])
def test_other_paths_are_not_found_and_say_what_is_when_asked(server: HttpThread, path: str) -> None:
    assert get(server, path) == (404, "text/plain", "/metrics /live /ready\n")


def test_others_are_served_when_a_client_says_nothing(server: HttpThread, health: Health) -> None:
    with socket.create_connection(("127.0.0.1", server.port)):
        health.enter(State.READY)
        assert get(server, "/ready")[0] == 200


def test_requests_leave_no_line_when_served(server: HttpThread, capfd: pytest.CaptureFixture[str]) -> None:
    get(server, "/metrics")
    get(server, "/nowhere")
    assert capfd.readouterr() == ("", "")


def test_port_in_use_is_a_config_error_naming_it_when_bound(make: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        rule = f"http: must be an address this process can bind, got 127.0.0.1:{port}: "
        with pytest.raises(ConfigError, match=rule):
            make(port=port)


def test_port_is_free_again_when_stopped(server: HttpThread, make: Make, end: Callable[..., None]) -> None:
    end(server)
    again = make(port=server.port)
    assert again.port == server.port
    again.stop()


def test_stop_releases_the_port_when_it_was_never_started(make: Make) -> None:
    server = make()
    server.stop()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", server.port))


def test_connections_are_held_when_a_burst_comes_faster_than_they_are_accepted(make: Make) -> None:
    server = make()  # not started: it accepts none
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        for _ in range(100):
            # Where none is free the kernel asks again after a second; on loopback the others take no time.
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=0.9))
